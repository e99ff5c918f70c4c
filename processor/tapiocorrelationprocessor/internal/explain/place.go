package explain

import (
	"cmp"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// Lift returns what a finding names for an event that happened to an entity: its
// pod, workload, node or namespace, or the entity itself where that is not known.
func Lift(g *topology.Graph, level pattern.Level, id record.EntityID) record.EntityID {
	p := g.PlaceOf(id)
	up := record.EntityID(0)
	switch level {
	case pattern.LevelPod:
		up = p.Pod
	case pattern.LevelWorkload:
		up = p.Workload
		if up == 0 {
			up = p.Service
		}
	case pattern.LevelNode:
		up = p.Host
	case pattern.LevelNamespace:
		up = p.Namespace
	case pattern.LevelNetwork:
		up = cmp.Or(p.Pod, p.Container, p.Host)
	}
	if up == 0 {
		return id
	}
	return up
}

// place relates an event to the cause by where both belong.
func (h *Hypothesis) place(r pattern.Relation, subject record.EntityID) (by finding.LinkedBy, on string, ok bool) {
	p := h.graph.PlaceOf(subject)
	for id := range h.entities {
		c := h.graph.PlaceOf(id)
		switch {
		case r == pattern.RelationOwner && same(c.Workload, p.Workload):
			return finding.LinkedByOwner, h.named("workload", c.Workload), true
		case r == pattern.RelationOwner && same(c.Service, p.Service):
			return finding.LinkedByOwner, h.named("service", c.Service), true
		case r == pattern.RelationOwner && id == subject:
			return finding.LinkedByOwner, h.named("", id), true
		case r == pattern.RelationNode && same(c.Host, p.Host):
			return finding.LinkedByTopology, h.named("node", c.Host), true
		case r == pattern.RelationNamespace && same(c.Namespace, p.Namespace):
			return finding.LinkedByTopology, h.named("namespace", c.Namespace), true
		case r == pattern.RelationCluster:
			return finding.LinkedByTopology, "the cluster", true
		}
	}
	return "", "", false
}

func same(a, b record.EntityID) bool { return a != 0 && a == b }

func (h *Hypothesis) named(what string, id record.EntityID) string {
	e, _ := h.graph.Entity(id)
	if what == "" {
		return e.Name
	}
	return what + " " + e.Name
}

// Around lists the entities at which events can be that a hypothesis has a use for.
func (h *Hypothesis) Around() []record.EntityID {
	ids := map[record.EntityID]bool{}
	for id := range h.addresses {
		ids[id] = true
	}
	for id := range h.entities {
		p := h.graph.PlaceOf(id)
		for _, id := range []record.EntityID{id, p.Container, p.Pod} {
			ids[id] = true
		}
		for _, r := range h.Pattern.Relations() {
			switch r {
			case pattern.RelationOwner:
				ids[p.Workload], ids[p.Service] = true, true
			case pattern.RelationNode:
				ids[p.Host] = true
			case pattern.RelationNamespace:
				ids[p.Namespace] = true
			}
		}
	}
	delete(ids, 0)
	return keys(ids)
}

// onNode tells whether an entity is on the node that the cause is about, where the
// pattern names one.
func (h *Hypothesis) onNode(id record.EntityID) bool {
	node := h.Node()
	return node != 0 && h.graph.PlaceOf(id).Host == node
}

// concerns tells how an entity is one of those to whom the cause happened.
func (h *Hypothesis) concerns(id record.EntityID) (finding.LinkedBy, bool) {
	if h.entities[id] {
		by, _ := h.graph.Concerns(id, id)
		return by, true
	}
	for e := range h.entities {
		if by, ok := h.graph.Concerns(id, e); ok && by != finding.LinkedByTopology {
			return by, true
		}
	}
	return "", false
}

// onlyHolds tells whether a cause has to do with an address for the pod alone that has it:
// who answered there is not known to be in that pod, and can be in others too.
func (h *Hypothesis) onlyHolds(address, owner, happened record.EntityID) bool {
	if !h.Reaches(h.graph.Holder(address, h.Cause.Time+Slack)) || h.Reaches(owner) {
		return false
	}
	_, ok := h.graph.Concerns(happened, owner)
	return !ok
}
