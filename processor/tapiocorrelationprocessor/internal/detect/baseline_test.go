package detect

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	op  = record.EntityID(7)
	ms  = int64(time.Millisecond)
	sec = int64(time.Second)
)

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano()

func known(record.EntityID) bool { return true }

// rig is a Baselines and the threshold that it told last.
type rig struct {
	*Baselines
	slowOver map[record.EntityID]int64
}

func newRig(bound int) rig {
	r := rig{slowOver: map[record.EntityID]int64{}}
	r.Baselines = NewBaselines(bound, func(id record.EntityID, ns int64) bool { r.slowOver[id] = ns; return true })
	return r
}

// feed observes ten spans a second from a time on, of which every n-th fails (0:
// none), and returns when it ends.
func (r rig) feed(from int64, d time.Duration, took int64, n int) int64 {
	i := 0
	for t := from; t < from+int64(d); t += sec / 10 {
		i++
		r.Observe(op, t, took, n > 0 && i%n == 0)
	}
	return from + int64(d)
}

func TestScore(t *testing.T) {
	for _, tc := range []struct{ k1, n1, k0, n0, want float64 }{
		// By hand: p = 1/2; sqrt(2 * (10*ln 2 + 10*ln 2)) = sqrt(40 ln 2).
		{10, 10, 0, 10, math.Sqrt(40 * math.Ln2)},
		{0, 10, 10, 10, -math.Sqrt(40 * math.Ln2)},
		// notes of the prototype: 5 of 5 against 0 of 15 is z 4.7.
		{5, 5, 0, 15, 4.743},
		{3, 10, 30, 100, 0},
		{0, 10, 0, 10, 0},
		{10, 10, 10, 10, 0},
		{1, 0, 1, 10, 0},
		{1, 10, 1, 0, 0},
	} {
		assert.InDelta(t, tc.want, Score(tc.k1, tc.n1, tc.k0, tc.n0), 1e-3, "%v of %v against %v of %v", tc.k1, tc.n1, tc.k0, tc.n0)
	}
}

func TestScoreHasTheSignOfTheDifference(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		n1, n0 := float64(1+random.IntN(1000)), float64(1+random.IntN(1000))
		k1, k0 := math.Floor(random.Float64()*(n1+1)), math.Floor(random.Float64()*(n0+1))
		z := Score(k1, n1, k0, n0)
		require.False(t, math.IsNaN(z) || math.IsInf(z, 0), "%v/%v %v/%v", k1, n1, k0, n0)
		require.InDelta(t, -z, Score(k0, n0, k1, n1), 1e-9)
		if k1/n1 > k0/n0 {
			require.GreaterOrEqual(t, z, 0.0)
		}
	}
}

func TestNoAlarmWithoutReference(t *testing.T) {
	r := newRig(10)
	end := r.feed(start, 50*time.Second, 5*ms, 1) // everything fails, from the first
	v := r.Judge(op, end)
	assert.EqualValues(t, 500, v.Window.Failed)
	assert.Zero(t, v.Reference.Requests)
	assert.Zero(t, v.FailedZ)
	assert.Zero(t, v.SlowZ)
	assert.Empty(t, r.slowOver)
	assert.Equal(t, Verdict{}, r.Judge(99, end), "never seen")
}

func TestAlarmAgainstThePast(t *testing.T) {
	r := newRig(10)
	end := r.feed(start, 3*time.Minute, 5*ms, 100)
	assert.Less(t, r.Judge(op, end).FailedZ, Alarm, "as ever")
	end = r.feed(end, 20*time.Second, 5*ms, 2)
	v := r.Judge(op, end)
	assert.GreaterOrEqual(t, v.FailedZ, Alarm)
	assert.Less(t, v.SlowZ, Alarm)
}

func TestSlowThreshold(t *testing.T) {
	r := newRig(10)
	end := r.feed(start, 2*time.Minute, 5*ms, 0)
	over := r.slowOver[op]
	assert.Greater(t, over, 25*ms-1, "the median and what people notice")
	assert.Less(t, over, 27*ms)
	end = r.feed(end, 20*time.Second, 100*ms, 0)
	v := r.Judge(op, end)
	assert.Equal(t, time.Duration(over), v.SlowOver)
	assert.EqualValues(t, 200, v.Window.Slow)
	assert.GreaterOrEqual(t, v.SlowZ, Alarm)

	r = newRig(10) // slow by nature: twice the 95th percentile
	r.feed(start, 2*time.Minute, 400*ms, 0)
	assert.InEpsilon(t, 800*ms, r.slowOver[op], 0.25)
}

// Spans without a length are common: SDKs whose clock counts milliseconds.
func TestSpansWithoutLength(t *testing.T) {
	for _, took := range []int64{0, 1, 3, -5} {
		r := newRig(10)
		require.NotPanics(t, func() { r.feed(start, 2*time.Minute, took, 0) })
		assert.InDelta(t, 20*ms, r.slowOver[op], 100)
	}
}

// A fault that lasts does not become the norm.
func TestReferenceIsFrozenInAlarm(t *testing.T) {
	r := newRig(10)
	end := r.feed(start, 5*time.Minute, 5*ms, 0)
	before := r.Judge(op, end).Reference
	end = r.feed(end, 30*time.Minute, 5*ms, 2)
	v := r.Judge(op, end)
	assert.Equal(t, before.Failed, v.Reference.Failed, "no failure was learned")
	assert.GreaterOrEqual(t, v.FailedZ, Alarm, "still an alarm half an hour later")
	end = r.feed(end, 5*time.Minute, 5*ms, 0)
	v = r.Judge(op, end)
	assert.Less(t, v.FailedZ, Alarm, "over")
	assert.Greater(t, v.Reference.Requests, before.Requests, "and learning again")
}

func TestReferenceForgets(t *testing.T) {
	r := newRig(10)
	end := r.feed(start, 2*time.Hour, 5*ms, 0)
	assert.LessOrEqual(t, r.Judge(op, end).Reference.Requests, float64(decayAt))
	assert.InDelta(t, 25*ms, r.slowOver[op], float64(2*ms), "halving keeps the shape")
}

func TestLateAndBackwardTimes(t *testing.T) {
	r := newRig(10)
	end := r.feed(start, 2*time.Minute, 5*ms, 0)
	before := r.Judge(op, end)
	r.Observe(op, start, 5*ms, true) // two minutes late: its place in the window is taken
	assert.Equal(t, before, r.Judge(op, end))
	r.Observe(op, end-20*sec, 5*ms, true) // twenty seconds late: still counted
	assert.Equal(t, before.Window.Failed+1, r.Judge(op, end).Window.Failed)

	require.NotPanics(t, func() { r.feed(start-int64(time.Hour), time.Minute, 5*ms, 1) }) // the clock went back an hour
	assert.Zero(t, r.Judge(op, start-int64(time.Hour)).Window.Requests, "nothing of what comes later is in an earlier window")
	assert.Less(t, r.Judge(op, end).FailedZ, Alarm)
}

func TestBaselinesAreBounded(t *testing.T) {
	r := newRig(3)
	for id := record.EntityID(1); id <= 5; id++ {
		r.Observe(id, start, ms, false)
	}
	assert.Equal(t, 3, r.Len())
	assert.EqualValues(t, 2, r.Dropped())
	r.Observe(1, start+100*sec, ms, false)
	r.Sweep(start+50*sec, known)
	assert.Equal(t, 1, r.Len(), "what was not seen since is forgotten")
	r.Sweep(0, func(record.EntityID) bool { return false })
	assert.Zero(t, r.Len(), "what the topology forgot too")
}

// Quantiles are right to within a quarter of the value, the width of a bucket.
func TestQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for name, draw := range map[string]func() int64{
		"log-normal":  func() int64 { return int64(5e6 * math.Exp(random.NormFloat64())) },
		"uniform":     func() int64 { return 4 + random.Int64N(1e9) },
		"exponential": func() int64 { return 4 + int64(2e7*random.ExpFloat64()) },
	} {
		t.Run(name, func(t *testing.T) {
			var h histogram
			var all []int64
			for range 10_000 {
				x := draw()
				h.add(x)
				all = append(all, x)
			}
			slices.Sort(all)
			for _, q := range []float64{0.01, 0.5, 0.9, 0.95, 0.99, 1} {
				exact := all[int(math.Ceil(q*float64(len(all))))-1]
				got := h.quantile(q)
				assert.GreaterOrEqual(t, got, exact)
				assert.LessOrEqual(t, float64(got), 1.25*float64(exact), "q %v", q)
			}
		})
	}
	assert.Zero(t, (&histogram{}).quantile(0.5), "empty")
}

func TestBuckets(t *testing.T) {
	for i := range len((&histogram{}).counts) {
		if u := upper(i); i >= 4 || i == 0 { // 1 to 3 are not used
			assert.Equal(t, i, bucketOf(u), "bucket %d holds its upper end %d", i, u)
		}
	}
	for _, ns := range []int64{math.MinInt64, -1, 0, 3, 4, 5, 1 << 40, math.MaxInt64} {
		i := bucketOf(ns)
		assert.True(t, i >= 0 && i < len((&histogram{}).counts), "%d", ns)
	}
}
