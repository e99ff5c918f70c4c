package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// measured is a service of which there are metrics only.
type measured struct {
	name  string
	usual float64
	count uint64
	sum   float64
	delay time.Duration // how much later than the first it becomes slow
	extra float64       // seconds that a request takes more then
}

// minutes plays them, sampled every 15 seconds: well for ten minutes, then ill.
func (s *scenario) measure(ill time.Duration, services ...*measured) {
	const well, every = 10 * time.Minute, 15 * time.Second
	for t := time.Duration(0); t < well+ill; t += every {
		md := pmetric.NewMetrics()
		for _, m := range services {
			seconds := m.usual
			if t >= well+m.delay {
				seconds += m.extra
			}
			m.count, m.sum = m.count+150, m.sum+150*seconds
			rm := md.ResourceMetrics().AppendEmpty()
			rm.Resource().Attributes().PutStr(event.KeyServiceName, m.name)
			x := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
			x.SetName("http.server.request.duration")
			h := x.SetEmptyHistogram()
			h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			dp := h.DataPoints().AppendEmpty()
			dp.SetTimestamp(pcommon.NewTimestampFromTime(s.clock))
			dp.SetCount(m.count)
			dp.SetSum(m.sum)
		}
		s.engine.Metrics(md)
		s.wait(every)
	}
}

// The time that a callee loses is small beside what its callers take anyhow: it is
// named, once, and they are listed as what it is not.
func TestSlowByMetrics(t *testing.T) {
	s := newScenario(t)
	s.measure(3*time.Minute,
		&measured{name: "edge", usual: 0.2, extra: 0.5}, &measured{name: "orders", usual: 0.05, extra: 0.5},
		&measured{name: "stock", usual: 0.01, extra: 0.5}, &measured{name: "search", usual: 0.03})
	f := s.one()
	assert.Equal(t, "requests-slow", f.Pattern)
	assert.Equal(t, "stock", f.RootCause.Entity.Name)
	var rejected []string
	for _, h := range f.Rejected {
		rejected = append(rejected, h.Entity.Name)
	}
	assert.Contains(t, rejected, "orders")
	assert.NotContains(t, rejected, "search")
}

// Who becomes slow long after others is not why, however slow it is.
func TestSlowLater(t *testing.T) {
	s := newScenario(t)
	s.measure(6*time.Minute, &measured{name: "orders", usual: 0.05, extra: 0.5}, &measured{name: "stock", usual: 0.01, extra: 1, delay: 3 * time.Minute})
	assert.Equal(t, "orders", s.one().RootCause.Entity.Name)
}

// What spans are there of, they say better.
func TestSlowWithSpans(t *testing.T) {
	s := newScenario(t)
	s.healthy(time.Minute)
	s.measure(3*time.Minute, &measured{name: "payment", usual: 0.01, extra: 0.5})
	require.False(t, slices.ContainsFunc(s.latest(), func(f *finding.Finding) bool { return f.Pattern == "requests-slow" }))
}
