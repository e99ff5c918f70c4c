package detect

import (
	"math"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// maxSpans bounds the spans that are kept of one hurt request.
const maxSpans = 128

// HurtSpan is a failed or slow span and whose it was.
type HurtSpan struct {
	*record.Span
	Subject record.EntityID
}

// Request is one trace that has failed or slow spans: what is known of the
// request that was hurt.
type Request struct {
	TraceID record.TraceID
	Spans   []HurtSpan
	// First and Last are the ends of its first and last hurt span.
	First, Last int64
	// Changed is the engine's time of the last span that was added.
	Changed int64
	// Assigned is what the engine notes of the incident that hurt it, nil before.
	Assigned any
	// Settled is set by the engine once no more spans are waited for.
	Settled bool

	ends []int64 // see callersEnds
}

// Failed tells whether any span of the request failed.
func (r *Request) Failed() bool {
	for _, s := range r.Spans {
		if s.Failed {
			return true
		}
	}
	return false
}

// gaveUpSlack is how much later than its caller gave up a span can seem to start:
// two hosts read two clocks.
const gaveUpSlack = int64(100 * time.Millisecond)

// Below returns the hurt span that is the child of s and ended first, and false
// when there is none: then s is where it began, as far as is known. What began
// only after a caller above had given up is no reason for that caller's failure.
func (r *Request) Below(s HurtSpan) (HurtSpan, bool) {
	failed := r.Failed()
	ends := r.callersEnds()
	var below HurtSpan
	for i, c := range r.Spans {
		if c.Parent == s.ID && c.ID != s.ID && (c.Failed || !failed) && c.Start <= ends[i]+gaveUpSlack &&
			(below.Span == nil || c.End < below.End) {
			below = c
		}
	}
	return below, below.Span != nil
}

// callersEnds returns for each span when the first of the hurt spans above it
// ended. It is computed anew when spans were added.
func (r *Request) callersEnds() []int64 {
	if len(r.ends) == len(r.Spans) {
		return r.ends
	}
	at := make(map[record.SpanID]int, len(r.Spans))
	for i, s := range r.Spans {
		at[s.ID] = i
	}
	r.ends = make([]int64, len(r.Spans))
	for i, s := range r.Spans {
		r.ends[i] = math.MaxInt64 - gaveUpSlack
		for range r.Spans { // a bound on the way up: parents may form a circle
			up, ok := at[s.Parent]
			if !ok || up == i {
				break
			}
			s = r.Spans[up]
			r.ends[i] = min(r.ends[i], s.End)
		}
	}
	return r.ends
}

// above tells whether the parent of s is a hurt span of the same class too.
func (r *Request) above(s HurtSpan, failed bool) bool {
	for _, p := range r.Spans {
		if p.ID == s.Parent && p.ID != s.ID && (p.Failed || !failed) {
			return true
		}
	}
	return false
}

// Origin returns the deepest hurt span: of those below which nothing is hurt,
// the one that ended first.
func (r *Request) Origin() HurtSpan {
	failed := r.Failed()
	var origin HurtSpan
	ends := r.callersEnds()
	for i, s := range r.Spans {
		if (failed && !s.Failed) || s.Start > ends[i]+gaveUpSlack {
			continue
		}
		if _, deeper := r.Below(s); !deeper && (origin.Span == nil || s.End < origin.End) {
			origin = s
		}
	}
	if origin.Span == nil && len(r.Spans) > 0 { // a cycle of parents: hostile input
		origin = r.Spans[0]
	}
	return origin
}

// Waits returns the slow spans below which nothing is hurt: where a request lost time.
func (r *Request) Waits() []HurtSpan {
	above := make(map[record.SpanID]bool, len(r.Spans))
	for _, s := range r.Spans {
		if s.Parent != s.ID {
			above[s.Parent] = true
		}
	}
	var out []HurtSpan
	for _, s := range r.Spans {
		if !s.Failed && !above[s.ID] {
			out = append(out, s)
		}
	}
	return out
}

// Entry returns the span through which the request came in, if it was hurt: the
// root span, or a server span whose caller is not among the hurt spans. certain
// is true for the root: a server span's caller may still arrive, or may have
// coped with the failure.
func (r *Request) Entry() (entry HurtSpan, certain, ok bool) {
	failed := r.Failed()
	for _, s := range r.Spans {
		if failed && !s.Failed {
			continue
		}
		if s.Parent == (record.SpanID{}) {
			return s, true, true
		}
		if s.Kind == record.SpanServer && !r.above(s, failed) && (!ok || s.Start < entry.Start) {
			entry, ok = s, true
		}
	}
	return entry, false, ok
}

// Requests holds hurt requests up to a bound and forgets the oldest first. It is
// used by one goroutine.
type Requests struct {
	bound   int
	byTrace map[record.TraceID]*Request
	order   []*Request // by arrival; a circle that begins at first
	first   int
	evicted uint64
	cut     uint64
}

// NewRequests returns a store for at most bound requests.
func NewRequests(bound int) *Requests {
	return &Requests{bound: max(bound, 1), byTrace: map[record.TraceID]*Request{}}
}

// Len returns how many requests are held.
func (rs *Requests) Len() int { return len(rs.byTrace) }

// Of returns the hurt request of a trace, nil when there is none.
func (rs *Requests) Of(trace record.TraceID) *Request { return rs.byTrace[trace] }

// Evicted returns how many requests were forgotten for want of space.
func (rs *Requests) Evicted() uint64 { return rs.evicted }

// Cut returns how many spans were beyond the bound of their request.
func (rs *Requests) Cut() uint64 { return rs.cut }

// Add adds a hurt span to its request and returns the request. It returns false
// when the span was there already (a retried export) or there is no room in it.
func (rs *Requests) Add(trace record.TraceID, s HurtSpan, now int64) (*Request, bool) {
	r := rs.byTrace[trace]
	if r == nil {
		r = &Request{TraceID: trace, First: s.End, Last: s.End}
		rs.byTrace[trace] = r
		rs.remember(r)
	}
	for _, known := range r.Spans {
		if known.ID == s.ID {
			return r, false
		}
	}
	if len(r.Spans) >= maxSpans {
		rs.cut++
		return r, false
	}
	r.Spans = append(r.Spans, s)
	r.First, r.Last, r.Changed = min(r.First, s.End), max(r.Last, s.End), now
	return r, true
}

func (rs *Requests) remember(r *Request) {
	if len(rs.order) < rs.bound {
		rs.order = append(rs.order, r)
		return
	}
	if old := rs.order[rs.first]; old != nil {
		delete(rs.byTrace, old.TraceID)
		rs.evicted++
	}
	rs.order[rs.first] = r
	rs.first = (rs.first + 1) % rs.bound
}

// Sweep forgets requests that ended before a time.
func (rs *Requests) Sweep(before int64) {
	kept := make([]*Request, 0, len(rs.byTrace))
	for i := range rs.order {
		r := rs.order[(rs.first+i)%len(rs.order)]
		if r == nil || rs.byTrace[r.TraceID] != r {
			continue
		}
		if r.Last < before {
			delete(rs.byTrace, r.TraceID)
			continue
		}
		kept = append(kept, r)
	}
	rs.order, rs.first = kept, 0
}

// Each calls f for every request that is held, oldest first.
func (rs *Requests) Each(f func(*Request)) {
	for i := range rs.order {
		r := rs.order[(rs.first+i)%len(rs.order)]
		if r != nil && rs.byTrace[r.TraceID] == r {
			f(r)
		}
	}
}
