package visit

import (
	"math/bits"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// minSlowMargin is what a slow call must exceed the median by: a factor of two
	// on a millisecond hurts nobody.
	minSlowMargin = int64(20 * time.Millisecond)
	// minCallsMargin is what a burst of calls must exceed the median by.
	minCallsMargin = 3
	// minMeasured is how many values of the past a threshold needs.
	minMeasured = 5
	// measureDecay halves a measure's past when it holds so many values.
	measureDecay = 20_000
	// near is by what factor a value is above the median, far by what factor above the
	// limit, to be slow by little and by far; levels counts these and the limit itself.
	near, far = 4, 4
	levels    = 3
	// wait is from which median on a duration without anything below it is an
	// intentional wait: a long poll, a stream, a consumer.
	wait = int64(5 * time.Second)
)

// measureKind is what a measure measures.
type measureKind uint8

const (
	measureGap   measureKind = iota // a: calling service, b: called operation
	measureLeaf                     // a: operation of a leaf span
	measureSelf                     // a: operation of the entry span
	measureCalls                    // a: operation, b: called operation; a count
)

type measureKey struct {
	kind measureKind
	a, b record.EntityID
}

// measure is the past of one quantity.
type measure struct {
	key measureKey
	// service is to whom it counts: for a gap the called one.
	service record.EntityID
	past    histogram
	seen    int64
	frozen  int64 // since when it is abnormal, 0 when it is not
	odd     int64 // when it was last

	// What follows is of the judgement under way.
	round     uint64
	threshold int64 // 0 without one
	n0, k0    float64
	n, k, kw  float64 // window: all, anomalous, anomalous and not explained
	traces    int
	trace     int
	z         float64
	sum       float64 // of the anomalous values
	// Of a gap: the score of the caller's calls, and whether that, not who is called,
	// is to blame.
	outward float64
	caller  bool
	// Of a gap: what is slow by little, as usual and by far, how many calls of the window
	// and of the past are, and the sums of those of the window.
	level             [levels]int64
	slow, slow0, sums [levels]float64
}

// steps sets the levels of a gap. A past that knows slow calls has a high limit; that
// nearly all calls are slow now, or that some are slower by far, shows at others.
func (m *measure) steps() {
	median := m.past.quantile(0.5)
	m.level = [levels]int64{min(max(near*median, median+minSlowMargin), m.threshold), m.threshold, far * m.threshold}
	for l, above := range m.level {
		m.slow[l], m.sums[l], m.slow0[l] = 0, 0, m.past.above(above)
	}
}

// at makes a level of a gap its threshold.
func (m *measure) at(level int) {
	m.threshold, m.k, m.k0, m.sum = m.level[level], m.slow[level], m.slow0[level], m.sums[level]
}

// limit returns above what a value is abnormal, 0 when the past is too short to
// say.
func (m *measure) limit() int64 {
	if m.past.total < minMeasured {
		return 0
	}
	median, high := m.past.quantile(0.5), m.past.quantile(0.95)
	switch m.key.kind {
	case measureCalls:
		return max(2*high, median+minCallsMargin)
	case measureLeaf, measureSelf:
		if median >= wait {
			return 0
		}
	}
	return max(2*high, median+minSlowMargin)
}

func (m *measure) score(k float64) float64 { return detect.Score(k, m.n, m.k0, m.n0) }

func (m *measure) learn(v int64) {
	m.past.add(v)
	if m.past.total > measureDecay {
		m.past.halve()
	}
}

// histogram counts values in four buckets per power of two from 4 on: quantiles
// are too high by at most 25 %.
type histogram struct {
	counts [4 * 40]uint32 // up to 2^41 ns, 36 minutes
	total  uint64
}

func bucketOf(v int64) int {
	if v < 4 {
		return int(max(v, 0))
	}
	top := bits.Len64(uint64(v)) - 1
	return min(4*(top-1)+int(uint64(v)>>(top-2)&3), 4*40-1)
}

// upper is the largest value of a bucket.
func upper(i int) int64 {
	if i < 4 {
		return int64(i)
	}
	top := i/4 + 1
	return (int64(i%4)+5)<<(top-2) - 1
}

func (h *histogram) add(v int64) {
	h.counts[bucketOf(v)]++
	h.total++
}

func (h *histogram) halve() {
	h.total = 0
	for i := range h.counts {
		h.counts[i] /= 2
		h.total += uint64(h.counts[i])
	}
}

func (h *histogram) quantile(q float64) int64 {
	rank := uint64(q*float64(h.total)) + 1
	var n uint64
	for i, c := range h.counts {
		if n += uint64(c); n >= min(rank, h.total) && c > 0 {
			return upper(i)
		}
	}
	return 0
}

// above returns how many values lie in buckets above that of v.
func (h *histogram) above(v int64) float64 {
	var n uint64
	for _, c := range h.counts[bucketOf(v)+1:] {
		n += uint64(c)
	}
	return float64(n)
}
