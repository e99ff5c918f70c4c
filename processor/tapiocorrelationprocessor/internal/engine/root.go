package engine

import (
	"slices"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/incident"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// maxDepth bounds how far back causes of causes are looked for.
const maxDepth = 4

// byAddress tells whether an event can be an effect of a pattern's cause because it is
// about an address at which the one answered to whom that happened.
func byAddress(p *pattern.Pattern, o *detect.Occurrence) bool {
	return o != nil && o.Detail.Peer != 0 && slices.ContainsFunc(p.Effects, func(f pattern.Effect) bool {
		return f.Event == o.Name && f.Relation == pattern.RelationAddress
	})
}

// root looks for a deeper cause of a hypothesis: what happened before to the one whose
// address its cause is about, as a resolver that fails is why names are not found. It
// returns the hypothesis itself where there is none.
func (e *Engine) root(h *explain.Hypothesis) *explain.Hypothesis {
	for range maxDepth {
		up := e.upstream(h)
		if up == nil {
			break
		}
		adopt(up, h)
		h = up
	}
	return h
}

// adopt makes those who suffer from what a hypothesis names suffer from a deeper cause.
// Of calls by a name those alone do that asked for it, see lookup.
func adopt(h, of *explain.Hypothesis) {
	if of.Pattern.Cause.Scope != pattern.ScopeName {
		h.Adopt(of)
	}
}

// upstream returns the best hypothesis of which a hypothesis's cause is an effect by
// address, nil for none.
func (e *Engine) upstream(h *explain.Hypothesis) *explain.Hypothesis {
	if h == nil || h.Cause.Occurrence == nil {
		return nil
	}
	effect := h.Cause.Occurrence
	var places []record.EntityID
	for _, id := range []record.EntityID{e.graph.Owner(effect.Detail.Peer, effect.Time), e.graph.Holder(effect.Detail.Peer, effect.Time)} {
		places = append(append(places, e.graph.PlaceOf(id).All()...), id)
	}
	var best *explain.Hypothesis
	seen := map[*detect.Occurrence]bool{effect: true}
	for _, at := range places {
		for _, o := range e.occurrences.Of(at) {
			if seen[o] {
				continue
			}
			seen[o] = true
			for _, p := range e.options.Patterns {
				if !byAddress(p, effect) || !explain.Matches(p, o) || !e.often(p, o) {
					continue
				}
				if up := e.behind(p, o, effect); up.HasRequired() && deeper(up, h) && (best == nil || explain.Better(up, best, e.options.Weights) < 0) {
					best = up
				}
			}
		}
	}
	return best
}

// behind makes a hypothesis of an event, and offers it another one and all that are about
// the same address.
func (e *Engine) behind(p *pattern.Pattern, o, effect *detect.Occurrence) *explain.Hypothesis {
	h := e.hypothesis(p, o)
	h.Offer(effect)
	for _, k := range e.occurrences.Of(effect.Detail.Peer) {
		h.Offer(k)
	}
	return h
}

// lookup returns the effect of a hypothesis because of which a call failed: its caller
// could not look up the name that it called; nil for none.
func (e *Engine) lookup(h *explain.Hypothesis, t explain.Target, origin detect.HurtSpan) *detect.Occurrence {
	if origin.Kind != record.SpanClient || t.Address == 0 || !h.HasRequired() {
		return nil
	}
	for i := range h.Pattern.Effects {
		f := &h.Pattern.Effects[i]
		if f.Relation != pattern.RelationAddress && f.Relation != pattern.RelationNamespace {
			continue
		}
		known := e.occurrences.Named(f.Event)
		for n := len(known) - 1; n >= max(0, len(known)-maxCompared); n-- {
			if p := e.ofNames(known[n]); p != nil && h.Explains(known[n]) && e.asked(p, known[n], t, origin) {
				return known[n]
			}
		}
	}
	return nil
}

// ofNames returns the pattern of calls by a name whose cause an event can be, nil for none.
func (e *Engine) ofNames(o *detect.Occurrence) *pattern.Pattern {
	for _, p := range e.options.Patterns {
		if p.Cause.Scope == pattern.ScopeName && explain.Matches(p, o) {
			return p
		}
	}
	return nil
}

// hurtBy makes a request one that an incident hurt, and tells whether it can be that: it
// was not over before the cause began.
func (e *Engine) hurtBy(o *open, r *detect.Request) bool {
	if o.Hypothesis.Precedes(r) {
		return false
	}
	e.namesOf(o.Hypothesis, r)
	o.Assign(r)
	return true
}

// release takes from an incident whose cause was replaced the requests that were over
// before that began. They are hurt by something else.
func (e *Engine) release(o *open) {
	var kept, early []*detect.Request
	e.requests.Each(func(r *detect.Request) {
		switch {
		case incident.Of(r) != o.Incident:
		case o.Hypothesis.Precedes(r):
			early = append(early, r)
		default:
			kept = append(kept, r)
		}
	})
	if len(early) == 0 {
		return
	}
	o.Recount(kept)
	e.requests.Each(o.Unshare)
	e.shares(o)
	e.unassign(early)
}

// unassign looks for another explanation of requests.
func (e *Engine) unassign(requests []*detect.Request) {
	for _, r := range requests {
		incident.Unassign(r)
		e.assign(r)
	}
}

// namesOf tells a hypothesis which name a request's caller could not look up because of
// its cause.
func (e *Engine) namesOf(h *explain.Hypothesis, r *detect.Request) {
	target, origin := explain.TargetOf(e.graph, r)
	if o := e.lookup(h, target, origin); o != nil {
		h.LookedUp(target.Address, o)
	}
}
