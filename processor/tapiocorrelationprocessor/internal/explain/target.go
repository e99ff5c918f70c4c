package explain

import (
	"cmp"
	"slices"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// Target is where a hurt request began to go wrong, as far as is known.
type Target struct {
	// Address is what was called in vain, Process who answered there before (or
	// whose span failed), Service the service of that; 0 when unknown.
	Address, Process, Service record.EntityID
	// Holder is the pod that had the address when the call began or, where Gone, had it
	// last; 0 when unknown.
	Holder record.EntityID
	Gone   bool
	// Caller is who called, 0 where that is not what failed, and Began when.
	Caller record.EntityID
	Began  int64
}

// Key is what groups targets: the service, else the process, else the address.
func (t Target) Key() record.EntityID { return cmp.Or(t.Service, t.Process, t.Address) }

// AtHolder returns the target as the pod that had the address: who answered there may not
// say in which pod he is. It returns false where no pod is known to have had it, or the
// target is that already.
func (t Target) AtHolder() (Target, bool) {
	if t.Holder == 0 || t.Gone || t.Holder == t.Process {
		return t, false
	}
	t.Process = t.Holder
	return t, true
}

// TargetOf finds the target of a request from its deepest hurt span.
func TargetOf(g *topology.Graph, r *detect.Request) (Target, detect.HurtSpan) {
	return TargetAt(g, r.Origin())
}

// TargetAt is the target where a span is the one with which a request began to go wrong.
func TargetAt(g *topology.Graph, origin detect.HurtSpan) (Target, detect.HurtSpan) {
	if origin.Kind == record.SpanClient && origin.Peer != 0 {
		t := Target{Caller: origin.Subject, Address: origin.Peer, Process: g.Owner(origin.Peer, origin.End), Began: origin.Start}
		holder, has := g.LastHolder(origin.Peer, origin.Start)
		t.Holder, t.Gone = holder, holder != 0 && !has
		t.Service = g.ServiceOf(t.Process)
		return t, origin
	}
	return Target{Process: origin.Subject, Service: g.ServiceOf(origin.Subject)}, origin
}

// Covers tells whether a request that went wrong at t, first at that time, can be
// an effect of this cause: same process, container or pod, same address, or, when
// the cause is a service's, same service.
func (h *Hypothesis) Covers(t Target, first int64) bool {
	if h.OverBefore(cmp.Or(t.Began, first)) || Spares(h.graph, h.Pattern, t.Address) {
		return false
	}
	if first < h.begun || first < h.Cause.Time-Slack-int64(h.Pattern.Cause.Before) || first > h.watched()+int64(h.Pattern.Cause.Within) {
		return false
	}
	if h.Cuts(t) {
		return true
	}
	if h.elsewhere(cmp.Or(t.Process, t.Service)) || h.elsewhere(t.Holder) {
		return false
	}
	if t.Process != 0 {
		if _, ok := h.concerns(t.Process); ok {
			return true
		}
	} else if h.addresses[t.Address] {
		return true
	}
	e, ok := h.graph.Entity(h.Cause.Entity)
	// The network of a node's pods is known to matter to those alone who called somebody.
	return ok && ((t.Address != 0 || !h.Pattern.OfPodNetwork()) && h.onNode(cmp.Or(t.Process, t.Service)) || e.Kind == topology.KindService && t.Service == e.ID)
}

// Precedes tells whether a request was over before the cause, an event, can have begun: it
// was no effect. That a cause is told of late explains no request that was only slow, where
// the pattern does not expect such.
func (h *Hypothesis) Precedes(r *detect.Request) bool {
	if h.Cause.Occurrence == nil {
		return false
	}
	before := int64(h.Pattern.Cause.Before)
	if !r.Failed() && !slices.ContainsFunc(h.Pattern.Effects, func(f pattern.Effect) bool { return f.Event == pattern.RequestSlow }) {
		before = 0
	}
	return r.Last < h.Cause.Time-Slack-before
}

// Cuts tells whether a call fails for what happened to its caller: who was called may be
// well.
func (h *Hypothesis) Cuts(t Target) bool {
	if !h.Pattern.Cause.Outbound || t.Caller == 0 || h.Cause.Event == pattern.Log && t.Began > h.Last()+Said {
		return false
	}
	if network := h.Network(); network != 0 { // a bridge: what is not in its network does without
		in, _ := h.graph.InNetwork(t.Caller, network)
		return in
	}
	return h.Reaches(t.Caller) || h.onNode(t.Caller)
}

// Said is for how long what a service says of itself explains why its calls fail: in
// trouble it says so again and again.
const Said = int64(10 * time.Second)

// Spares tells whether calls of an address cannot suffer from a pattern's cause.
func Spares(g *topology.Graph, p *pattern.Pattern, address record.EntityID) bool {
	return p.Cause.Answers && address != 0 || p.OfPodNetwork() && g.Loopback(address)
}

// Suffered tells whether calls to an address failed because of the cause.
func (h *Hypothesis) Suffered(address record.EntityID) bool { return h.suffered[address] }
