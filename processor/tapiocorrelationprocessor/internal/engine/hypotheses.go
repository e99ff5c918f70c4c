package engine

import (
	"slices"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// hypothesis makes a hypothesis of an event and gives it all that is known.
func (e *Engine) hypothesis(p *pattern.Pattern, o *detect.Occurrence, addresses ...record.EntityID) *explain.Hypothesis {
	h := explain.New(e.graph, p, explain.Cause{
		Event: o.Name, Time: o.Time, Entity: o.Subject, Attributes: o.Detail.Attrs, Occurrence: o,
	}, addresses...)
	e.offerKnown(h)
	return h
}

// offerKnown offers a new hypothesis what was seen at its entities and addresses and
// around them.
func (e *Engine) offerKnown(h *explain.Hypothesis) {
	e.startsOver(h) // first: it bounds which effects are its own
	for _, i := range e.incidents {
		h.Follows(i.Hypothesis)
	}
	e.offerAround(h)
	if h.Pattern.Requires() { // what such an effect says can tie others, whichever came first
		e.offerAround(h)
	}
	for i := range h.Pattern.Effects {
		if f := &h.Pattern.Effects[i]; f.Relation == pattern.RelationCluster {
			for _, o := range e.occurrences.Named(f.Event) {
				h.Offer(o)
			}
		}
	}
	e.succeeded(h)
}

// succeeded ends the cause of a hypothesis when the one to whom it happened has begun
// anew since, and failed again.
func (e *Engine) succeeded(h *explain.Hypothesis) {
	if h.Pattern.StartsOver.Event == "" || h.Final() {
		return
	}
	for _, o := range e.occurrences.Of(h.Cause.Entity) {
		if h.Succeeds(o) && e.failsAnew(h.Pattern, o) {
			h.Succeeded(o.Time)
			return
		}
	}
}

// failsAnew tells whether an event is the cause of a failure that ends a pattern's own, when
// the one to whom both happened began anew in between: another one or, where that lasted,
// the same again.
func (e *Engine) failsAnew(of *pattern.Pattern, o *detect.Occurrence) bool {
	return slices.ContainsFunc(e.options.Patterns, func(p *pattern.Pattern) bool {
		return p.StartsOver.Event == of.StartsOver.Event && (p != of || of.StartsOver.Lasts > 0) && explain.Matches(p, o)
	})
}

// startsOver tells a hypothesis when the one to whom its cause happened began anew.
func (e *Engine) startsOver(h *explain.Hypothesis) {
	s := &h.Pattern.StartsOver
	known := e.occurrences.Of(h.Cause.Entity)
	var begun, again int64
	seen := false
	for _, o := range known {
		stopped := o.Name == s.Stopped && o.Time > h.Last() && e.wasWell(h, o, known)
		if o.Subject != h.Cause.Entity || !stopped && !s.Is(o.Name, o.Detail) {
			continue
		}
		seen = true
		switch {
		case stopped:
			if again == 0 || o.Time < again {
				again = o.Time
			}
		case o.Time <= h.Cause.Time:
			begun = max(begun, o.Time)
		case o.Time > h.Last() && (again == 0 || o.Time < again) && !e.failsSoon(h.Pattern, o, known):
			again = o.Time
		}
	}
	if seen { // else it is as it was before a restart, if at all
		h.StartsOver(begun, again)
	}
}

// wasWell tells whether something said between a cause and a later event that the cause
// was over.
func (e *Engine) wasWell(h *explain.Hypothesis, stop *detect.Occurrence, known []*detect.Occurrence) bool {
	return slices.ContainsFunc(known, func(o *detect.Occurrence) bool {
		return o.Subject == stop.Subject && o.Time > h.Last() && o.Time < stop.Time &&
			slices.ContainsFunc(h.Pattern.Until, func(u pattern.Until) bool { return u.Event == o.Name })
	})
}

// failsSoon tells whether one that began anew has failed again before that lasted.
func (e *Engine) failsSoon(p *pattern.Pattern, start *detect.Occurrence, known []*detect.Occurrence) bool {
	return p.StartsOver.Lasts > 0 && slices.ContainsFunc(known, func(o *detect.Occurrence) bool {
		return o.Time >= start.Time && o.Time < start.Time+int64(p.StartsOver.Lasts) && o.Subject == start.Subject && e.failsAnew(p, o)
	})
}

func (e *Engine) offerAround(h *explain.Hypothesis) {
	seen := map[record.EntityID]bool{}
	for n := -1; n < len(seen); { // what spreads leads to further ones
		n = len(seen)
		for _, id := range h.Around() {
			if seen[id] {
				continue
			}
			seen[id] = true
			for _, o := range e.occurrences.Of(id) {
				h.Offer(o)
			}
		}
	}
}
