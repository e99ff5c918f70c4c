package engine

import (
	"cmp"
	"net/http"
	"slices"
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
// lets its callers wait in vain: a service or, where others of it go on answering, one of its
// instances. It tells whether the group need not be judged otherwise: the span of a request
// that a slow target took comes when it has ended, after its caller's, and is waited for.
// taken is lastTaken.
func (e *Engine) judgeSilence(g *group, taken func() map[record.EntityID]int64) bool {
	g.silent = false
	p := e.patternFor(pattern.NotResponding)
	if p == nil || len(g.requests) < p.MinTraces || !slices.ContainsFunc(g.requests, func(r *detect.Request) bool { return unanswered(r.Origin()) }) {
		return false
	}
	last, ok := taken()[cmp.Or(g.target.Service, g.target.Process)]
	if !ok { // of who sends no spans nothing can be missed
		return false
	}
	if unanswered(g.requests[len(g.requests)-1].Origin()) {
		if s, ok := e.silenceSince(g.requests, last); ok && s.convinces(p) {
			e.openSilence(p, g, g.target.Key(), s)
			return true
		}
	}
	for _, x := range e.instances(g) {
		at, ok := e.answered.Last(x.id)
		if !ok {
			continue
		}
		if s, ok := e.silenceSince(x.requests, at); ok && s.convinces(p) && last > s.since {
			e.openSilence(p, g, explain.Lift(e.graph, pattern.LevelPod, x.id), s)
			return true
		}
	}
	return false
}

// convinces tells whether so many requests waited in vain that it is no chance.
func (s *silence) convinces(p *pattern.Pattern) bool {
	return len(s.requests) >= max(p.MinTraces, convincing*s.before)
}

// openSilence opens the incident of who does not respond, once it has been waited for.
func (e *Engine) openSilence(p *pattern.Pattern, g *group, who record.EntityID, s silence) {
	if g.silent = e.now()-s.told < int64(hearing); g.silent {
		return
	}
	target, _ := explain.TargetOf(e.graph, s.requests[0])
	e.openFor(explain.New(e.graph, p, explain.Cause{
		Event: p.Cause.Event, Time: s.since, Entity: who,
		Attributes: []record.Attr{
			{Key: "tapio.calls.unanswered", Value: int64(len(s.requests))},
			{Key: "tapio.calls.waited", Value: milliseconds(time.Duration(s.patience))},
		},
	}, target.Address), s.requests)
}

// instance is one of those who serve what a group of requests wanted, and its requests.
type instance struct {
	id       record.EntityID
	requests []*detect.Request
}

// instances tells the requests of a group apart by who was called, where the address that
// was dialled is that of one alone.
func (e *Engine) instances(g *group) (out []instance) {
	for _, r := range g.requests {
		t, _ := explain.TargetOf(e.graph, r)
		if t.Process == 0 || t.Address == 0 || e.graph.Shared(t.Address) {
			continue
		}
		n := slices.IndexFunc(out, func(x instance) bool { return x.id == t.Process })
		if n < 0 {
			n = len(out)
			out = append(out, instance{id: t.Process})
		}
		out[n].requests = append(out[n].requests, r)
	}
	return out
}

// silent tells whether a request failed for want of an answer of a target that seems to
// take none, and is not decided yet.
func (e *Engine) silent(r *detect.Request) bool {
	target, _ := explain.TargetOf(e.graph, r)
	g := e.groups[groupKey{target.Key(), pattern.ServiceFailing}]
	return g != nil && g.silent
}

// silenceSince looks at requests that wait for an explanation and began to fail after a time. It returns false when any of them failed in another way than for want of
// an answer.
func (e *Engine) silenceSince(requests []*detect.Request, last int64) (s silence, ok bool) {
	for _, r := range requests {
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
