package engine

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// job is work for the goroutine of Run.
type job struct {
	do   func()
	done chan struct{}
}

// onRun has the goroutine of Run do something; it returns when it is done, when
// Run has ended or when ctx is done.
func (e *Engine) onRun(ctx context.Context, do func()) {
	j := job{do: do, done: make(chan struct{})}
	select {
	case e.jobs <- j:
	case <-e.ended:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-j.done:
	case <-ctx.Done():
	}
}

// maxTicks bounds the steps in which the clock of event time is moved over a gap
// in which nothing arrived.
const maxTicks = 1000

// settled is how far the clock of event time is moved past the last item at the
// end, so that all that waits for more has waited long enough.
const settled = 30 * time.Second

// advanceTo moves the clock of event time, doing all that time brings about.
func (e *Engine) advanceTo(newest int64) {
	from := e.clock.Load()
	if from == 0 {
		e.clock.Store(newest)
		return
	}
	step := max(int64(tick), (newest-from)/maxTicks)
	for from+step <= newest {
		from += step
		e.clock.Store(from)
		e.Drain()
		e.Advance()
	}
	e.clock.Store(max(newest, from))
}

// inEventTime handles one batch as if it had arrived when its newest item
// happened. Whoever sends it waits for the outcome.
func (e *Engine) inEventTime(newest int64, take func()) {
	e.onRun(context.Background(), func() {
		if newest > 0 {
			e.advanceTo(newest)
		}
		take()
		e.Drain()
	})
}

func newestSpan(td ptrace.Traces) (newest int64) {
	for _, rs := range td.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				newest = max(newest, int64(s.EndTimestamp()))
			}
		}
	}
	return newest
}

func newestLog(ld plog.Logs) (newest int64) {
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, r := range sl.LogRecords().All() {
				at := r.Timestamp()
				if at == 0 {
					at = r.ObservedTimestamp()
				}
				newest = max(newest, int64(at))
			}
		}
	}
	return newest
}

// newestPoint looks at the kinds of metrics that the engine reads.
func newestPoint(md pmetric.Metrics) (newest int64) {
	numbers := func(points pmetric.NumberDataPointSlice) {
		for _, p := range points.All() {
			newest = max(newest, int64(p.Timestamp()))
		}
	}
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				switch m.Type() {
				case pmetric.MetricTypeGauge:
					numbers(m.Gauge().DataPoints())
				case pmetric.MetricTypeSum:
					numbers(m.Sum().DataPoints())
				case pmetric.MetricTypeHistogram:
					for _, p := range m.Histogram().DataPoints().All() {
						newest = max(newest, int64(p.Timestamp()))
					}
				case pmetric.MetricTypeSummary:
					for _, p := range m.Summary().DataPoints().All() {
						newest = max(newest, int64(p.Timestamp()))
					}
				case pmetric.MetricTypeExponentialHistogram:
					for _, p := range m.ExponentialHistogram().DataPoints().All() {
						newest = max(newest, int64(p.Timestamp()))
					}
				}
			}
		}
	}
	return newest
}
