package engine

import (
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/incident"
)

// slows tells whether a request lost time at the one whose visits say that it is slow: in
// any of its branches, or in a call of that one's, where of who was called may be known no
// more than an address.
func (e *Engine) slows(o *open, r *detect.Request) bool {
	h := o.Hypothesis
	if h.Service == 0 || h.Cause.Certainty == 0 && h.Support == 0 || h.Precedes(r) {
		return false
	}
	for _, s := range r.Waits() {
		service := e.graph.ServiceOf(s.Subject)
		t, span := explain.TargetAt(e.graph, s)
		switch {
		case service != h.Service && t.Service != h.Service:
		case e.covers(o, t, span), service == h.Service && e.covers(o, explain.Target{Process: s.Subject, Service: service}, span):
			return true
		}
	}
	return false
}

// share makes a request that another incident hurt one of this one's, too, where that
// made it slower.
func (e *Engine) share(o *open, r *detect.Request) {
	if of := incident.Of(r); of != nil && of != o.Incident && e.slows(o, r) {
		o.Share(r)
	}
}

// shares looks which requests of others an incident made slower.
func (e *Engine) shares(o *open) {
	if h := o.Hypothesis; h.Cause.Certainty == 0 && h.Support == 0 {
		return
	}
	e.requests.Each(func(r *detect.Request) { e.share(o, r) })
}
