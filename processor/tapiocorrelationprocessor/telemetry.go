package tapiocorrelationprocessor

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// observe registers what the engine counts as internal metrics.
func (s *shared) observe() error {
	e, c, t := s.engine, &s.engine.Counters, s.telemetry
	return errors.Join(
		t.RegisterProcessorTapiocorrelationEventsCallback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(c.Spans.Load(), with("signal", "traces"))
			o.Observe(c.Logs.Load(), with("signal", "logs"))
			o.Observe(c.Points.Load(), with("signal", "metrics"))
			return nil
		}),
		t.RegisterProcessorTapiocorrelationDroppedCallback(func(_ context.Context, o metric.Int64Observer) error {
			topology := e.Graph().Stats()
			for reason, n := range map[string]int64{
				"invalid": c.Invalid.Load(), "own": c.Skipped.Load(), "condition": c.Unevaluated.Load(), "ring": c.Lost.Load(), "late": c.Late.Load(), "duplicate": c.Duplicates.Load(),
				"detail": int64(e.Details().Evicted()), "tail": e.Tails().Evicted(), "request": c.RequestsEvicted.Load() + c.Ungrouped.Load(), "span": c.SpansCut.Load(),
				"occurrence": c.OccurrencesEvicted.Load(), "entity": int64(topology.Evicted) + c.HostsDropped.Load(),
				"operation": int64(topology.Overflow) + c.BaselinesDropped.Load(), "incident": c.IncidentsDropped.Load(), "visit": e.VisitsDropped(), "statement": e.StatementsForgotten(),
				"metric": c.PointsIgnored.Load(), "series": c.SeriesRefused.Load() + int64(e.Gauges().Sizes().Evicted), "emit": s.refused.Load(),
			} {
				o.Observe(n, with("reason", reason))
			}
			return nil
		}),
		t.RegisterProcessorTapiocorrelationHeldCallback(func(_ context.Context, o metric.Int64Observer) error {
			topology := e.Graph().Stats()
			for what, n := range map[string]int64{
				"events": int64(e.Ring().Len()), "details": int64(e.Details().Len()), "entities": int64(topology.Entities),
				"calls": int64(topology.Calls), "operations": c.Operations.Load(), "requests": c.RequestsHeld.Load(),
				"occurrences": c.OccurrencesHeld.Load(), "incidents": c.IncidentsOpen.Load(),
				"traces": e.Visits().Open.Load(), "statements": int64(e.Statements()), "tails": int64(e.Tails().Len()), "units": c.UnitsHeld.Load(), "series": int64(e.Gauges().Sizes().Series),
			} {
				o.Observe(n, with("what", what))
			}
			return nil
		}),
		t.RegisterProcessorTapiocorrelationCapacityCallback(func(_ context.Context, o metric.Int64Observer) error {
			for what, n := range e.Capacities() {
				o.Observe(int64(n), with("what", what))
			}
			return nil
		}),
		t.RegisterProcessorTapiocorrelationLagCallback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(e.Lag().Seconds())
			return nil
		}),
		t.RegisterProcessorTapiocorrelationRingSpanCallback(func(_ context.Context, o metric.Float64Observer) error {
			if oldest, ok := e.Ring().Oldest(); ok {
				o.Observe(max(e.Now().Sub(time.Unix(0, oldest)).Seconds(), 0))
			}
			return nil
		}),
	)
}

func with(key, value string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String(key, value)))
}
