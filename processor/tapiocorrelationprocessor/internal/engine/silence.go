package engine

import (
	"cmp"
	"net/http"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/incident"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// silence is what waiting requests show of a target that takes none any more.
type silence struct {
	requests []*detect.Request // those that waited for it in vain since the last that it took
	since    int64             // the start of the first such call
	told     int64             // when the first such request was told of, by the engine's clock
	patience int64             // how long the most patient caller waited
	before   int               // requests that waited in vain though it took some after them
}

// convincing is how many times as many requests must have waited in vain in a row as did
// between those that were taken: of a target that answers some, any few in a row may be lost
// by chance.
const convincing = 3

// judgeSilence opens an incident for a target that took requests, takes none any more and
// lets its callers wait in vain. It tells whether the group need not be judged otherwise:
// the span of a request that a slow target took comes when it has ended, after its caller's,
// and is waited for. taken is lastTaken.
func (e *Engine) judgeSilence(g *group, taken func() map[record.EntityID]int64) bool {
	g.silent = false
	p := e.patternFor(pattern.NotResponding)
	if p == nil || len(g.requests) < p.MinTraces || !unanswered(g.requests[len(g.requests)-1].Origin()) {
		return false
	}
	last, ok := taken()[cmp.Or(g.target.Service, g.target.Process)]
	if !ok { // of who sends no spans nothing can be missed
		return false
	}
	s, ok := e.silenceSince(g, last)
	if !ok || len(s.requests) < max(p.MinTraces, convincing*s.before) {
		return false
	}
	if g.silent = e.now()-s.told < int64(hearing); g.silent {
		return true
	}
	e.openFor(explain.New(e.graph, p, explain.Cause{
		Event: p.Cause.Event, Time: s.since, Entity: g.target.Key(),
		Attributes: []record.Attr{
			{Key: "tapio.calls.unanswered", Value: int64(len(s.requests))},
			{Key: "tapio.calls.waited", Value: milliseconds(time.Duration(s.patience))},
		},
	}, g.target.Address), s.requests)
	return true
}

// silent tells whether a request failed for want of an answer of a target that seems to
// take none, and is not decided yet.
func (e *Engine) silent(r *detect.Request) bool {
	target, _ := explain.TargetOf(e.graph, r)
	g := e.groups[groupKey{target.Key(), pattern.ServiceFailing}]
	return g != nil && g.silent
}

// silenceSince looks at the requests of a group that have no explanation and began to fail
// after a time. It returns false when any of them failed in another way than for want of
// an answer.
func (e *Engine) silenceSince(g *group, last int64) (s silence, ok bool) {
	for _, r := range g.requests {
		_, origin := explain.TargetOf(e.graph, r)
		if incident.Of(r) != nil {
			continue
		}
		if origin.Start < last {
			if unanswered(origin) {
				s.before++
			}
			continue
		}
		if !unanswered(origin) {
			return s, false
		}
		if _, _, hurt := r.Entry(); !hurt {
			continue
		}
		if len(s.requests) == 0 {
			s.since, s.told = origin.Start, r.Changed
		}
		s.since, s.told = min(s.since, origin.Start), min(s.told, r.Changed)
		s.requests = append(s.requests, r)
		s.patience = max(s.patience, origin.End-origin.Start)
	}
	return s, true
}

// unanswered tells whether a call ended without an answer of who was called: its caller,
// or a gateway on the way, gave up.
func unanswered(s detect.HurtSpan) bool {
	return s.Kind == record.SpanClient &&
		(s.Failure == record.FailureTimeout || s.Failure == record.FailureCanceled || s.HTTPStatus == http.StatusGatewayTimeout)
}

// lastTaken returns when services, and those that have none, took a request last, as far
// as any is known.
func (e *Engine) lastTaken() map[record.EntityID]int64 {
	last := map[record.EntityID]int64{}
	e.graph.EachServed(func(operation, by record.EntityID) {
		if at, ok := e.answered.Last(operation); ok {
			last[by] = max(last[by], at)
		}
	})
	return last
}
