package gauge

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// rig is a tracker with a clock, and entities numbered by pod name as they come.
type rig struct {
	*Tracker
	t       *testing.T
	at      time.Time
	counts  Counts
	ids     map[string]record.EntityID
	reports []Report
}

func newRig(t *testing.T, o Options) *rig {
	t.Helper()
	if o.MaxSeries == 0 {
		o.MaxSeries = DefaultMaxSeries
	}
	if o.Horizon == 0 {
		o.Horizon = DefaultHorizon
	}
	tr, err := New(o)
	require.NoError(t, err)
	return &rig{Tracker: tr, t: t, at: noon, ids: map[string]record.EntityID{}}
}

func (r *rig) resolve(attrs pcommon.Map, _ int64) record.EntityID {
	name := ""
	for _, k := range []string{event.KeyPodName, event.KeyServiceInstanceID, event.KeyHostName} {
		if v, ok := attrs.Get(k); ok {
			name = v.Str()
			break
		}
	}
	if r.ids[name] == 0 {
		r.ids[name] = record.EntityID(len(r.ids) + 1)
	}
	return r.ids[name]
}

// gauge is a metric of a resource with one data point.
type gauge struct {
	name  string
	value float64
	attrs map[string]any
	// sum and hist make it a cumulative monotonic sum, or a histogram's.
	sum, hist bool
}

// send delivers metrics of a resource at the rig's time.
func (r *rig) send(resource map[string]any, gauges ...gauge) {
	r.t.Helper()
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	require.NoError(r.t, rm.Resource().Attributes().FromRaw(resource))
	ms := rm.ScopeMetrics().AppendEmpty().Metrics()
	for _, g := range gauges {
		g.append(r.t, ms, r.at)
	}
	c := r.Metrics(md, r.resolve, r.at.UnixNano())
	r.counts.Used += c.Used
	r.counts.Ignored += c.Ignored
	r.counts.Invalid += c.Invalid
	r.counts.Late += c.Late
	r.counts.Refused += c.Refused
}

func (g *gauge) append(t *testing.T, ms pmetric.MetricSlice, at time.Time) {
	t.Helper()
	m := ms.AppendEmpty()
	m.SetName(g.name)
	stamp := pcommon.NewTimestampFromTime(at)
	start := pcommon.NewTimestampFromTime(noon.Add(-time.Hour))
	switch {
	case g.hist:
		h := m.SetEmptyHistogram()
		h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		dp := h.DataPoints().AppendEmpty()
		dp.SetTimestamp(stamp)
		dp.SetStartTimestamp(start)
		dp.SetSum(g.value)
		require.NoError(t, dp.Attributes().FromRaw(g.attrs))
	case g.sum:
		s := m.SetEmptySum()
		s.SetIsMonotonic(true)
		s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		number(t, s.DataPoints().AppendEmpty(), g, stamp, start)
	default:
		number(t, m.SetEmptyGauge().DataPoints().AppendEmpty(), g, stamp, 0)
	}
}

func number(t *testing.T, dp pmetric.NumberDataPoint, g *gauge, at, start pcommon.Timestamp) {
	t.Helper()
	dp.SetTimestamp(at)
	dp.SetStartTimestamp(start)
	dp.SetDoubleValue(g.value)
	require.NoError(t, dp.Attributes().FromRaw(g.attrs))
}

// step judges, and moves the clock.
func (r *rig) step(d time.Duration) Report {
	rep := r.Judge(r.at.UnixNano())
	r.reports = append(r.reports, rep)
	r.at = r.at.Add(d)
	return rep
}

func pod(name string) map[string]any {
	return map[string]any{
		"k8s.pod.uid": "uid-" + name, "k8s.pod.name": name, "k8s.namespace.name": "shop",
		"k8s.deployment.name": "orders", "k8s.container.name": "app",
	}
}

func TestCPUAgainstItsOwnPast(t *testing.T) {
	r := newRig(t, Options{})
	for i := range 12 {
		use := 0.05 + 0.01*float64(i%3)
		r.send(pod("a"), gauge{name: "container.cpu.usage", value: use}, gauge{name: "k8s.container.cpu_limit_utilization", value: use / 0.5})
		require.Empty(t, r.step(time.Minute).Anomalies)
	}
	r.send(pod("a"), gauge{name: "container.cpu.usage", value: 0.4}, gauge{name: "k8s.container.cpu_limit_utilization", value: 0.8})
	rep := r.step(time.Minute)
	require.Len(t, rep.Anomalies, 1)
	a := rep.Anomalies[0]
	assert.Equal(t, Key{Subject: r.ids["a"], Class: ClassCPU, Container: "app"}, a.Key)
	assert.Equal(t, event.MetricCPUHigh, a.Event)
	assert.True(t, a.Announce)
	assert.InDelta(t, 0.4, a.Value, 1e-9)
	assert.InDelta(t, 0.06, a.Before, 1e-6)
	assert.InDelta(t, 0.5, a.Limit, 1e-9)
	assert.Equal(t, a.Z, a.Score)
	assert.Greater(t, a.Z, 4.5)
	assert.Equal(t, noon.Add(12*time.Minute).UnixNano(), a.Since)
}
