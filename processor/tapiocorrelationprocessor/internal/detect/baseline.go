// Package detect says what is abnormal: operations that fail or are slow against
// their own past, and the requests that were hurt.
package detect

import (
	"math"
	"math/bits"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// bucketWidth and buckets make the window in which an operation is judged.
	bucketWidth = int64(10 * time.Second)
	buckets     = 6
	// minReference is how many requests a reference needs before anything is
	// judged against it.
	minReference = 30
	// decayAt halves the reference when it holds that many requests, so that an
	// operation's past is its last hours, not its first.
	decayAt = 20_000
	// Alarm is the z score at which an operation is abnormal. At 4.5 the first
	// alarm named the right service in 44 of 45 labelled cases, at 3.5 it was
	// wrong in 5 (Nezha TrainTicket cases, prototype).
	Alarm = 4.5
	// minSlowMargin is what a slow request must exceed the median by.
	minSlowMargin = int64(20 * time.Millisecond)
)

// Counts are requests of one operation.
type Counts struct {
	Requests, Failed, Slow float64
}

func (c *Counts) add(o Counts) {
	c.Requests += o.Requests
	c.Failed += o.Failed
	c.Slow += o.Slow
}

// Verdict is how an operation does now against its past.
type Verdict struct {
	Window, Reference Counts
	// FailedZ and SlowZ are signed two-sample G scores, 0 without a reference.
	FailedZ, SlowZ float64
	// SlowOver is the duration above which a request is slow, 0 when unknown.
	SlowOver time.Duration
}

type bucket struct {
	start int64
	Counts
	durations histogram
}

type operation struct {
	reference Counts
	durations histogram
	window    [buckets]bucket
	slowOver  int64
	seen      int64
}

// Baselines hold the past of every operation. They are used by one goroutine.
type Baselines struct {
	operations map[record.EntityID]*operation
	recent     recent[operation]
	// threshold is told when the duration above which a request of an operation
	// is slow changes, and returns false when none of it is ever slow.
	threshold func(operation record.EntityID, ns int64) bool
	bound     int
	dropped   uint64
}

// NewBaselines returns baselines of at most bound operations that tell threshold
// what is slow; it returns false for an operation of which nothing is, as it waits on purpose.
func NewBaselines(bound int, threshold func(record.EntityID, int64) bool) *Baselines {
	return &Baselines{operations: map[record.EntityID]*operation{}, threshold: threshold, bound: max(bound, 1)}
}

// Dropped returns how many spans were not counted because there were too many
// operations.
func (b *Baselines) Dropped() uint64 { return b.dropped }

// Len returns how many operations are held.
func (b *Baselines) Len() int { return len(b.operations) }

// Observe counts one span of an operation.
func (b *Baselines) Observe(id record.EntityID, at, duration int64, failed bool) {
	o := b.recent.get(b.operations, id)
	if o == nil {
		if len(b.operations) >= b.bound {
			b.dropped++
			return
		}
		o = &operation{}
		b.operations[id] = o
	}
	o.seen = max(o.seen, at)
	start := at - at%bucketWidth
	w := &o.window[(start/bucketWidth)%buckets]
	if w.start != start {
		if start < w.start {
			b.dropped++ // later than the window
			return
		}
		o.retire(w)
		*w = bucket{start: start}
		b.refresh(id, o)
	}
	w.Requests++
	if failed {
		w.Failed++
	}
	if o.slowOver > 0 && duration > o.slowOver {
		w.Slow++
	}
	w.durations.add(duration)
}

// retire moves what left the window into the reference, unless the operation is
// in alarm: a fault must not become the norm.
func (o *operation) retire(w *bucket) {
	if w.Requests == 0 {
		return
	}
	v := o.judge(w.start + buckets*bucketWidth - 1)
	if v.FailedZ >= Alarm || v.SlowZ >= Alarm {
		return
	}
	o.reference.add(w.Counts)
	o.durations.merge(&w.durations)
	if o.reference.Requests > decayAt {
		o.reference.Requests /= 2
		o.reference.Failed /= 2
		o.reference.Slow /= 2
		o.durations.halve()
	}
}

// refresh computes what is slow: above twice the 95th percentile of the
// reference and above its median by a margin that people notice.
func (b *Baselines) refresh(id record.EntityID, o *operation) {
	if o.reference.Requests < minReference {
		return
	}
	over := max(2*o.durations.quantile(0.95), o.durations.quantile(0.5)+minSlowMargin)
	if over != o.slowOver && b.threshold(id, over) {
		o.slowOver = over
	}
}

// Judge compares the last minute of an operation with its reference.
func (b *Baselines) Judge(id record.EntityID, at int64) Verdict {
	if o := b.operations[id]; o != nil {
		return o.judge(at)
	}
	return Verdict{}
}

func (o *operation) judge(at int64) Verdict {
	v := Verdict{Reference: o.reference, SlowOver: time.Duration(o.slowOver)}
	for i := range o.window {
		if w := &o.window[i]; w.Requests > 0 && w.start > at-buckets*bucketWidth && w.start <= at {
			v.Window.add(w.Counts)
		}
	}
	if v.Reference.Requests >= minReference && v.Window.Requests > 0 {
		v.FailedZ = Score(v.Window.Failed, v.Window.Requests, v.Reference.Failed, v.Reference.Requests)
		v.SlowZ = Score(v.Window.Slow, v.Window.Requests, v.Reference.Slow, v.Reference.Requests)
	}
	return v
}

// Sweep forgets operations that were not seen since a time or are not known any
// more.
func (b *Baselines) Sweep(before int64, known func(record.EntityID) bool) {
	for id, o := range b.operations {
		if o.seen < before || !known(id) {
			delete(b.operations, id)
		}
	}
	clear(b.recent[:])
}

// Score is the signed two-sample G statistic as a z score: sqrt(2 (n1 KL(p1|p) +
// n0 KL(p0|p))) with p pooled, positive when k1 of n1 is more than k0 of n0.
func Score(k1, n1, k0, n0 float64) float64 {
	if n1 <= 0 || n0 <= 0 {
		return 0
	}
	p1, p0, p := k1/n1, k0/n0, (k1+k0)/(n1+n0)
	z := math.Sqrt(2 * max(n1*divergence(p1, p)+n0*divergence(p0, p), 0))
	if p1 < p0 {
		return -z
	}
	return z
}

// divergence is the Kullback-Leibler divergence of two Bernoulli distributions.
func divergence(p, q float64) float64 {
	d := 0.0
	if p > 0 {
		d += p * math.Log(p/q)
	}
	if p < 1 {
		d += (1 - p) * math.Log((1-p)/(1-q))
	}
	return d
}

// histogram counts durations in four buckets per power of two: quantiles are
// too high by at most 25 %, which is enough for a factor of two.
type histogram struct {
	counts [4 * 48]uint32
	total  uint64
}

func bucketOf(ns int64) int {
	if ns < 4 {
		return 0
	}
	top := bits.Len64(uint64(ns)) - 1
	i := 4*(top-1) + int(uint64(ns)>>(top-2)&3)
	return min(i, 4*48-1)
}

// upper is the largest duration of a bucket. Bucket 0 holds what is below 4 ns.
func upper(i int) int64 {
	if i < 4 {
		return 3
	}
	top := i/4 + 1
	return (int64(i%4)+5)<<(top-2) - 1
}

func (h *histogram) add(ns int64) {
	h.counts[bucketOf(ns)]++
	h.total++
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
}

func (h *histogram) halve() {
	h.total = 0
	for i := range h.counts {
		h.counts[i] /= 2
		h.total += uint64(h.counts[i])
	}
}

func (h *histogram) quantile(q float64) int64 {
	rank := uint64(math.Ceil(q * float64(h.total)))
	var n uint64
	for i, c := range h.counts {
		if n += uint64(c); n >= rank && c > 0 {
			return upper(i)
		}
	}
	return 0
}
