package ebpfreceiver

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

const (
	mib = 1 << 20
	// every is how often memory is sampled, longAgo when a process began that is old.
	every = 10 * time.Second
)

// samplesOf makes samples of a course in MiB.
func samplesOf(n int, course func(i int) float64) []memorySample {
	out := make([]memorySample, n)
	for i := range out {
		out[i] = memorySample{at: uint64(time.Hour) + uint64(i)*uint64(every), rss: uint64(course(i) * mib)}
	}
	return out
}

func TestGrowing(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	noise := func(v float64) float64 { return v + 8*random.Float64() }
	for name, tc := range map[string]struct {
		n      int
		course func(i int) float64
		slope  float64 // MiB a second, 0: it does not grow
	}{
		"a leak":                       {30, func(i int) float64 { return 200 + 2*float64(i) }, 0.2},
		"a leak with noise":            {30, func(i int) float64 { return noise(200 + 2*float64(i)) }, 0.2},
		"a leak under saw teeth":       {30, func(i int) float64 { return 200 + 4*float64(i) + 10*float64(i%4) }, 0.4},
		"few samples":                  {9, func(i int) float64 { return 200 + 20*float64(i) }, 0},
		"steady":                       {30, func(int) float64 { return noise(200) }, 0},
		"saw teeth alone":              {30, func(i int) float64 { return 200 + 30*float64(i%10) }, 0},
		"one jump":                     {30, func(i int) float64 { return 200 + 100*float64(i/15) }, 0},
		"levels off":                   {30, func(i int) float64 { return 500 - 300*math.Exp(-float64(i)/5) }, 0},
		"shrinks":                      {30, func(i int) float64 { return 500 - 2*float64(i) }, 0},
		"too little to tell":           {30, func(i int) float64 { return 200 + 0.5*float64(i) }, 0},
		"little for so big a process":  {30, func(i int) float64 { return 8000 + 5*float64(i) }, 0},
		"rises, falls and rises again": {30, func(i int) float64 { return 200 + 3*float64(i) + 60*float64(i%2) }, 0},
	} {
		g, ok := growing(samplesOf(tc.n, tc.course))
		assert.Equal(t, tc.slope > 0, ok, name)
		if ok {
			assert.InEpsilon(t, tc.slope, g.slope/mib, 0.2, name)
			assert.Equal(t, 29*every, g.over)
		}
	}
	still := samplesOf(30, func(i int) float64 { return 200 + 2*float64(i) })
	for i := range still {
		still[i].at = 7
	}
	_, ok := growing(still)
	assert.False(t, ok, "a clock that stands still")
}

// live lets a process live for some samples, and returns when each event came.
func live(w *growthWatch, n int, read func(i int) memoryReading) (at []int, events []growthEvent) {
	for i := range n {
		for _, ev := range w.sample(uint64(time.Hour)+uint64(i)*uint64(every), []memoryReading{read(i)}) {
			at, events = append(at, i), append(events, ev)
		}
	}
	return at, events
}

func TestGrowthOfAProcess(t *testing.T) {
	t.Parallel()
	old, young := testProcess, testProcess
	old.started, young.started = 1, uint64(time.Hour)
	grows := func(i int) uint64 { return uint64(200+2*i) * mib }

	at, events := live(newGrowthWatch(5*time.Minute, every), 100, func(i int) memoryReading { return memoryReading{who: old, rss: grows(i)} })
	assert.Equal(t, []int{29, 59, 89}, at, "once it is known, then once in each window")
	assert.Zero(t, events[0].left, "no limit, no end")
	assert.False(t, events[0].isNear())

	at, _ = live(newGrowthWatch(5*time.Minute, every), 100, func(i int) memoryReading { return memoryReading{who: young, rss: grows(i)} })
	assert.Equal(t, []int{59, 89}, at, "what begins fills its caches: the first window does not count")

	at, _ = live(newGrowthWatch(2*time.Minute, every), 40, func(i int) memoryReading { return memoryReading{who: young, rss: grows(i)} })
	assert.Equal(t, []int{23, 35}, at, "a window of few samples is as long as it says")

	at, events = live(newGrowthWatch(5*time.Minute, every), 20, func(i int) memoryReading {
		return memoryReading{who: young, rss: grows(4 * i), limit: 400 * mib, usage: grows(4*i) + 10*mib}
	})
	require.NotEmpty(t, at, "near its limit it is told at once")
	assert.Equal(t, growthMin-1, at[0])
	assert.True(t, events[0].isNear())
	assert.InEpsilon(t, (400-10-272)/0.8, events[0].left.Seconds(), 0.05)

	at, _ = live(newGrowthWatch(5*time.Minute, every), 100, func(int) memoryReading {
		return memoryReading{who: old, rss: 300 * mib, limit: 310 * mib, usage: 305 * mib}
	})
	assert.Empty(t, at, "near its limit, and content with it")
}

func TestGrowthIsBounded(t *testing.T) {
	t.Parallel()
	w := newGrowthWatch(5*time.Minute, every)
	many := make([]memoryReading, 1000)
	for i := range many {
		many[i] = memoryReading{who: processInfo{started: 1, pid: uint32(i + 1)}, rss: uint64(i)}
	}
	w.sample(1, many)
	assert.Len(t, w.known, maxGrowing)
	assert.Equal(t, int64(1000-maxGrowing), w.leftOut)
	assert.Contains(t, w.known, memoryKey{1, 1000}, "the biggest are watched")
	w.sample(uint64(every), nil)
	assert.Empty(t, w.known, "who is gone is forgotten")
	w.sample(5, []memoryReading{{who: testProcess}})
	w.sample(3, []memoryReading{{who: testProcess}}) // a clock that went back
	assert.Len(t, w.known, 1)
}

func TestGrowthSentence(t *testing.T) {
	t.Parallel()
	ev := growthEvent{
		base: base{5, testProcess}, steadyGrowth: steadyGrowth{by: 60 * mib, slope: 0.2 * mib, over: 5 * time.Minute}, rss: 300 * mib,
		limit: 400 * mib, usage: 310 * mib, limitCgroup: "/shop/payment", left: 450 * time.Second,
	}
	record, _ := encodeOne(t, ev)
	assert.Equal(t, plog.SeverityNumberWarn, record.SeverityNumber())
	assert.Equal(t, "payment (pid 42) holds 300.0 MiB and grows steadily: 60.0 MiB in 5m0s; cgroup /shop/payment is at its limit of 400.0 MiB in 7m30s at this slope", record.Body().Str())
	assert.InDelta(t, 450, record.Attributes().AsRaw()[event.KeyMemoryTimeToLimit], 1e-9)

	ev.limit, ev.usage, ev.limitCgroup, ev.left = 0, 0, "", 0
	record, _ = encodeOne(t, ev)
	assert.Equal(t, plog.SeverityNumberInfo, record.SeverityNumber())
	assert.NotContains(t, record.Attributes().AsRaw(), event.KeyMemoryLimit)
	assert.NotContains(t, record.Attributes().AsRaw(), event.KeyMemoryTimeToLimit)
}

func TestForkStorm(t *testing.T) {
	t.Parallel()
	storms := func(rates ...float64) (at []int) {
		var f forkRate
		for i, r := range rates {
			usual, isStorm := f.judge(r)
			assert.Equal(t, i < baselineMin, usual < 0, "what is usual is known from then on")
			if isStorm {
				at = append(at, i)
			}
		}
		return at
	}
	quiet := []float64{0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1}
	then := func(rates ...float64) []float64 { return slices.Concat(quiet, rates) }
	assert.Empty(t, storms(quiet...))
	assert.Empty(t, storms(then(900)...), "one burst")
	assert.Equal(t, []int{21, 22}, storms(then(900, 800, 700)...))
	assert.Empty(t, storms(then(40, 40, 40)...), "few in all")
	assert.Empty(t, storms(900, 800, 900, 850, 800), "nothing is known yet: a builder")
	assert.Equal(t, []int{1, 2}, storms(9000, 9000, 9000), "too many, whatever is usual")
}

func TestReclaimMatters(t *testing.T) {
	t.Parallel()
	ev := reclaimEvent{base: base{at: 5, who: processInfo{cgroup: "/shop/payment"}}, stalls: *requests(500, time.Millisecond), freed: 10 * mib, interval: 10 * time.Second}
	record, _ := encodeOne(t, ev)
	assert.Equal(t, plog.SeverityNumberDebug, record.SeverityNumber())
	assert.False(t, ev.isUrgent())
	ev.stalls = *requests(500, 4*time.Millisecond)
	record, resource := encodeOne(t, ev)
	assert.Equal(t, plog.SeverityNumberWarn, record.SeverityNumber())
	assert.Equal(t, "/shop/payment", resource[event.KeyProcessCgroup])
	assert.InDelta(t, 0.2, record.Attributes().AsRaw()[event.KeyReclaimShare], 0.01)
	assert.Zero(t, reclaimEvent{}.share())
}
