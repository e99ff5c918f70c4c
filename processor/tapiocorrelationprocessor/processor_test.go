package tapiocorrelationprocessor

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/plogtest"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/pdatatest/ptracetest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/metadata"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/metadatatest"
)

// pipelines are a collector's pipelines that all name one tapiocorrelation.
type pipelines struct {
	telemetry *componenttest.Telemetry
	traces    []processor.Traces
	logs      []processor.Logs
	stopped   bool
}

func newPipelines(t *testing.T, traces []consumer.Traces, logs []consumer.Logs) *pipelines {
	t.Helper()
	return startPipelines(t, componenttest.NewNopHost(), traces, logs)
}

func startPipelines(t *testing.T, host component.Host, traces []consumer.Traces, logs []consumer.Logs, change ...func(*Config)) *pipelines {
	t.Helper()
	p := &pipelines{telemetry: componenttest.NewTelemetry()}
	set := metadatatest.NewSettings(p.telemetry)
	factory, cfg := NewFactory(), createDefaultConfig()
	for _, f := range change {
		f(cfg.(*Config))
	}
	for _, next := range traces {
		c, err := factory.CreateTraces(t.Context(), set, cfg, next)
		require.NoError(t, err)
		p.traces = append(p.traces, c)
	}
	for _, next := range logs {
		c, err := factory.CreateLogs(t.Context(), set, cfg, next)
		require.NoError(t, err)
		p.logs = append(p.logs, c)
	}
	for _, c := range p.all() {
		require.NoError(t, c.Start(t.Context(), host))
	}
	t.Cleanup(func() { p.stop(t) })
	return p
}

func (p *pipelines) all() (out []component.Component) {
	for _, c := range p.traces {
		out = append(out, c)
	}
	for _, c := range p.logs {
		out = append(out, c)
	}
	return out
}

// stop shuts the pipelines down, once.
func (p *pipelines) stop(t *testing.T) {
	t.Helper()
	if p.stopped {
		return
	}
	p.stopped = true
	for _, c := range p.all() {
		require.NoError(t, c.Shutdown(context.Background()))
	}
	require.NoError(t, p.telemetry.Shutdown(context.Background()))
}

// died are the kernel's records of payment, killed at its memory limit just now.
func died(at time.Time) plog.Logs {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	payment(rl.Resource())
	records := rl.ScopeLogs().AppendEmpty().LogRecords()
	r := records.AppendEmpty()
	r.SetEventName(event.OOMKill)
	r.SetTimestamp(pcommon.NewTimestampFromTime(at))
	r.Attributes().PutStr(event.KeyOOMScope, "cgroup")
	r.Attributes().PutInt(event.KeyMemoryLimit, 64<<20)
	r = records.AppendEmpty()
	r.SetEventName(event.ProcessExit)
	r.SetTimestamp(pcommon.NewTimestampFromTime(at.Add(time.Millisecond)))
	r.Attributes().PutInt(event.KeyExitSignal, 9)
	r.Attributes().PutStr(event.KeyExitSignalName, "SIGKILL")
	return ld
}

func payment(r pcommon.Resource) {
	r.Attributes().PutStr(event.KeyServiceName, "payment")
	r.Attributes().PutStr(event.KeyHostName, "node1")
	r.Attributes().PutInt(event.KeyProcessPID, 42)
}

func span(at time.Time) ptrace.Traces {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	payment(rs.Resource())
	s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	s.SetTraceID(pcommon.TraceID{1})
	s.SetSpanID(pcommon.SpanID{1})
	s.SetName("POST /charge")
	s.SetKind(ptrace.SpanKindServer)
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(at.Add(-time.Millisecond)))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(at))
	s.Status().SetCode(ptrace.StatusCodeError)
	s.Status().SetMessage("it broke")
	s.Attributes().PutStr("user.id", "u")
	s.Events().AppendEmpty().SetName("exception")
	return td
}

// findingsIn returns the finding records among what a pipeline passed on.
func findingsIn(t *testing.T, sink *consumertest.LogsSink) (out []*finding.Finding) {
	t.Helper()
	for _, ld := range sink.AllLogs() {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, r := range sl.LogRecords().All() {
					if f, err := finding.FromLog(rl.Resource(), r); err == nil {
						out = append(out, f)
					}
				}
			}
		}
	}
	return out
}

// incidents returns the root spans of findings among what a pipeline passed on.
func incidents(sink *consumertest.TracesSink) (out []ptrace.Span) {
	for _, td := range sink.AllTraces() {
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					if s.Name() == "tapio.incident" {
						out = append(out, s)
					}
				}
			}
		}
	}
	return out
}

func TestDataPassesThroughUnchanged(t *testing.T) {
	traces, logs := new(consumertest.TracesSink), new(consumertest.LogsSink)
	p := newPipelines(t, []consumer.Traces{traces}, []consumer.Logs{logs})
	now := time.Now()
	td, ld := span(now), died(now.Add(-24*time.Hour)) // too old to be a finding
	wantTraces, wantLogs := ptrace.NewTraces(), plog.NewLogs()
	td.CopyTo(wantTraces)
	ld.CopyTo(wantLogs)
	td.MarkReadOnly()
	ld.MarkReadOnly()
	assert.False(t, p.traces[0].Capabilities().MutatesData)
	assert.False(t, p.logs[0].Capabilities().MutatesData)
	require.NoError(t, p.traces[0].ConsumeTraces(t.Context(), td))
	require.NoError(t, p.logs[0].ConsumeLogs(t.Context(), ld))
	p.stop(t)
	require.Len(t, traces.AllTraces(), 1)
	require.Len(t, logs.AllLogs(), 1)
	require.NoError(t, ptracetest.CompareTraces(wantTraces, traces.AllTraces()[0]))
	require.NoError(t, plogtest.CompareLogs(wantLogs, logs.AllLogs()[0]))
}

func TestEmptyDataPasses(t *testing.T) {
	traces, logs := new(consumertest.TracesSink), new(consumertest.LogsSink)
	p := newPipelines(t, []consumer.Traces{traces}, []consumer.Logs{logs})
	require.NoError(t, p.traces[0].ConsumeTraces(t.Context(), ptrace.NewTraces()))
	require.NoError(t, p.logs[0].ConsumeLogs(t.Context(), plog.NewLogs()))
}

// What comes in by any pipeline is one picture, and what is found leaves once.
func TestPipelinesShareOneEngine(t *testing.T) {
	traces := []*consumertest.TracesSink{new(consumertest.TracesSink), new(consumertest.TracesSink)}
	logs := []*consumertest.LogsSink{new(consumertest.LogsSink), new(consumertest.LogsSink)}
	p := newPipelines(t, []consumer.Traces{traces[0], traces[1]}, []consumer.Logs{logs[0], logs[1]})
	now := time.Now()
	require.NoError(t, p.traces[1].ConsumeTraces(t.Context(), span(now.Add(-time.Second))))
	require.NoError(t, p.logs[1].ConsumeLogs(t.Context(), died(now)))
	require.Eventually(t, func() bool { return len(findingsIn(t, logs[0])) > 0 && len(incidents(traces[0])) > 0 }, 5*time.Second, 5*time.Millisecond)
	p.stop(t)

	all := findingsIn(t, logs[0])
	for i, f := range all {
		assert.Equal(t, i+1, f.Revision, "each revision once")
		assert.Equal(t, "memory-limit-oom-kill", f.Pattern)
		assert.Equal(t, "payment", f.RootCause.Entity.Name)
	}
	assert.Empty(t, findingsIn(t, logs[1]), "the first instance of each signal speaks")
	assert.Empty(t, incidents(traces[1]))
	require.Len(t, incidents(traces[0]), 1)
	assert.Equal(t, pcommon.TraceID(all[0].ID), incidents(traces[0])[0].TraceID())
	assert.Len(t, logs[1].AllLogs(), 1, "data stays in its own pipeline")
}

// TestOnlyWithImpact: a kill that hurt nobody is no finding, one that did is.
func TestOnlyWithImpact(t *testing.T) {
	for _, hurt := range []bool{false, true} {
		logs := new(consumertest.LogsSink)
		p := startPipelines(t, componenttest.NewNopHost(), []consumer.Traces{consumertest.NewNop()}, []consumer.Logs{logs}, func(c *Config) {
			c.Patterns.OnlyWithImpact = []string{"memory-limit-oom-kill"}
		})
		now := time.Now()
		require.NoError(t, p.logs[0].ConsumeLogs(t.Context(), died(now)))
		if hurt {
			require.NoError(t, p.traces[0].ConsumeTraces(t.Context(), span(now.Add(2*time.Millisecond))))
			require.Eventually(t, func() bool { return len(findingsIn(t, logs)) > 0 }, 10*time.Second, 5*time.Millisecond)
		}
		p.stop(t)
		assert.Equal(t, hurt, len(findingsIn(t, logs)) > 0)
	}
}

func TestOtherComponentIDsHaveEnginesOfTheirOwn(t *testing.T) {
	one, two := new(consumertest.LogsSink), new(consumertest.LogsSink)
	a, b := newPipelines(t, nil, []consumer.Logs{one}), newPipelines(t, nil, []consumer.Logs{two})
	require.NoError(t, a.logs[0].ConsumeLogs(t.Context(), died(time.Now())))
	a.stop(t)
	b.stop(t)
	assert.NotEmpty(t, findingsIn(t, one))
	assert.Empty(t, findingsIn(t, two))
}

// Without a logs pipeline the trace of the finding leaves, and the reverse.
func TestOneSignalAlone(t *testing.T) {
	logs := new(consumertest.LogsSink)
	p := newPipelines(t, nil, []consumer.Logs{logs})
	require.NoError(t, p.logs[0].ConsumeLogs(t.Context(), died(time.Now())))
	p.stop(t)
	assert.Len(t, findingsIn(t, logs), 1)
}

// What arrived just before the end is judged and said before the pipeline ends.
func TestShutdownSaysWhatIsKnown(t *testing.T) {
	for range 20 {
		logs := new(consumertest.LogsSink)
		p := newPipelines(t, nil, []consumer.Logs{logs})
		require.NoError(t, p.logs[0].ConsumeLogs(t.Context(), died(time.Now())))
		p.stop(t)
		require.Len(t, findingsIn(t, logs), 1)
	}
}

// refusing fails for findings and takes everything else.
type refusing struct{ consumertest.LogsSink }

func (r *refusing) ConsumeLogs(ctx context.Context, ld plog.Logs) error {
	if ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).EventName() == event.Finding {
		return errors.New("the queue is full")
	}
	return r.LogsSink.ConsumeLogs(ctx, ld)
}

func TestRefusedFindingsAreCounted(t *testing.T) {
	next := new(refusing)
	p := newPipelines(t, nil, []consumer.Logs{next})
	require.NoError(t, p.logs[0].ConsumeLogs(t.Context(), died(time.Now())), "the data itself is not refused")
	require.Eventually(t, func() bool { return value(t, p, "dropped", "reason", "emit") > 0 }, 5*time.Second, 5*time.Millisecond)
	assert.Empty(t, findingsIn(t, &next.LogsSink))
}

// value returns the value of an internal metric with that attribute.
func value(t *testing.T, p *pipelines, name, key, want string) int64 {
	t.Helper()
	m, err := p.telemetry.GetMetric("otelcol_processor_tapiocorrelation_" + name)
	require.NoError(t, err)
	var points []metricdata.DataPoint[int64]
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		points = data.DataPoints
	case metricdata.Gauge[int64]:
		points = data.DataPoints
	}
	for _, point := range points {
		if v, ok := point.Attributes.Value(attribute.Key(key)); ok && v.AsString() == want {
			return point.Value
		}
	}
	t.Fatalf("%s has no point with %s=%s", name, key, want)
	return 0
}

func TestMetrics(t *testing.T) {
	p := newPipelines(t, []consumer.Traces{consumertest.NewNop()}, []consumer.Logs{consumertest.NewNop()})
	now := time.Now()
	require.NoError(t, p.traces[0].ConsumeTraces(t.Context(), span(now)))
	require.NoError(t, p.traces[0].ConsumeTraces(t.Context(), span(now.Add(time.Hour))))
	require.NoError(t, p.logs[0].ConsumeLogs(t.Context(), died(now)))
	require.Eventually(t, func() bool { return value(t, p, "held", "what", "incidents") == 1 }, 5*time.Second, 5*time.Millisecond)

	assert.EqualValues(t, 1, value(t, p, "events", "signal", "traces"))
	assert.EqualValues(t, 2, value(t, p, "events", "signal", "logs"))
	assert.EqualValues(t, 1, value(t, p, "dropped", "reason", "invalid"), "a span of the next hour")
	assert.EqualValues(t, 1<<20, value(t, p, "capacity", "what", "events"))
	assert.EqualValues(t, 3, value(t, p, "held", "what", "events"))
	assert.EqualValues(t, 1, value(t, p, "findings", "pattern", "memory-limit-oom-kill"))
	for _, reason := range []string{"invalid", "own", "ring", "late", "detail", "request", "span", "occurrence", "entity", "operation", "incident", "emit"} {
		value(t, p, "dropped", "reason", reason)
	}
	for _, what := range []string{"events", "details", "entities", "calls", "operations", "requests", "occurrences", "incidents"} {
		value(t, p, "held", "what", what)
	}
	for _, name := range []string{"ring_span", "lag"} {
		_, err := p.telemetry.GetMetric("otelcol_processor_tapiocorrelation_" + name)
		assert.NoError(t, err, name)
	}
}

// A collector that could not start all of its components stops all of them.
func TestShutdownWithoutStart(t *testing.T) {
	factory, cfg := NewFactory(), createDefaultConfig()
	set := processortest.NewNopSettings(metadata.Type)
	tp, err := factory.CreateTraces(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	lp, err := factory.CreateLogs(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	require.NoError(t, tp.Start(t.Context(), componenttest.NewNopHost()))
	require.NoError(t, lp.Shutdown(t.Context()))
	require.NoError(t, tp.Shutdown(t.Context()))
	require.NoError(t, tp.Shutdown(t.Context()), "twice")
}

// TestEventTime: telemetry of long ago is judged as if it happened now, and the
// call that brings the cause returns when the finding has left.
func TestEventTime(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	cfg.EventTime, cfg.ResolveAfter = true, time.Minute
	factory, set, out := NewFactory(), processortest.NewNopSettings(metadata.Type), &consumertest.LogsSink{}
	logs, err := factory.CreateLogs(t.Context(), set, cfg, out)
	require.NoError(t, err)
	metrics, err := factory.CreateMetrics(t.Context(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	for _, c := range []component.Component{logs, metrics} {
		require.NoError(t, c.Start(t.Context(), componenttest.NewNopHost()))
	}
	at := time.Date(2020, 2, 29, 3, 0, 0, 0, time.UTC)
	require.NoError(t, logs.ConsumeLogs(t.Context(), died(at)))
	found := findings(t, out)
	require.NotEmpty(t, found)
	assert.Equal(t, at, found[0].StartedAt)
	assert.Less(t, found[0].TimeToDetection(), time.Second, "detected in event time")

	md := pmetric.NewMetrics()
	point := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty().SetEmptyGauge().DataPoints().AppendEmpty()
	point.SetTimestamp(pcommon.NewTimestampFromTime(at.Add(2 * time.Minute)))
	require.NoError(t, metrics.ConsumeMetrics(t.Context(), md))
	found = findings(t, out)
	assert.Equal(t, finding.StateResolved, found[len(found)-1].State, "a data point moves the clock too")
	for _, c := range []component.Component{logs, metrics} {
		require.NoError(t, c.Shutdown(t.Context()))
	}
}

// findings are all revisions that a sink took.
func findings(t *testing.T, sink *consumertest.LogsSink) (out []*finding.Finding) {
	t.Helper()
	for _, ld := range sink.AllLogs() {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, r := range sl.LogRecords().All() {
					f, err := finding.FromLog(rl.Resource(), r)
					if errors.Is(err, finding.ErrNotFinding) {
						continue
					}
					require.NoError(t, err)
					out = append(out, f)
				}
			}
		}
	}
	return out
}
