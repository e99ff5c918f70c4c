package explain

import (
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// ImpairsNodes tells whether a pattern's cause is shared by all that runs on a node, and
// leaves it running.
func ImpairsNodes(p *pattern.Pattern) bool { return p.Cause.Impairs && ofNode(p) }

func ofNode(p *pattern.Pattern) bool {
	return p.Cause.Entity == pattern.LevelNode || p.Cause.Entity == pattern.LevelNetwork
}

// Node returns the node that the cause is about, 0 where it is not about a whole one.
func (h *Hypothesis) Node() record.EntityID {
	if e, ok := h.graph.Entity(h.Cause.Entity); ok && e.Kind == topology.KindHost && ofNode(h.Pattern) {
		return e.ID
	}
	return 0
}

// Network returns the container network that the cause is about, 0 where it is about none,
// or about one pod's part of it.
func (h *Hypothesis) Network() record.EntityID {
	if h.Cause.Occurrence == nil {
		return 0
	}
	if e, ok := h.graph.Entity(h.Cause.Occurrence.Subject); ok && e.Kind == topology.KindNetwork {
		return e.ID
	}
	return 0
}

// otherNetwork tells whether what an event is about is another container network than the
// cause's.
func (h *Hypothesis) otherNetwork(subject record.EntityID) bool {
	e, ok := h.graph.Entity(subject)
	own := h.Network()
	return ok && e.Kind == topology.KindNetwork && own != 0 && e.ID != own
}

// elsewhere tells whether an entity is known to be in other container networks than the one
// that the cause is about.
func (h *Hypothesis) elsewhere(id record.EntityID) bool {
	network := h.Network()
	if network == 0 {
		return false
	}
	in, known := h.graph.InNetwork(id, network)
	return known && !in
}

// InTime tells whether what began at a time can follow from the cause.
func (h *Hypothesis) InTime(began int64) bool { return h.inTime(began, h.Pattern.Cause.Within) }

// HappenedTo tells whether an effect that is no request was seen of a service.
func (h *Hypothesis) HappenedTo(service record.EntityID) bool {
	for o := range h.explains {
		if h.graph.ServiceOf(o.Subject) == service {
			return true
		}
	}
	return false
}

// seeAt notes to whose workload or unit an effect happened, where the pattern counts them.
func (h *Hypothesis) seeAt(effect int, subject record.EntityID) {
	if h.Pattern.Effects[effect].Workloads == 0 {
		return
	}
	at := Lift(h.graph, pattern.LevelWorkload, subject)
	if e, ok := h.graph.Entity(at); !ok || e.Kind == topology.KindHost {
		return
	}
	o := &h.effects[effect]
	if o.workloads == nil {
		o.workloads = map[record.EntityID]bool{}
	}
	remember(o.workloads, at)
}

// seenWidely tells whether an effect happened to as many workloads as the pattern wants.
func (h *Hypothesis) seenWidely(effect int) bool {
	return h.resumed != 0 || len(h.effects[effect].workloads) >= h.Pattern.Effects[effect].Workloads // a restart forgets which
}
