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
	if r == pattern.RelationCluster {
		return finding.LinkedByTopology, "the cluster", true
	}
	p := h.graph.PlaceOf(subject)
	var first, shared record.EntityID
	var what string
	for id := range h.entities { // the oldest, whichever the map gives first
		if first != 0 && id > first {
			continue
		}
		c := h.graph.PlaceOf(id)
		switch {
		case r == pattern.RelationOwner && same(c.Workload, p.Workload):
			first, by, what, shared = id, finding.LinkedByOwner, "workload", c.Workload
		case r == pattern.RelationOwner && same(c.Service, p.Service):
			first, by, what, shared = id, finding.LinkedByOwner, "service", c.Service
		case r == pattern.RelationOwner && id == subject:
			first, by, what, shared = id, finding.LinkedByOwner, "", id
		case r == pattern.RelationNode && same(c.Host, p.Host):
			first, by, what, shared = id, finding.LinkedByTopology, "node", c.Host
		case r == pattern.RelationNamespace && same(c.Namespace, p.Namespace):
			first, by, what, shared = id, finding.LinkedByTopology, "namespace", c.Namespace
		}
	}
	if first == 0 {
		return "", "", false
	}
	return by, h.named(what, shared), true
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
	first, by := record.EntityID(0), finding.LinkedBy("")
	for e := range h.entities { // the oldest, whichever the map gives first
		if is, ok := h.graph.Concerns(id, e); ok && is != finding.LinkedByTopology && (first == 0 || e < first) {
			first, by = e, is
		}
	}
	return by, first != 0
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
