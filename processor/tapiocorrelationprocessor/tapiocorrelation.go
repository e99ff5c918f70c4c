package tapiocorrelationprocessor

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/decode"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/engine"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/gauge"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/metadata"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/visit"
)

// engines are the engines of one factory, by configuration: a collector gives all
// pipelines that name one component id the same configuration.
type engines struct {
	mu       sync.Mutex
	byConfig map[*Config]*shared
}

func newEngines() *engines { return &engines{byConfig: map[*Config]*shared{}} }

func (es *engines) get(set processor.Settings, cfg *Config) (*shared, error) {
	es.mu.Lock()
	defer es.mu.Unlock()
	if s := es.byConfig[cfg]; s != nil {
		return s, nil
	}
	s, err := newShared(set, cfg)
	if err != nil {
		return nil, err
	}
	s.forget = func() {
		es.mu.Lock()
		defer es.mu.Unlock()
		delete(es.byConfig, cfg)
	}
	es.byConfig[cfg] = s
	return s, nil
}

// shared is one engine and the instances that feed it. Findings leave through the
// first instance of each signal that started.
type shared struct {
	engine    *engine.Engine
	id        string // of the component
	eventTime bool
	telemetry *metadata.TelemetryBuilder
	logger    *zap.Logger
	forget    func()

	mu        sync.Mutex
	started   []*instance
	cancel    context.CancelFunc
	done      chan struct{}
	resumed   bool // what was left open has been asked for
	keepers   []keeper
	refused   atomic.Int64
	lastError time.Time
}

// instance is the processor in one pipeline.
type instance struct {
	shared *shared
	traces consumer.Traces
	logs   consumer.Logs
}

func newShared(set processor.Settings, cfg *Config) (*shared, error) {
	patterns, err := cfg.Patterns.load()
	if err != nil {
		return nil, err
	}
	records, err := pattern.RecordsOf(patterns)
	if err != nil {
		return nil, fmt.Errorf("patterns: %w", err)
	}
	gauges, err := gauge.New(gauge.Options{MaxSeries: cfg.Limits.Series, Horizon: cfg.Metrics.Horizon, Rules: cfg.Metrics.Rules})
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	waits, err := cfg.waits()
	if err != nil {
		return nil, err
	}
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	s := &shared{telemetry: telemetry, logger: set.Logger, id: set.ID.String(), eventTime: cfg.EventTime}
	s.engine = engine.New(engine.Options{
		Window: cfg.Window, Retention: cfg.Retention, Quiet: cfg.ResolveAfter, MinScore: cfg.MinScore,
		Weights:      explain.Weights(cfg.ConfidenceWeights),
		Impact:       decode.Options{UserAttributes: cfg.Impact.UserAttributes, ValueAttribute: cfg.Impact.ValueAttribute, Waits: waits},
		RingCapacity: cfg.Ring.Capacity, MaxDetails: cfg.Limits.Details, MaxEntities: cfg.Limits.Entities,
		MaxRequests: cfg.Limits.Requests, MaxIncidents: cfg.Limits.Incidents,
		MaxTraces: cfg.Limits.HurtTraces, MaxCauseSpans: cfg.Limits.CauseSpans,
		Visits: visit.Options{MaxTracesPerSecond: cfg.Limits.TracesPerSecond}, Gauges: gauges, Objectives: cfg.Objectives,
		Patterns: patterns, Records: records, Now: time.Now, EventTime: cfg.EventTime, Logger: set.Logger,
	})
	if err := s.observe(); err != nil {
		telemetry.Shutdown()
		return nil, err
	}
	return s, nil
}

func (s *shared) instance(traces consumer.Traces, logs consumer.Logs) *instance {
	return &instance{shared: s, traces: traces, logs: logs}
}

// start begins the engine with the first instance, and goes on with what was left open
// with the first through which findings leave.
func (i *instance) start(ctx context.Context, host component.Host) error {
	s := i.shared
	if s.begin(i) {
		s.resume(ctx, host)
	}
	return nil
}

// begin notes that an instance runs, and tells whether it is the first of a logs pipeline.
func (s *shared) begin(i *instance) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = append(s.started, i)
	if s.cancel == nil {
		ctx, cancel := context.WithCancel(context.Background())
		s.cancel, s.done = cancel, make(chan struct{})
		go func() {
			defer close(s.done)
			s.engine.Run(ctx, s)
		}()
	}
	first = i.logs != nil && !s.resumed && !s.eventTime
	s.resumed = s.resumed || first
	return first
}

// keeper is an extension that keeps findings and knows which were left open.
type keeper interface {
	HandOver(f *finding.Finding)
	OpenFindings(ctx context.Context) ([]*finding.Finding, error)
}

// resume goes on with the findings that this processor had left open.
func (s *shared) resume(ctx context.Context, host component.Host) {
	var left []*finding.Finding
	var keepers []keeper
	for id, extension := range host.GetExtensions() {
		k, ok := extension.(keeper)
		if !ok {
			continue
		}
		keepers = append(keepers, k)
		found, err := k.OpenFindings(ctx)
		if err != nil {
			s.logger.Error("The findings that were open cannot be read: they are not followed any more", zap.Stringer("extension", id), zap.Error(err))
		}
		left = append(left, found...)
	}
	if len(keepers) == 0 {
		return
	}
	s.mu.Lock()
	s.keepers = keepers
	s.mu.Unlock()
	if resumed, ended := s.engine.Resume(ctx, s.id, left); resumed+ended > 0 {
		s.logger.Info("Going on with the findings that were open", zap.Int("followed", resumed), zap.Int("ended", ended))
	}
}

// shutdown writes what is known while the instance can still pass it on, and ends
// the engine with the last instance.
func (i *instance) shutdown(ctx context.Context) error {
	s := i.shared
	s.mu.Lock()
	started := s.cancel != nil
	s.mu.Unlock()
	if started {
		s.engine.Flush(ctx)
	}
	s.mu.Lock()
	for n, x := range s.started {
		if x == i {
			s.started = append(s.started[:n:n], s.started[n+1:]...)
			break
		}
	}
	last := len(s.started) == 0
	s.mu.Unlock()
	if !last {
		return nil
	}
	if started {
		s.cancel()
		<-s.done
	}
	s.telemetry.Shutdown()
	s.forget()
	return nil
}

func (s *shared) processTraces(_ context.Context, td ptrace.Traces) (ptrace.Traces, error) {
	s.engine.Traces(td)
	return td, nil
}

func (s *shared) processLogs(_ context.Context, ld plog.Logs) (plog.Logs, error) {
	s.engine.Logs(ld)
	return ld, nil
}

func (s *shared) processMetrics(_ context.Context, md pmetric.Metrics) (pmetric.Metrics, error) {
	s.engine.Metrics(md)
	return md, nil
}

// emitTimeout bounds how long the next component may hold a finding up.
const emitTimeout = 5 * time.Second

// Finding implements engine.Sink.
func (s *shared) Finding(f *finding.Finding, log plog.Logs, spans ptrace.Traces) {
	traces, logs, keepers := s.outputs()
	ctx, cancel := context.WithTimeout(context.Background(), emitTimeout)
	defer cancel()
	for _, k := range keepers {
		k.HandOver(f)
	}
	if logs != nil {
		s.check(logs.ConsumeLogs(ctx, log))
	}
	if traces != nil && spans.SpanCount() > 0 {
		s.check(traces.ConsumeTraces(ctx, spans))
	}
	s.telemetry.ProcessorTapiocorrelationFindings.Add(ctx, 1, metric.WithAttributes(
		attribute.String("pattern", f.Pattern), attribute.String("state", string(f.State))))
	if n := len(f.EarlierCauses); n > 0 && f.EarlierCauses[n-1].Revision == f.Revision-1 {
		was := &f.EarlierCauses[n-1]
		s.logger.Info("the root cause of a finding changed", zap.String("id", f.ID.String()), zap.String("was", was.Title),
			zap.String("is", f.Title), zap.String("pattern", f.Pattern), zap.String("reason", was.Reason))
	}
	if f.Revision == 1 {
		s.logger.Info("finding", zap.String("id", f.ID.String()), zap.String("pattern", f.Pattern),
			zap.Float64("confidence", f.Confidence.Score), zap.String("summary", f.Summary))
	}
}

// outputs returns the first instance of each signal that runs, and who keeps findings.
func (s *shared) outputs() (traces consumer.Traces, logs consumer.Logs, keepers []keeper) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.started {
		if traces == nil {
			traces = i.traces
		}
		if logs == nil {
			logs = i.logs
		}
	}
	return traces, logs, s.keepers
}

// logInterval is the least time between two lines about the same trouble.
const logInterval = time.Minute

// check counts a refusal of the next component and logs one a minute. The next
// revision says everything again; spans are lost.
func (s *shared) check(err error) {
	if err == nil {
		return
	}
	s.refused.Add(1)
	if now := time.Now(); now.Sub(s.lastError) >= logInterval {
		s.lastError = now
		s.logger.Error("the next component refused a finding", zap.Error(err), zap.Int64("refused", s.refused.Load()))
	}
}
