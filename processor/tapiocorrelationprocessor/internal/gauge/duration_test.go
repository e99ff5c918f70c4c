package gauge

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/internal/event"
)

var orders = map[string]any{"service.name": "orders", "service.instance.id": "1"}

// duration sends a histogram of n more requests that took seconds each.
func (r *rig) duration(h pmetric.HistogramDataPoint, n uint64, seconds float64) {
	r.t.Helper()
	h.SetCount(h.Count() + n)
	h.SetSum(h.Sum() + float64(n)*seconds)
	h.SetTimestamp(pcommon.NewTimestampFromTime(r.at))
	r.deliver(func(m pmetric.Metric) {
		m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		h.CopyTo(m.Histogram().DataPoints().AppendEmpty())
	})
}

// deliver sends http.server.request.duration.
func (r *rig) deliver(fill func(pmetric.Metric)) {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	require.NoError(r.t, rm.Resource().Attributes().FromRaw(orders))
	m := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("http.server.request.duration")
	fill(m)
	r.counts = r.Metrics(md, r.resolve, r.at.UnixNano())
}

// slow tells whether requests are slow at the end of some steps.
func (r *rig) slow(interval time.Duration, n int, send func()) (slow bool) {
	for range n {
		send()
		slow = false
		for _, a := range r.step(interval).Anomalies {
			slow = slow || a.Event == event.MetricRequestsSlow
		}
	}
	return slow
}

// The mean of a histogram is judged: fifty times as many requests are no slowness, a
// longer one is, and a minute without requests says nothing.
func TestMeanDuration(t *testing.T) {
	r, h := newRig(t, Options{}), pmetric.NewHistogramDataPoint()
	assert.False(t, r.slow(30*time.Second, 10, func() { r.duration(h, 100, 0.01) }))
	assert.Equal(t, Counts{Used: 1}, r.counts, "a data point is counted once")
	assert.InDelta(t, 0.01, r.only().recent[0].value, 1e-9)
	assert.False(t, r.slow(30*time.Second, 2, func() { r.duration(h, 5000, 0.01) }), "load")
	assert.False(t, r.slow(30*time.Second, 2, func() { r.duration(h, 0, 0) }), "nobody calls")
	assert.False(t, r.slow(30*time.Second, 3, func() { r.duration(h, 100, 0.019) }), "below 20 ms")
	assert.True(t, r.slow(30*time.Second, 2, func() { r.duration(h, 100, 0.2) }))
}

// Quantiles of a summary are resources of their own; those below the median and
// above the 95th percentile are not read.
func TestQuantiles(t *testing.T) {
	r := newRig(t, Options{})
	send := func(seconds float64) func() {
		return func() {
			r.deliver(func(m pmetric.Metric) {
				dp := m.SetEmptySummary().DataPoints().AppendEmpty()
				dp.SetTimestamp(pcommon.NewTimestampFromTime(r.at))
				for _, q := range []float64{0.1, 0.5, 0.9, 0.99} {
					v := dp.QuantileValues().AppendEmpty()
					v.SetQuantile(q)
					v.SetValue(seconds * q)
				}
			})
		}
	}
	assert.False(t, r.slow(30*time.Second, 10, send(0.05)))
	assert.Equal(t, Counts{Used: 1}, r.counts)
	var names []string
	for _, s := range r.series {
		names = append(names, s.instance)
	}
	assert.ElementsMatch(t, []string{"p50", "p90"}, names)
	assert.True(t, r.slow(30*time.Second, 2, send(1)))
}

// Where samples are frequent, the first minute stands in for a past, at half the
// weight: five times as long is nothing, twenty times is. What rises while the past is
// still short does not become the past.
func TestShortPast(t *testing.T) {
	for factor, want := range map[float64]bool{5: false, 20: true} {
		r, h := newRig(t, Options{}), pmetric.NewHistogramDataPoint()
		assert.False(t, r.slow(5*time.Second, 18, func() { r.duration(h, 10, 0.01) }))
		assert.Equal(t, want, r.slow(5*time.Second, 8, func() { r.duration(h, 10, 0.01*factor) }), "%v times", factor)
		if want {
			assert.True(t, r.slow(5*time.Second, 60, func() { r.duration(h, 10, 0.01*factor) }), "it lasts")
		}
	}
	r, h := newRig(t, Options{}), pmetric.NewHistogramDataPoint()
	r.slow(5*time.Second, 8, func() { r.duration(h, 10, 0.01) })
	assert.False(t, r.slow(5*time.Second, 6, func() { r.duration(h, 10, 1) }), "40 s are no past")
}
