package gauge

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// only returns the one series of a rig.
func (r *rig) only() *series {
	r.t.Helper()
	require.Len(r.t, r.series, 1)
	for _, s := range r.series {
		return s
	}
	return nil
}

func TestRatesOfCounters(t *testing.T) {
	r := newRig(t, Options{})
	send := func(total float64, d time.Duration) (float64, int) {
		r.send(pod("a"), gauge{name: "container.cpu.time", value: total, sum: true})
		r.at = r.at.Add(d)
		s := r.only()
		return s.use.value, s.nRecent
	}
	_, n := send(100, 10*time.Second)
	assert.Zero(t, n, "one point of a counter is no rate")
	v, n := send(105, 10*time.Second)
	assert.InDelta(t, 0.5, v, 1e-9)
	assert.Equal(t, 1, n)
	_, n = send(2, 10*time.Second)
	assert.Equal(t, 1, n, "a restart")
	v, n = send(3, 20*time.Minute)
	assert.InDelta(t, 0.1, v, 1e-9)
	assert.Equal(t, 2, n)
	_, n = send(500, 10*time.Second)
	assert.Equal(t, 2, n, "a gap says nothing of now")
	v, _ = send(501, 0)
	assert.InDelta(t, 0.1, v, 1e-9)
	send(502, 0)
	assert.Equal(t, 1, r.counts.Late, "the same time again")
}

func TestDeltas(t *testing.T) {
	r := newRig(t, Options{})
	md := pmetric.NewMetrics()
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("container.cpu.time")
	s := m.SetEmptySum()
	s.SetIsMonotonic(true)
	s.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	dp := s.DataPoints().AppendEmpty()
	dp.SetStartTimestamp(at(-10 * time.Second))
	dp.SetTimestamp(at(0))
	dp.SetDoubleValue(5)
	assert.Equal(t, Counts{Used: 1}, r.Metrics(md, r.resolve, noon.UnixNano()))
	assert.InDelta(t, 0.5, r.only().use.value, 1e-9)
	assert.Equal(t, Counts{Late: 1}, r.Metrics(md, r.resolve, noon.UnixNano()))
}

// Of several metrics that say the same, the first of the table counts, while it is
// there.
func TestPreferredMetric(t *testing.T) {
	r := newRig(t, Options{})
	r.send(pod("a"), gauge{name: "container.memory.usage", value: 900}, gauge{name: "k8s.container.memory_limit_utilization", value: 0.9})
	s := r.only()
	assert.InDelta(t, 900, s.use.value, 0)
	assert.InDelta(t, 1000, s.ceiling(), 1e-9)
	r.at = r.at.Add(time.Minute)
	r.send(pod("a"), gauge{name: "container.memory.working_set", value: 500}, gauge{name: "container.memory.usage", value: 800}, gauge{name: "k8s.container.memory_limit_utilization", value: 0.8})
	value, _ := s.now()
	assert.InDelta(t, 500, value, 0, "page cache is not in the way")
	assert.Equal(t, 1, s.nRecent, "what was measured in another way is forgotten")
	assert.InDelta(t, 1000, s.ceiling(), 1e-9, "the share is one of the usage, not of the working set")
	for range 7 {
		r.at = r.at.Add(time.Minute)
		r.send(pod("a"), gauge{name: "container.memory.usage", value: 700})
	}
	value, _ = s.now()
	assert.InDelta(t, 700, value, 0, "better than nothing")
}

func TestLimits(t *testing.T) {
	for _, test := range []struct {
		name   string
		gauges []gauge
		want   float64
	}{
		{"none", []gauge{{name: "container.cpu.usage", value: 1}}, 0},
		{"a metric", []gauge{{name: "container.cpu.usage", value: 1}, {name: "k8s.container.cpu_limit", value: 4}}, 4},
		{"a share of it", []gauge{{name: "container.cpu.usage", value: 1}, {name: "k8s.container.cpu_limit_utilization", value: 0.25}}, 4},
		{"the metric before the share", []gauge{{name: "container.cpu.usage", value: 1}, {name: "k8s.container.cpu_limit", value: 4}, {name: "k8s.container.cpu_limit_utilization", value: 0.5}}, 4},
		{"only a share", []gauge{{name: "k8s.container.cpu_limit_utilization", value: 0.25}}, 1},
		{"a share of nothing", []gauge{{name: "container.cpu.usage", value: 0}, {name: "k8s.container.cpu_limit_utilization", value: 0}}, 0},
		{"use and free", []gauge{{name: "container.memory.working_set", value: 1}, {name: "container.memory.available", value: 3}}, 4},
		{"no limit, as a JVM says it", []gauge{{name: "jvm.file_descriptor.count", value: 1}, {name: "jvm.file_descriptor.limit", value: float64(1 << 62)}}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, Options{})
			r.send(pod("a"), test.gauges...)
			assert.InDelta(t, test.want, r.only().ceiling(), 1e-9)
		})
	}
}

func TestUseIsLimitMinusFree(t *testing.T) {
	r := newRig(t, Options{})
	r.send(map[string]any{"k8s.pod.uid": "u", "k8s.volume.name": "data"}, gauge{name: "k8s.volume.available", value: 30}, gauge{name: "k8s.volume.capacity", value: 100})
	value, _ := r.only().now()
	assert.InDelta(t, 70, value, 0)
	assert.InDelta(t, 100, r.only().ceiling(), 0)
}

func TestPastIsBounded(t *testing.T) {
	r := newRig(t, Options{})
	for range 1000 {
		r.send(pod("a"), gauge{name: "container.cpu.usage", value: 1})
		r.step(10 * time.Second)
	}
	s := r.only()
	assert.Len(t, s.past, maxSamples)
	assert.Equal(t, maxRecent, s.nRecent)
	assert.Equal(t, int64(10*time.Second), s.interval)
	span := time.Duration(s.past[maxSamples-1].at - s.past[0].at)
	assert.InDelta(t, 48, span.Minutes(), 1)
}

func TestSeriesAreBounded(t *testing.T) {
	r := newRig(t, Options{MaxSeries: 10})
	for i := range 20 {
		r.send(pod(fmt.Sprint(i)), gauge{name: "container.cpu.usage", value: 1})
	}
	assert.Equal(t, 10, r.counts.Used)
	assert.Equal(t, 10, r.counts.Refused)
	assert.Equal(t, Sizes{Series: 10, Capacity: 10}, r.Sizes())
	// Those that went silent make room.
	r.at = r.at.Add(10 * time.Minute)
	r.send(pod("new"), gauge{name: "container.cpu.usage", value: 1})
	assert.Equal(t, Sizes{Series: 1, Capacity: 10, Evicted: 10}, r.Sizes())
	assert.Len(t, r.workloads, 1)
	r.Sweep(r.at.Add(time.Second).UnixNano())
	assert.Zero(t, r.Sizes().Series)
	assert.Empty(t, r.workloads)
}

// The first point of a counter is no rate, but it is heard.
func TestCountersSurviveASweep(t *testing.T) {
	r := newRig(t, Options{})
	r.send(pod("a"), gauge{name: "container.cpu.time", value: 1, sum: true})
	r.Sweep(r.at.Add(-time.Minute).UnixNano())
	assert.Equal(t, 1, r.Sizes().Series)
}

func TestSweptSeriesAreNotJudged(t *testing.T) {
	r := newRig(t, Options{})
	r.send(pod("a"), gauge{name: "container.cpu.usage", value: 1})
	r.Sweep(r.at.Add(time.Second).UnixNano())
	assert.Empty(t, r.step(0).Anomalies)
	assert.Zero(t, r.Sizes().Active)
}

func TestConcurrentUse(t *testing.T) {
	tr, err := New(Options{MaxSeries: 50, Horizon: DefaultHorizon})
	require.NoError(t, err)
	resolve := func(pcommon.Map, int64) record.EntityID { return 1 }
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			md := containers(t, 10)
			for i := range 100 {
				now := noon.Add(time.Duration(i) * 10 * time.Second)
				stamp(md, now, i+g)
				tr.Metrics(md, resolve, now.UnixNano())
				switch g {
				case 0:
					tr.Judge(now.UnixNano())
				case 1:
					tr.Sweep(now.Add(-time.Minute).UnixNano())
					tr.Predicted()
					tr.Confirm(Key{Subject: 1}, now.UnixNano())
					tr.Sizes()
				}
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, tr.Sizes().Series, 50)
}
