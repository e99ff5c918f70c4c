package explain

import (
	"slices"
	"time"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// observed is what was seen of one effect that the pattern expects.
type observed struct {
	first, last int64
	count       int64
	by          finding.LinkedBy
	workloads   map[record.EntityID]bool // of the pattern's effect, where it counts them
	said        *detect.Occurrence       // the last event that told of it, nil where spans do
}

// Offer takes an occurrence as an effect if the pattern expects it and it shares
// an identity with the cause. It returns whether it did.
func (h *Hypothesis) Offer(o *detect.Occurrence) bool {
	h.changed(o)
	if o == h.Cause.Occurrence || h.explains[o] || o.Time < h.begun || h.beganAnew(o) || h.ends(o) || Spares(h.graph, h.Pattern, o.Detail.Peer) {
		return false
	}
	for i := range h.Pattern.Effects {
		e := &h.Pattern.Effects[i]
		if e.Precursor || e.Event != o.Name || !h.inTime(o.Time, e.Within) {
			continue
		}
		where, ok := pattern.Bound(e.Where, h.says)
		if !ok || !pattern.Holds(where, o.Detail) {
			continue
		}
		by, on, ok := h.relate(e.Relation, o)
		if !ok || !h.mayFollow(e, o) {
			continue
		}
		remember(h.explains, o)
		h.see(i, o.Time, by)
		h.say(i, o)
		h.relapses(o)
		h.seeAt(i, o.Subject)
		h.linkOccurrence(e, o, by, on)
		if e.Spreads {
			h.spread(o.Subject, o.Time)
		}
		return true
	}
	return false
}

// spread takes one to whom an effect happened, with its workload or unit, for one whose
// callers suffer from the cause.
func (h *Hypothesis) spread(id record.EntityID, at int64) {
	h.spreads++
	for _, id := range []record.EntityID{id, Lift(h.graph, pattern.LevelWorkload, id)} {
		if h.reached[id] == 0 && !h.entities[id] {
			h.spreadAt[id] = at
		}
		remember(h.entities, id)
		if h.entities[id] {
			h.reached[id] = max(h.reached[id], at)
		}
	}
}

// onlyReached tells whether the cause came to one by an effect that spreads, and when first:
// what happens to that one is not what happened to the cause's own.
func (h *Hypothesis) onlyReached(id record.EntityID) (since int64, ok bool) {
	is := func(of record.EntityID) bool {
		by, ok := h.graph.Concerns(id, of)
		return id == of || ok && by != finding.LinkedByTopology
	}
	if is(h.Cause.Entity) {
		return 0, false
	}
	for of, at := range h.spreadAt {
		if is(of) && (!ok || at < since) {
			since, ok = at, true
		}
	}
	return since, ok
}

// mayFollow tells whether an event of one to whom the cause has come can be an effect: it
// is none if it was before that, nor what the pattern requires of the cause's own.
func (h *Hypothesis) mayFollow(e *pattern.Effect, o *detect.Occurrence) bool {
	if len(h.spreadAt) == 0 || e.Relation != pattern.RelationOwner && e.Relation != pattern.RelationSame {
		return true
	}
	since, ok := h.onlyReached(o.Subject)
	return !ok || !e.Required && o.Time >= since-Slack
}

// Spreads is how many effects that spread were seen.
func (h *Hypothesis) Spreads() int { return h.spreads }

// ReachedAt returns when an effect that spreads happened last to an entity or to its
// container, pod, workload or unit, 0 for never.
func (h *Hypothesis) ReachedAt(id record.EntityID) int64 {
	last := int64(0)
	for of, at := range h.reached {
		if _, ok := h.graph.Concerns(id, of); ok {
			last = max(last, at)
		}
	}
	return last
}

// Reaches tells whether an entity is among those to whom the cause or an effect that
// spreads happened.
func (h *Hypothesis) Reaches(id record.EntityID) bool {
	_, ok := h.concerns(id)
	return ok
}

// StartsOver notes when the one to whom the cause happened began anew: last before it, and
// first after it, 0 for never.
func (h *Hypothesis) StartsOver(begun, again int64) { h.begun, h.again = begun, again }

// Follows bounds what follows from the cause where another of its pattern and entity, of
// another identity, was over before it: what was before that is the other's.
func (h *Hypothesis) Follows(other *Hypothesis) {
	over := other.OverSince()
	if other.Pattern == h.Pattern && len(h.Pattern.Cause.Identity) > 0 && other.Cause.Entity == h.Cause.Entity && over > 0 && over <= h.Cause.Time {
		h.begun = max(h.begun, over)
	}
}

// beganAnew tells whether an event happened to the same one after it began anew.
func (h *Hypothesis) beganAnew(o *detect.Occurrence) bool {
	return h.Succeeds(o) && !h.Pattern.StartsOver.Is(o.Name, o.Detail)
}

// Succeeds tells whether an event happened to the same one as the cause after that one
// began anew: as the cause of a later failure it ends this one.
func (h *Hypothesis) Succeeds(o *detect.Occurrence) bool {
	return h.again > h.Last() && o.Time >= h.again && o.Subject == h.Cause.Entity
}

// Completes tells whether an event is an effect that the pattern requires, beside which
// another one is the cause.
func (h *Hypothesis) Completes(o *detect.Occurrence) bool {
	return h.Cause.Event != o.Name && slices.ContainsFunc(h.Pattern.Effects, func(f pattern.Effect) bool {
		return f.Required && f.Event == o.Name && pattern.Holds(f.Where, o.Detail)
	})
}

// Final tells whether the cause has ended for good: if the same happens again, that is
// another incident.
func (h *Hypothesis) Final() bool { return h.final }

func (h *Hypothesis) inTime(t int64, within time.Duration) bool {
	if h.OverBefore(t) {
		return false
	}
	return t >= h.Cause.Time-Slack-int64(h.Pattern.Cause.Before) && t <= h.watched()+int64(within)
}

func (h *Hypothesis) relate(r pattern.Relation, o *detect.Occurrence) (by finding.LinkedBy, on string, ok bool) {
	switch r {
	case pattern.RelationSame:
		by, ok = h.concerns(o.Subject)
		return by, h.identity(o.Subject, by), ok
	case pattern.RelationAddress:
		if o.Detail == nil || o.Detail.Peer == 0 {
			return "", "", false
		}
		peer := o.Detail.Peer
		if !h.addresses[peer] && !h.answered(h.graph.Owner(peer, o.Time)) && !h.entities[h.graph.Holder(peer, o.Time)] {
			return "", "", false
		}
		remember(h.addresses, peer)
		return finding.LinkedByAddress, h.addressOf(peer, o.Time, o.Time), true
	}
	return h.place(r, o.Subject)
}

// answered tells whether who answered at an address is one of those to whom the cause
// happened, or a process of the unit to which it did.
func (h *Hypothesis) answered(owner record.EntityID) bool {
	if h.entities[owner] {
		return true
	}
	unit := h.graph.UnitOf(owner)
	return unit != 0 && h.entities[unit]
}

func (h *Hypothesis) see(i int, at int64, by finding.LinkedBy) {
	o := &h.effects[i]
	if o.count == 0 {
		o.first, o.last, o.by = at, at, by
	}
	o.first, o.last = min(o.first, at), max(o.last, at)
	o.count++
	h.LastEffect = max(h.LastEffect, at)
	if h.Cause.Occurrence == nil && at < h.Cause.Time {
		// A cause that spans tell of began with the first of them.
		h.Cause.Time = at
		h.root.Time = record.UTC(at)
	}
}

// say notes the event that tells of an effect last.
func (h *Hypothesis) say(i int, o *detect.Occurrence) {
	if s := &h.effects[i].said; *s == nil || (*s).Time <= o.Time {
		*s = o
	}
}

// seeEvent notes an effect that the engine derives from spans, if the pattern
// expects it.
func (h *Hypothesis) seeEvent(name string, at int64, by finding.LinkedBy) {
	for i := range h.Pattern.Effects {
		if h.Pattern.Effects[i].Event == name {
			h.see(i, at, by)
			return
		}
	}
}
