package gauge

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// containers is what kubelet reports of n containers: eleven metrics of each, eight
// of which the table knows.
func containers(tb testing.TB, n int) pmetric.Metrics {
	tb.Helper()
	md := pmetric.NewMetrics()
	for i := range n {
		rm := md.ResourceMetrics().AppendEmpty()
		require.NoError(tb, rm.Resource().Attributes().FromRaw(map[string]any{
			"k8s.pod.uid": fmt.Sprintf("uid-%d", i), "k8s.pod.name": fmt.Sprintf("pod-%d", i), "k8s.namespace.name": "shop",
			"k8s.container.name": "app", "k8s.deployment.name": fmt.Sprintf("deploy-%d", i/3), "k8s.node.name": "node-1",
		}))
		ms := rm.ScopeMetrics().AppendEmpty().Metrics()
		for _, name := range []string{
			"container.cpu.usage", "container.memory.working_set", "container.memory.available", "container.memory.usage",
			"k8s.container.cpu_limit_utilization", "k8s.container.memory_limit_utilization", "container.memory.rss",
			"container.memory.page_faults", "container.memory.major_page_faults",
		} {
			m := ms.AppendEmpty()
			m.SetName(name)
			m.SetEmptyGauge().DataPoints().AppendEmpty().SetDoubleValue(1)
		}
		for _, name := range []string{"container.cpu.time", "k8s.pod.network.errors"} {
			m := ms.AppendEmpty()
			m.SetName(name)
			s := m.SetEmptySum()
			s.SetIsMonotonic(true)
			s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			for _, direction := range []string{"receive", "transmit"} {
				s.DataPoints().AppendEmpty().Attributes().PutStr("direction", direction)
			}
		}
	}
	return md
}

// stamp sets the time of all points, and moves their values a little.
func stamp(md pmetric.Metrics, at time.Time, i int) {
	t := pcommon.NewTimestampFromTime(at)
	set := func(dps pmetric.NumberDataPointSlice) {
		for _, dp := range dps.All() {
			dp.SetTimestamp(t)
			dp.SetDoubleValue(1 + float64(i%7)*0.1)
		}
	}
	for _, rm := range md.ResourceMetrics().All() {
		for _, m := range rm.ScopeMetrics().At(0).Metrics().All() {
			if m.Type() == pmetric.MetricTypeGauge {
				set(m.Gauge().DataPoints())
			} else {
				set(m.Sum().DataPoints())
			}
		}
	}
}

// BenchmarkMetrics takes in points of known series, and judges them after each
// batch of 1300 points.
func BenchmarkMetrics(b *testing.B) {
	for _, judge := range []bool{false, true} {
		b.Run(fmt.Sprintf("judge=%v", judge), func(b *testing.B) {
			tr, err := New(Options{MaxSeries: DefaultMaxSeries, Horizon: DefaultHorizon})
			require.NoError(b, err)
			md := containers(b, 100)
			resolve := func(pcommon.Map, int64) record.EntityID { return 1 }
			at := noon
			for i := range 200 { // fill the past
				at = at.Add(15 * time.Second)
				stamp(md, at, i)
				tr.Metrics(md, resolve, at.UnixNano())
				tr.Judge(at.UnixNano())
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				b.StopTimer()
				i++
				at = at.Add(15 * time.Second)
				stamp(md, at, i)
				b.StartTimer()
				tr.Metrics(md, resolve, at.UnixNano())
				if judge {
					tr.Judge(at.UnixNano())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(md.DataPointCount()), "ns/point")
		})
	}
}

// BenchmarkForecast judges the memory of one container that is near its limit after a
// day: it grows, or it swings.
func BenchmarkForecast(b *testing.B) {
	for name, used := range map[string]func(m float64) float64{
		"leak":     func(m float64) float64 { return 300 + 0.4*m },
		"sawtooth": func(m float64) float64 { return 500 + saw(m, 12, 400) },
		"idle":     func(float64) float64 { return 500 },
	} {
		b.Run(name, func(b *testing.B) {
			tr, err := New(Options{MaxSeries: 1, Horizon: DefaultHorizon})
			require.NoError(b, err)
			s := &series{class: ClassMemory}
			s.use.rule, s.limit.rule = &rule{}, &rule{}
			at := noon.UnixNano()
			push := func(m float64) {
				s.use.value, s.use.at, s.limit.value, s.limit.at = used(m), at, 1000, at
				s.push(at)
			}
			for i := range 24 * 120 {
				at += step
				push(float64(i) / 2)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				at += step
				push(12*120 + float64(i%24)/2)
				tr.forecast(s)
			}
		})
	}
}
