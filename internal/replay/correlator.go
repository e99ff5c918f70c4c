package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor"
)

// Correlator is the correlation processor, made by its factory as a collector
// makes it, with the telemetry's time for its clock.
type Correlator struct {
	traces  processor.Traces
	logs    processor.Logs
	metrics processor.Metrics
	reader  *sdkmetric.ManualReader
	meters  *sdkmetric.MeterProvider
	last    map[finding.ID]*finding.Finding
	named   map[finding.ID][]Named
	err     error
}

var _ Sink = (*Correlator)(nil)

// Start starts a processor with cfg, whose event_time it sets. logger gets what
// the processor logs.
func Start(ctx context.Context, cfg *tapiocorrelationprocessor.Config, logger *zap.Logger) (*Correlator, error) {
	cfg.EventTime = true
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Correlator{last: map[finding.ID]*finding.Finding{}, named: map[finding.ID][]Named{}, reader: sdkmetric.NewManualReader()}
	c.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(c.reader))
	if err := c.create(ctx, cfg, logger); err != nil {
		return nil, err
	}
	for _, p := range c.parts() {
		if err := p.Start(ctx, nowhere{}); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Correlator) create(ctx context.Context, cfg *tapiocorrelationprocessor.Config, logger *zap.Logger) error {
	factory := tapiocorrelationprocessor.NewFactory()
	set := processor.Settings{
		ID: component.NewID(factory.Type()),
		TelemetrySettings: component.TelemetrySettings{
			Logger: logger, TracerProvider: noop.NewTracerProvider(), MeterProvider: c.meters,
		},
	}
	dropTraces, err := consumer.NewTraces(func(context.Context, ptrace.Traces) error { return nil })
	if err != nil {
		return err
	}
	dropMetrics, err := consumer.NewMetrics(func(context.Context, pmetric.Metrics) error { return nil })
	if err != nil {
		return err
	}
	keep, err := consumer.NewLogs(c.keep)
	if err != nil {
		return err
	}
	var errs [3]error
	c.traces, errs[0] = factory.CreateTraces(ctx, set, cfg, dropTraces)
	c.logs, errs[1] = factory.CreateLogs(ctx, set, cfg, keep)
	c.metrics, errs[2] = factory.CreateMetrics(ctx, set, cfg, dropMetrics)
	return errors.Join(errs[:]...)
}

// parts are the instances of the pipelines. That for logs is the first: findings
// leave through it, so it must be the one whose end makes the engine finish.
func (c *Correlator) parts() []component.Component {
	return []component.Component{c.logs, c.traces, c.metrics}
}

// ConsumeTraces implements Sink.
func (c *Correlator) ConsumeTraces(ctx context.Context, td ptrace.Traces) error {
	return c.traces.ConsumeTraces(ctx, td)
}

// ConsumeLogs implements Sink.
func (c *Correlator) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	return c.logs.ConsumeLogs(ctx, ld)
}

// ConsumeMetrics implements Sink.
func (c *Correlator) ConsumeMetrics(ctx context.Context, md pmetric.Metrics) error {
	return c.metrics.ConsumeMetrics(ctx, md)
}

// keep takes what leaves the processor: the recording's own records, which are of
// no use here, and findings. Findings that the recording holds are not ours.
func (c *Correlator) keep(_ context.Context, ld plog.Logs) error {
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			if sl.Scope().Name() != event.FindingScope {
				continue
			}
			for _, r := range sl.LogRecords().All() {
				if !finding.Own(r) {
					continue
				}
				f, err := finding.FromLog(rl.Resource(), r)
				if err != nil {
					c.err = errors.Join(c.err, err)
					continue
				}
				if was := c.last[f.ID]; was == nil || was.Revision < f.Revision {
					c.last[f.ID] = f
					c.name(f, r.ObservedTimestamp().AsTime())
				}
			}
		}
	}
	return nil
}

// Named is an entity that a finding named as the root cause from a time on.
type Named struct {
	At     time.Time
	Entity finding.Entity
}

// name notes whom a revision, written at a time, names.
func (c *Correlator) name(f *finding.Finding, at time.Time) {
	e, names := f.RootCause.Entity, c.named[f.ID]
	if n := len(names); n == 0 || names[n-1].Entity.Kind != e.Kind || names[n-1].Entity.Name != e.Name {
		c.named[f.ID] = append(names, Named{at, e})
	}
}

// Names returns whom a finding named as the root cause in turn.
func (c *Correlator) Names(id finding.ID) []Named { return c.named[id] }

// Finish ends the processor, which handles what waits, and returns the last
// revision of each finding in the order of their detection, with what the
// processor's metric dropped counted by reason. The correlator is used up.
func (c *Correlator) Finish(ctx context.Context) ([]*finding.Finding, map[string]int64, error) {
	dropped, err := c.dropped(ctx)
	errs := []error{err}
	for _, p := range c.parts() {
		errs = append(errs, p.Shutdown(ctx))
	}
	errs = append(errs, c.meters.Shutdown(ctx), c.err)
	found := slices.SortedFunc(maps.Values(c.last), func(a, b *finding.Finding) int {
		return cmp.Or(a.DetectedAt.Compare(b.DetectedAt), cmp.Compare(a.ID.String(), b.ID.String()))
	})
	return found, dropped, errors.Join(errs...)
}

// dropped reads the processor's own metric.
func (c *Correlator) dropped(ctx context.Context) (map[string]int64, error) {
	const name = "otelcol_processor_tapiocorrelation_dropped"
	var all metricdata.ResourceMetrics
	if err := c.reader.Collect(ctx, &all); err != nil {
		return nil, fmt.Errorf("metric %s: %w", name, err)
	}
	out := map[string]int64{}
	for _, sm := range all.ScopeMetrics {
		for _, m := range sm.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if m.Name != name || !ok {
				continue
			}
			for _, p := range sum.DataPoints {
				if reason, ok := p.Attributes.Value("reason"); ok && p.Value > 0 {
					out[reason.AsString()] = p.Value
				}
			}
		}
	}
	return out, nil
}

// nowhere is a host without extensions.
type nowhere struct{}

// GetExtensions implements component.Host.
func (nowhere) GetExtensions() map[component.ID]component.Component { return nil }
