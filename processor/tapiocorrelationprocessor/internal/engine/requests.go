package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// assign finds the incident that hurt a request, and the others that made it slower.
func (e *Engine) assign(r *detect.Request) {
	e.own(r)
	for _, o := range e.incidents {
		e.share(o, r)
	}
}

// own finds the incident that hurt a request.
func (e *Engine) own(r *detect.Request) {
	target, origin := explain.TargetOf(e.graph, r)
	for _, id := range e.witnesses(target) {
		e.hurtAt.Add(id, origin.End)
	}
	e.hear(r, origin)
	// A cause that was seen comes before one that spans only hint at.
	for _, seen := range []bool{true, false} {
		for i := len(e.incidents) - 1; i >= 0; i-- {
			if o := e.incidents[i]; seen == (o.Hypothesis.Cause.Occurrence != nil) && e.covers(o, target, origin) && e.hurtBy(o, r) {
				return
			}
		}
	}
	for _, o := range e.incidents {
		if !r.Failed() && e.slows(o, r) && e.hurtBy(o, r) {
			return
		}
	}
	if h := e.root(e.unresolved(target, origin)); h != nil {
		if o := e.explainer(h.Cause.Occurrence); o != nil && o.Hypothesis.HasRequired() && e.hurtBy(o, r) {
			return
		}
		if o := e.openFor(h, []*detect.Request{r}); o != nil && e.hurtBy(o, r) {
			return
		}
	}
	if h := e.root(e.best(target, origin.End)); h != nil {
		o := e.explainer(h.Cause.Occurrence)
		if o == nil {
			o = e.open(h)
		}
		if o != nil && e.hurtBy(o, r) {
			return
		}
	}
	e.group(r, target, origin)
}

// covers tells whether a request that went wrong can be an effect of an incident's
// cause: it happened to the same one, and that one has not taken requests since. A
// cause that spans tell of is no death, and is over when they are.
func (e *Engine) covers(o *open, t explain.Target, origin detect.HurtSpan) bool {
	failure := origin.End
	if o.spares != 0 && o.spares == t.Service {
		return false
	}
	if e.lookup(o.Hypothesis, t, origin) != nil {
		return true
	}
	if e.givesUp(o, t, origin) {
		return true
	}
	h := o.Hypothesis
	if !h.Covers(t, failure) {
		at, ok := t.AtHolder()
		if !ok && t.Gone && h.Suffered(t.Address) { // it is not better since
			at.Process, ok = t.Holder, true
		}
		if !ok || !h.Covers(at, failure) {
			return false
		}
		t = at
	}
	if h.Pattern.Cause.Scope == pattern.ScopeName {
		return true // who is called may well be there, for those who know its address
	}
	return h.Cause.Occurrence == nil || h.Pattern.Cause.Impairs || h.Cuts(t) || !e.well(h, t, failure)
}

// best returns the hypothesis that explains why a target fails, nil when no
// event is known that could.
func (e *Engine) best(t explain.Target, first int64) *explain.Hypothesis {
	var best *explain.Hypothesis
	e.candidates(t, first, func(p *pattern.Pattern, o *detect.Occurrence) {
		h := e.hypothesis(p, o, t.Address)
		if !h.HasRequired() || h.OverBefore(cmp.Or(t.Began, first)) {
			return
		}
		if best == nil || explain.Better(h, best, e.options.Weights) < 0 {
			best = h
		}
	})
	return best
}

// candidates calls yield for every pattern and event that can be its cause, near
// the target and before its first failure, or as much later as the pattern's cause
// may be noticed.
func (e *Engine) candidates(t explain.Target, first int64, yield func(*pattern.Pattern, *detect.Occurrence)) {
	seen := map[*detect.Occurrence]bool{}
	for _, target := range []record.EntityID{cmp.Or(t.Process, t.Service), t.Holder} {
		for _, at := range append(e.graph.PlaceOf(target).All(), target) {
			for _, o := range e.occurrences.Of(at) {
				if seen[o] {
					continue
				}
				seen[o] = true
				for _, p := range e.options.Patterns {
					if explain.Matches(p, o) && o.Time <= first+explain.Slack+int64(p.Cause.Before) &&
						o.Time >= first-int64(p.Cause.Within) && !e.spares(p, o, t) && !e.spared(o, t.Service) && e.canHurt(p, o, t, first) {
						yield(p, o)
					}
				}
			}
		}
	}
	if t.Caller != 0 {
		e.saidBy(t, first, yield)
	}
}

// saidBy calls yield for what the caller of a target says of why its calls fail, who may
// be the only one to say anything.
func (e *Engine) saidBy(t explain.Target, first int64, yield func(*pattern.Pattern, *detect.Occurrence)) {
	said := e.occurrences.Of(t.Caller)
	for _, o := range slices.Backward(said) {
		if o.Name != pattern.Log || o.Time > first+explain.Slack {
			continue
		}
		if o.Time < t.Began-explain.Said {
			return
		}
		for _, p := range e.options.Patterns {
			if p.Cause.Outbound && explain.Matches(p, o) {
				yield(p, o)
			}
		}
	}
}

// hear makes an event of what the span says with which a request began to go wrong, when
// a pattern has a use for it. What is said of a call may be the words of who was called, of
// whom nothing else is known: it counts only where it is about the calls of the caller.
func (e *Engine) hear(r *detect.Request, s detect.HurtSpan) {
	if e.texts == nil || !s.Failed || s.Message == "" {
		return
	}
	text := e.texts.Find([]byte(s.Message))
	if text == 0 {
		return
	}
	o := &detect.Occurrence{
		Name: pattern.Log, Time: s.End, TraceID: r.TraceID, Subject: s.Subject,
		Detail: &record.Detail{Name: pattern.Log, Body: s.Message},
	}
	if s.Kind == record.SpanClient && !slices.ContainsFunc(e.options.Patterns, func(p *pattern.Pattern) bool {
		return p.Cause.Outbound && explain.Matches(p, o)
	}) {
		return
	}
	known := e.occurrences.Named(pattern.Log)
	if slices.ContainsFunc(known[max(0, len(known)-maxCompared):], func(k *detect.Occurrence) bool {
		return k.Subject == o.Subject && k.Time >= o.Time-int64(time.Second) && k.Time <= o.Time+int64(time.Second) &&
			e.texts.Find([]byte(k.Detail.Body)) == text
	}) {
		return
	}
	e.occur(o)
}

// canHurt tells whether an event happened so near to a target, or to the pod that has its
// address, that a pattern can name it for a failure, and nothing says that it was not that.
func (e *Engine) canHurt(p *pattern.Pattern, o *detect.Occurrence, t explain.Target, failure int64) bool {
	fits := func(at explain.Target) bool {
		well := e.aliveAfter(at, o.Time, failure) || e.wellBefore(p, o.Time, at, failure)
		return (p.Cause.Impairs || !well) && !e.preceded(p, o, t.Key(), at)
	}
	if fits(t) && e.near(o, cmp.Or(t.Process, t.Service), p) {
		return true
	}
	at, ok := t.AtHolder()
	return ok && fits(at) && e.near(o, at.Process, p) && !e.near(o, t.Process, p)
}

// spares tells whether an event of the network of pods cannot be why a target fails: it
// was called over a loopback interface, or called nobody and is not where that happened.
func (e *Engine) spares(p *pattern.Pattern, o *detect.Occurrence, t explain.Target) bool {
	if !p.OfPodNetwork() || t.Address != 0 {
		return explain.Spares(e.graph, p, t.Address)
	}
	return !slices.ContainsFunc(o.Subjects(), func(id record.EntityID) bool {
		_, ok := e.graph.Concerns(id, cmp.Or(t.Process, t.Service))
		return ok
	})
}
