package cnireceiver

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/machine"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/operation"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/plugins"
)

// fakeSource is a kernel that says what a test puts into records.
type fakeSource struct {
	records chan operation.Record
	stop    sync.Once
}

func (s *fakeSource) Read() (operation.Record, error) {
	r, ok := <-s.records
	switch {
	case !ok:
		return nil, os.ErrClosed
	case r == nil:
		return nil, errors.New("not a record")
	default:
		return r, nil
	}
}

func (*fakeSource) Limits() []string { return []string{"messages: not permitted"} }

func (*fakeSource) Stats() plugins.Stats {
	return plugins.Stats{Lost: map[string]int64{"exec": 3}, Skipped: map[string]int64{"unscanned": 2}, Missed: map[string]int64{"cni_exec": 1}}
}

func (s *fakeSource) Stop() error {
	s.stop.Do(func() { close(s.records) })
	return nil
}

func (*fakeSource) Close() error { return nil }

// fails is a plugin that fails.
func fails(pid uint32) []operation.Record {
	id := operation.ID{PID: pid, Start: uint64(pid)}
	return []operation.Record{
		operation.Exec{At: 1, ID: id, Parent: 1, Path: "/opt/cni/bin/bridge", Env: []byte("CNI_COMMAND=ADD\x00CNI_CONTAINERID=c1\x00CNI_PATH=/opt/cni/bin\x00")},
		operation.Data{At: 2, ID: id, Stream: operation.Stdout, Bytes: []byte(`{"code":11,"msg":"later"}`)},
		operation.Exit{At: 3, ID: id, Status: 0x100},
	}
}

type operationsRig struct {
	*operations
	source    *fakeSource
	telemetry *componenttest.Telemetry
	logs      *consumertest.LogsSink
	traces    *consumertest.TracesSink
}

func startOperationsRig(t *testing.T, change func(*cniReceiver)) *operationsRig {
	t.Helper()
	rig := &operationsRig{
		source:    &fakeSource{records: make(chan operation.Record)},
		telemetry: componenttest.NewTelemetry(), logs: new(consumertest.LogsSink), traces: new(consumertest.TracesSink),
	}
	r := newTestReceiver(t, rig.telemetry)
	r.logs, r.traces = rig.logs, rig.traces
	if change != nil {
		change(r)
	}
	rig.operations = startOperations(r, machine.Info{Name: "node-7"}, componenttest.NewNopHost(), func(plugins.Output, *zap.Logger) (pluginSource, error) {
		return rig.source, nil
	})
	require.NotNil(t, rig.operations)
	return rig
}

func newTestReceiver(t *testing.T, telemetry *componenttest.Telemetry) *cniReceiver {
	t.Helper()
	r, err := newReceiver(createDefaultConfig().(*Config), receiver.Settings{
		ID: component.NewID(metadata.Type), TelemetrySettings: telemetry.NewTelemetrySettings(), BuildInfo: component.NewDefaultBuildInfo(),
	})
	require.NoError(t, err)
	return r
}

func (r *operationsRig) feed(records ...operation.Record) {
	for _, rec := range records {
		r.source.records <- rec
	}
}

// metric is a sum or gauge by the value of its only attribute.
func (r *operationsRig) metric(t *testing.T, name, key string) map[string]int64 {
	t.Helper()
	m, err := r.telemetry.GetMetric(name)
	require.NoError(t, err)
	var points []metricdata.DataPoint[int64]
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		points = data.DataPoints
	case metricdata.Gauge[int64]:
		points = data.DataPoints
	}
	out := map[string]int64{}
	for _, p := range points {
		v, _ := p.Attributes.Value(attribute.Key(key))
		out[v.AsString()] = p.Value
	}
	return out
}

func TestOperationsBecomeSpansAndEvents(t *testing.T) {
	t.Parallel()
	rig := startOperationsRig(t, nil)
	rig.feed(fails(10)...)
	require.Eventually(t, func() bool { return rig.logs.LogRecordCount() == 1 && rig.traces.SpanCount() == 2 }, 5*time.Second, time.Millisecond)
	rl := rig.logs.AllLogs()[0].ResourceLogs().At(0)
	name, _ := rl.Resource().Attributes().Get(event.KeyHostName)
	assert.Equal(t, "node-7", name.Str())
	record := rl.ScopeLogs().At(0).LogRecords().At(0)
	assert.Equal(t, event.CNIOperation, record.EventName())
	errorType, _ := record.Attributes().Get(event.KeyErrorType)
	assert.Equal(t, "try_again_later", errorType.Str())

	rig.feed(nil) // no record
	rig.feed(fails(20)[0])
	require.Eventually(t, func() bool { return rig.held() == 1 }, 5*time.Second, time.Millisecond)
	assert.Equal(t, map[string]int64{"exec": 3}, rig.metric(t, "otelcol_receiver_tapio_cni_lost", "record"))
	assert.Equal(t, map[string]int64{"cni_exec": 1}, rig.metric(t, "otelcol_receiver_tapio_cni_missed", "program"))
	assert.Equal(t, map[string]int64{"unscanned": 2, "not_a_plugin": 0}, rig.metric(t, "otelcol_receiver_tapio_cni_skipped", "reason"))
	assert.Equal(t, map[string]int64{"calls": 1, "records": 0}, rig.metric(t, "otelcol_receiver_tapio_cni_held", "kind"))
	assert.Equal(t, map[string]int64{"failed": 1}, rig.metric(t, "otelcol_receiver_tapio_cni_operations", "outcome"))
	assert.Equal(t, map[string]int64{"records": 1}, rig.metric(t, "otelcol_receiver_tapio_cni_dropped", "kind"))

	ended := time.Now()
	require.NoError(t, rig.shutdown(context.Background()))
	assert.Equal(t, 4, rig.traces.SpanCount(), "what runs at the end is told")
	last := rig.traces.AllTraces()[1].ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
	assert.WithinDuration(t, ended, last.EndTimestamp().AsTime(), 5*time.Second, "as it lasted until then")
	assert.Equal(t, 1, rig.logs.LogRecordCount(), "and is no failure")
}

func TestOperationsOfOneSignal(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change      func(*cniReceiver)
		logs, spans int
	}{
		"logs":     {func(r *cniReceiver) { r.traces = nil }, 1, 0},
		"traces":   {func(r *cniReceiver) { r.logs = nil }, 0, 2},
		"no event": {func(r *cniReceiver) { r.cfg.Events.TapioCniOperation.Enabled = false }, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig := startOperationsRig(t, tc.change)
			rig.feed(fails(10)...)
			require.NoError(t, rig.shutdown(context.Background()))
			assert.Equal(t, tc.logs, rig.logs.LogRecordCount())
			assert.Equal(t, tc.spans, rig.traces.SpanCount())
		})
	}
}

// TestOperationsRefusedForAMoment: what memory_limiter or a full queue refuses is
// handed on again; what is refused for good is counted.
func TestOperationsRefusedForAMoment(t *testing.T) {
	t.Parallel()
	var refusals atomic.Int64
	rig := startOperationsRig(t, nil)
	or := func(take func() error) error {
		if refusals.Add(-1) >= 0 {
			return errors.New("data refused due to high memory usage")
		}
		return take()
	}
	logs, err := consumer.NewLogs(func(ctx context.Context, ld plog.Logs) error {
		return or(func() error { return rig.logs.ConsumeLogs(ctx, ld) })
	})
	require.NoError(t, err)
	traces, err := consumer.NewTraces(func(ctx context.Context, td ptrace.Traces) error {
		return or(func() error { return rig.traces.ConsumeTraces(ctx, td) })
	})
	require.NoError(t, err)
	rig.r.logs, rig.r.traces = logs, traces
	refusals.Store(3)
	rig.feed(fails(10)...)
	require.Eventually(t, func() bool { return rig.logs.LogRecordCount() == 1 && rig.traces.SpanCount() == 2 }, 5*time.Second, time.Millisecond)
	assert.Negative(t, refusals.Load())

	refusals.Store(1000)
	rig.feed(fails(20)...)
	require.Eventually(t, func() bool { return refusals.Load() < 1000 }, 5*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, rig.shutdown(ctx), context.DeadlineExceeded, "it does not wait for ever")
	<-rig.sendDone
	for metric, want := range map[string]int64{"otelcol_receiver_refused_spans": 2, "otelcol_receiver_refused_log_records": 1} {
		m, err := rig.telemetry.GetMetric(metric)
		require.NoError(t, err)
		assert.Equal(t, want, m.Data.(metricdata.Sum[int64]).DataPoints[0].Value, metric)
	}
}

// TestOperationsBehindASlowPipeline: the kernel is read on, what finds no place is
// counted, and the end does not wait for ever.
func TestOperationsBehindASlowPipeline(t *testing.T) {
	t.Parallel()
	rig := startOperationsRig(t, func(r *cniReceiver) {
		r.logs = nil
		stuck, err := consumer.NewTraces(func(ctx context.Context, _ ptrace.Traces) error {
			<-ctx.Done()
			return ctx.Err()
		})
		require.NoError(t, err)
		r.traces = stuck
	})
	rig.feed(fails(10)...)
	require.Eventually(t, func() bool { return len(rig.records) == 0 && rig.counts().Operations == 1 }, 5*time.Second, time.Millisecond)
	for i := range recordQueue + 5 {
		rig.feed(fails(uint32(100 + i))[0])
	}
	rig.feed(fails(10)[2]) // makes sure that the one before was taken
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := rig.shutdown(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	<-rig.sendDone
	assert.EqualValues(t, 6, rig.metric(t, "otelcol_receiver_tapio_cni_dropped", "kind")["records"])
}

// operationsHost keeps the component status that is reported to it.
type operationsHost struct {
	component.Host
	reported []*componentstatus.Event
}

// Report implements componentstatus.Reporter.
func (h *operationsHost) Report(e *componentstatus.Event) { h.reported = append(h.reported, e) }

func TestOperationsThatCannotBeSeen(t *testing.T) {
	t.Parallel()
	r := newTestReceiver(t, componenttest.NewTelemetry())
	host := &operationsHost{Host: componenttest.NewNopHost()}
	no := errors.New("not permitted: missing CAP_BPF")
	o := startOperations(r, machine.Info{}, host, func(plugins.Output, *zap.Logger) (pluginSource, error) { return nil, no })
	assert.Nil(t, o)
	require.Len(t, host.reported, 1)
	assert.Equal(t, componentstatus.StatusPermanentError, host.reported[0].Status())
	require.ErrorIs(t, host.reported[0].Err(), no)
	require.NoError(t, o.shutdown(context.Background()))
	assert.Equal(t, []string{"operations: not permitted: missing CAP_BPF"}, r.unseen)

	r.cfg.Operations.Enabled = false
	assert.Nil(t, startOperations(r, machine.Info{}, host, nil))
	assert.Len(t, host.reported, 1, "what is switched off is no error")
}
