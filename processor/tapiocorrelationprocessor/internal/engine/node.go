package engine

import (
	"fmt"
	"slices"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/incident"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/visit"
)

const (
	// mostly is the share of what an incident hurt that a cause of a node must cover to be
	// its cause too: a few requests fail all the time, for whatever reason.
	mostly = 0.8
	// peers is how many other services of a node must go on well for the trouble of the only
	// one that is hurt there to be its own: what a node lacks, all of them lack.
	peers = 3
)

// judgeNodes gives incidents that were only inferred from requests the cause that happened
// to the node on which nearly all of what they hurt was hurt: one root for many symptoms.
// The trouble of a single service, beside others of the node that go on well, is its own.
func (e *Engine) judgeNodes(now int64) {
	for _, c := range e.nodeCauses() {
		own := e.ownTrouble(c.h, now)
		if c.root != nil {
			e.spare(c.root, own)
		}
		taken := e.explainedBy(c.h, own)
		if len(taken) == 0 {
			continue
		}
		if c.root == nil {
			c.root, taken = taken[0], taken[1:]
			e.replace(c.root, c.h)
		}
		e.replaceAll(c.root, func(i *open) bool { return slices.Contains(taken, i) })
		c.root.Hypothesis.LastEffect = max(c.root.Hypothesis.LastEffect, min(now, e.latest()))
		c.root.Witness()
	}
}

// nodeCause is a cause that impairs a node, and its incident, nil where there is none.
type nodeCause struct {
	h    *explain.Hypothesis
	root *open
}

// nodeCauses returns the best cause for each node that is impaired, in the order of nodes;
// one that has an incident stays it.
func (e *Engine) nodeCauses() []nodeCause {
	best := map[record.EntityID]nodeCause{}
	consider := func(c nodeCause) {
		node := c.h.Node()
		b, known := best[node]
		if node != 0 && (!known || b.root == nil && c.root != nil || (b.root == nil) == (c.root == nil) && explain.Better(c.h, b.h, e.options.Weights) < 0) {
			best[node] = c
		}
	}
	for _, i := range e.incidents {
		if h := i.Hypothesis; explain.ImpairsNodes(h.Pattern) && h.Cause.Occurrence != nil && !h.Over() && !i.Predicted() && !i.Resolved() {
			consider(nodeCause{h, i})
		}
	}
	for _, p := range e.options.Patterns {
		if !explain.ImpairsNodes(p) {
			continue
		}
		known := e.occurrences.Named(p.Cause.Event)
		for _, o := range known[max(0, len(known)-maxCompared):] {
			if len(e.incidents) == 0 || !explain.Matches(p, o) || !e.often(p, o) || e.explainer(o) != nil {
				continue
			}
			if h := e.hypothesis(p, o); h.HasRequired() && !h.Over() {
				consider(nodeCause{h, nil})
			}
		}
	}
	out := make([]nodeCause, 0, len(best))
	for _, c := range best {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b nodeCause) int { return int(a.h.Node()) - int(b.h.Node()) })
	return out
}

// inferred tells whether only requests tell of an incident's cause.
func inferred(i *open) bool {
	return i.Hypothesis.Cause.Occurrence == nil && !i.Predicted() && !i.Resolved()
}

// explainedBy returns the incidents that a node's cause explains: inferred ones, but for that
// of a service whose trouble is its own, and those whose causes follow from it.
func (e *Engine) explainedBy(h *explain.Hypothesis, own record.EntityID) (out []*open) {
	for _, i := range e.incidents {
		old := i.Hypothesis
		follows := old.Cause.Occurrence != nil && old != h && deeper(h, old)
		if follows || inferred(i) && (own == 0 || old.Service != own) && h.InTime(old.Cause.Time) && e.mostlyOn(h, i) {
			out = append(out, i)
		}
	}
	return out
}

// mostlyOn tells whether nearly all that an incident hurt was hurt on the node that a cause
// is about: its service's visits or, where calls did not get that far, its requests.
func (e *Engine) mostlyOn(h *explain.Hypothesis, i *open) bool {
	if s := e.suspectOf(i.Hypothesis.Service); s != nil && i.Hypothesis.Cause.Certainty > 0 {
		if there, all := e.hurtThere(s, h.Node()); all > 0 && float64(there) >= mostly*float64(all) {
			return true
		}
	}
	covered, all := 0, 0
	e.requests.Each(func(r *detect.Request) {
		if incident.Of(r) != i.Incident {
			return
		}
		all++
		if target, origin := explain.TargetOf(e.graph, r); h.Covers(target, origin.End) && !h.Precedes(r) {
			covered++
		}
	})
	return covered >= minHurt && float64(covered) >= mostly*float64(all)
}

// hurtThere returns how many of a suspect's anomalous visits were on a node, and of how many
// it is known where they were.
func (e *Engine) hurtThere(s *visit.Suspect, node record.EntityID) (there, all int) {
	for instance, n := range s.At {
		if host := e.graph.PlaceOf(instance).Host; host != 0 {
			all += n
			if host == node {
				there += n
			}
		}
	}
	return there, all
}

func (e *Engine) suspectOf(service record.EntityID) *visit.Suspect {
	for i := range e.suspects {
		if e.suspects[i].Service == service {
			return &e.suspects[i]
		}
	}
	return nil
}

// ownTrouble returns the service that alone is hurt on the node that a cause is about, where
// others go on well and nothing but requests ties it to the cause; 0 for none.
func (e *Engine) ownTrouble(h *explain.Hypothesis, now int64) record.EntityID {
	hurt := map[record.EntityID]bool{}
	for i := range e.suspects {
		if s := &e.suspects[i]; s.Score >= calm && !loud(s) && !e.shadow(s) {
			if there, _ := e.hurtThere(s, h.Node()); there >= minHurt {
				hurt[s.Service] = true
			}
		}
	}
	for _, i := range e.incidents {
		if inferred(i) && i.Hypothesis.Service != 0 && e.mostlyOn(h, i) {
			hurt[i.Hypothesis.Service] = true
		}
	}
	if len(hurt) != 1 {
		return 0
	}
	well := map[record.EntityID]bool{}
	for _, x := range e.graph.InstancesOn(h.Node()) {
		if service := e.graph.ServiceOf(x); !hurt[service] && e.answered.Between(x, max(h.Cause.Time, now-int64(recovered)), now) {
			well[service] = true
		}
	}
	for service := range hurt {
		if len(well) >= peers && !h.HappenedTo(service) {
			return service
		}
	}
	return 0
}

// shadow tells whether a suspect's visits changed with those of another one that changed
// more and lies below them.
func (e *Engine) shadow(s *visit.Suspect) bool {
	return slices.ContainsFunc(e.suspects, func(x visit.Suspect) bool {
		return x.Score > s.Score && slices.Contains(x.Explains, s.Service)
	})
}

// spare takes from the incident of a node what a service suffers from that is not hurt by it,
// 0 for none.
func (e *Engine) spare(o *open, service record.EntityID) {
	if o.spares == service {
		return
	}
	o.spares = service
	if service == 0 {
		e.absorbGroups(o)
		return
	}
	var kept, own []*detect.Request
	e.requests.Each(func(r *detect.Request) {
		if incident.Of(r) != o.Incident {
			return
		}
		if target, _ := explain.TargetOf(e.graph, r); target.Service == service {
			own = append(own, r)
		} else {
			kept = append(kept, r)
		}
	})
	if len(own) == 0 {
		return
	}
	o.Recount(kept)
	e.unassign(own)
	if len(kept) < o.Hypothesis.Pattern.MinTraces && !o.Hypothesis.Pattern.Alone && o.Emitted() {
		o.Withdraw(e.now(), fmt.Sprintf("Of all that runs there, %s alone is hurt.", e.graph.ServiceName(service)))
	}
}

// spared tells whether an event is the cause of an incident that a service does not suffer
// from.
func (e *Engine) spared(o *detect.Occurrence, service record.EntityID) bool {
	return service != 0 && slices.ContainsFunc(e.incidents, func(i *open) bool {
		return i.spares == service && i.Hypothesis.Node() != 0 && i.Hypothesis.Node() == e.graph.PlaceOf(o.Subject).Host && i.Hypothesis.Cause.Event == o.Name
	})
}
