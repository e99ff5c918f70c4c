package visit

import (
	"encoding/binary"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// sweepEvery is how often open traces are looked through.
	sweepEvery = int64(time.Second)
	// maxAge is when a trace that never falls silent is judged as it is.
	maxAge = int64(2 * time.Minute)
	// maxFree bounds the buffers that are kept for the next traces, and maxKept the
	// spans and log records that such a buffer may hold.
	maxFree, maxKept = 1024, 512
	// adjustEvery is how often the sampler looks at the rate of traces.
	adjustEvery = int64(10 * time.Second)
	// extend is for how many windows the visits of an abnormal operation are judged.
	extend = 3
	// raiseEvery is how long the sampler waits until it takes in more.
	raiseEvery = int64(time.Minute)
)

// trace is a trace that is not complete.
type trace struct {
	id           record.TraceID
	hash         uint64
	opened, last int64
	spans        []Span
	logs         []Log
	cut          bool // not all of it was kept
	// root is the operation of the span that has no parent, 0 while it is not there,
	// ended when that arrived.
	root  record.EntityID
	ended int64
}

// completed is a trace in the window.
type completed struct {
	id     record.TraceID
	at     int64 // when it was completed
	visits []visit
}

// hash spreads trace ids, some of which begin with a time.
func hash(id record.TraceID) uint64 {
	x := binary.LittleEndian.Uint64(id[:8]) ^ binary.LittleEndian.Uint64(id[8:])*0x9e3779b97f4a7c15
	x ^= x >> 32 // the finalizer of MurmurHash3
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// sampler keeps the traces whose hash is below a limit that follows the load.
type sampler struct {
	limit  atomic.Uint64
	most   int // traces a second
	count  int
	since  int64
	before uint64 // the limit before it was last raised, at raised
	raised int64
}

func (s *sampler) init(most int) {
	s.most = most
	s.limit.Store(math.MaxUint64)
	s.before = math.MaxUint64
}

func (s *sampler) wants(h uint64) bool { return h <= s.limit.Load() }

func (s *sampler) share() float64 { return float64(s.limit.Load()) / math.MaxUint64 }

// opened counts a new trace.
func (s *sampler) opened(int64) { s.count++ }

// adjust follows the rate of new traces. It returns true when the limit fell.
func (s *sampler) adjust(now int64) bool {
	took := now - s.since
	switch {
	case s.since == 0 || took < 0:
		s.since, s.count, s.raised = now, 0, now
		return false
	case took < adjustEvery && s.count <= 2*s.most*int(adjustEvery/int64(time.Second)):
		return false
	}
	rate := float64(s.count) / (float64(max(took, int64(time.Second))) / float64(time.Second))
	s.since, s.count = now, 0
	limit := s.limit.Load()
	switch most := float64(s.most); {
	case rate > 1.2*most:
		limit = uint64(float64(limit) * most / rate)
		s.limit.Store(limit)
		s.before = min(s.before, limit)
		return true
	case rate < most/2 && limit != math.MaxUint64 && now-s.raised >= raiseEvery:
		s.before, s.raised = limit, now
		if limit > math.MaxUint64/2 {
			limit = math.MaxUint64
		} else {
			limit *= 2
		}
		s.limit.Store(limit)
	}
	return false
}

// whole tells whether a trace was looked at from its beginning: not when the limit
// was raised in the middle of it.
func (s *sampler) whole(h uint64, start int64) bool { return h <= s.before || start >= s.raised }

// doneSet remembers the last traces that were judged, by hash, and their roots.
type doneSet struct {
	in   map[uint64]record.EntityID
	ring []uint64
	next int
}

func (d *doneSet) init(n int) { d.in, d.ring = map[uint64]record.EntityID{}, make([]uint64, 0, n) }

func (d *doneSet) get(h uint64) (root record.EntityID, ok bool) {
	root, ok = d.in[h]
	return root, ok
}

func (d *doneSet) add(h uint64, root record.EntityID) {
	if len(d.ring) < cap(d.ring) {
		d.ring = append(d.ring, h)
	} else {
		delete(d.in, d.ring[d.next])
		d.ring[d.next] = h
		d.next = (d.next + 1) % len(d.ring)
	}
	d.in[h] = root
}

// Advance lets time pass: traces that are idle are completed, those that left the
// window become part of the past. now is the time of the data, in ns.
func (a *Analyzer) Advance(now int64) {
	if now < a.now-maxAge {
		a.restart(now) // the clock was set back: nothing would ever be idle
	}
	a.now = max(a.now, now)
	if a.now-a.swept < sweepEvery {
		return
	}
	a.swept = a.now
	fell := a.sampler.adjust(a.now)
	var ready []*trace
	for id, t := range a.open {
		switch {
		case fell && !a.sampler.wants(t.hash):
			a.release(t)
		case a.now-t.last >= a.patience(t), a.now-t.opened >= maxAge:
			ready = append(ready, t)
		default:
			continue
		}
		delete(a.open, id)
	}
	slices.SortFunc(ready, func(x, y *trace) int { return slices.Compare(x.id[:], y.id[:]) })
	for _, t := range ready {
		a.complete(t)
		a.release(t)
	}
	a.retire()
	a.forget()
	a.Counters.Open.Store(int64(len(a.open)))
	a.Counters.Window.Store(int64(len(a.window)))
	a.Counters.Operations.Store(int64(len(a.operations)))
	a.Counters.Measures.Store(int64(len(a.measures)))
}

func (a *Analyzer) restart(now int64) {
	a.now, a.swept, a.mark = now, 0, 0
	clear(a.open)
	clear(a.feeds)
	clear(a.outcries)
	a.window = nil
	a.sampler.since = 0
}

// release keeps the buffers of a trace for another.
func (a *Analyzer) release(t *trace) {
	if len(a.free) < maxFree && cap(t.spans) <= maxKept && cap(t.logs) <= maxKept {
		a.free = append(a.free, t)
	}
}

// tail is what is known of how long after their root span the rest of the traces that
// begin with an operation arrives: spans and log records come from several exporters,
// each with a delay of its own, and work may go on after the answer.
type tail struct {
	traces  int
	longest int64
}

const (
	// tailTraces is how many traces with a root it takes to know their tail.
	tailTraces = 10
	// tailTimes is what the longest tail so far is multiplied by, tailLeast the least
	// that is waited for all the same.
	tailTimes, tailLeast = 2, int64(2 * time.Second)
	// tailMemory is over how many traces the longest tail fades.
	tailMemory = 512
)

// patience is how long nothing of a trace must arrive until it is complete: Idle, or
// less once its root is there and what followed others like it is known.
func (a *Analyzer) patience(t *trace) int64 {
	idle := int64(a.options.Idle)
	if t.root == 0 || t.cut {
		return idle
	}
	o := a.operations[t.root]
	if o == nil || o.tail.traces < tailTraces {
		return idle
	}
	wait := min(max(tailTimes*o.tail.longest, tailLeast), idle)
	if wait <= a.now-t.last && t.abandoned() {
		return idle
	}
	return wait
}

// abandoned tells whether a call failed of which nothing is known at its other end: who
// was called may be at work still.
func (t *trace) abandoned() bool {
	return slices.ContainsFunc(t.spans, func(s Span) bool {
		return s.Failed && s.Kind == record.SpanClient && !slices.ContainsFunc(t.spans, func(c Span) bool { return c.Parent == s.ID })
	})
}

// add notes how long after its root the last of a trace arrived.
func (t *tail) add(length int64) {
	t.traces = min(t.traces+1, tailMemory)
	t.longest = max(t.longest-t.longest/tailMemory, length)
}

// tooSoon notes that a trace was judged before all of it was there.
func (a *Analyzer) tooSoon(root record.EntityID) {
	a.Counters.Late.Add(1)
	if o := a.operations[root]; o != nil {
		o.tail.longest = int64(a.options.Idle)
	}
}

// complete turns a trace into visits.
func (a *Analyzer) complete(t *trace) {
	a.done.add(t.hash, t.root)
	if t.cut || len(t.spans) == 0 {
		return
	}
	start := t.spans[0].Start
	for i := range t.spans {
		start = min(start, t.spans[i].Start)
	}
	if !a.sampler.whole(t.hash, start) {
		return
	}
	if visits := a.visits(t); len(visits) > 0 {
		waited := min(a.now-t.last, int64(a.options.Idle))
		for i := range visits {
			visits[i].waited = waited
		}
		a.window = append(a.window, completed{id: t.id, at: a.now, visits: visits})
		if o := a.operations[t.root]; o != nil {
			o.tail.add(max(t.last-t.ended, 0))
		}
	}
}

// retire moves what left the window into the past. Visits of an operation that is
// abnormal are judged for longer, so that the evidence against a rare operation
// adds up; then all of them that raised no alarm become part of the past at once. Were
// those that are as ever learned sooner than the odd ones beside them, the past would
// look more uniform than it was, and prove itself right.
func (a *Analyzer) retire() {
	gone := 0
	for t := range a.window {
		c := &a.window[t]
		age := a.now - c.at
		if age < int64(a.options.Window) {
			break
		}
		over := age >= extend*int64(a.options.Window)
		kept := false
		for i := range c.visits {
			v := &c.visits[i]
			frozen := a.frozen(v.operation.frozen)
			if !v.learned && (!frozen || over) && (!v.odd || a.accepted(v.operation.frozen)) {
				a.learn(v, c.at)
				v.learned = true
			}
			v.left = v.left || over || !frozen
			kept = kept || !v.left
		}
		if !kept {
			c.visits = nil
		}
		if c.visits == nil && t == gone {
			gone++
		}
	}
	a.window = a.window[gone:]
}
