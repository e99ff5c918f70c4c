package ebpfreceiver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
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
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadatatest"
)

// scriptedSource gives what a test puts into it.
type scriptedSource struct {
	in       chan any // kernelEvent or error
	names    []string
	failures []failure
	counts   sourceStats
	// unread is how many events close found that nobody had read.
	unread int
}

func newScriptedSource() *scriptedSource { return &scriptedSource{in: make(chan any)} }

func (s *scriptedSource) read() (kernelEvent, error) {
	switch v := (<-s.in).(type) {
	case kernelEvent:
		return v, nil
	case error:
		return nil, v
	default:
		return nil, os.ErrClosed
	}
}

func (s *scriptedSource) hasMore() bool         { return false }
func (s *scriptedSource) sample() []kernelEvent { return nil }
func (s *scriptedSource) poll() []kernelEvent   { return nil }
func (s *scriptedSource) last() []kernelEvent   { return nil }
func (s *scriptedSource) attached() []string    { return s.names }
func (s *scriptedSource) failed() []failure     { return s.failures }
func (s *scriptedSource) stats() sourceStats    { return s.counts }
func (s *scriptedSource) stop() error           { close(s.in); return nil }

func (s *scriptedSource) close() error {
	for range s.in {
		s.unread++
	}
	return nil
}

var testProcess = processInfo{started: 1000, pid: 42, parent: 1, comm: "payment", executable: "payment", cgroup: "/shop"}

func execOf(at uint64) kernelEvent {
	return execEvent{base: base{at, testProcess}, path: "/bin/payment"}
}

func refused(at uint64) kernelEvent {
	return connectEvent{base: base{at, testProcess}, errno: 111, peer: netip.MustParseAddrPort("10.0.0.1:80")}
}

func startScripted(t *testing.T, src source, next consumer.Logs, tel *componenttest.Telemetry, change func(*Config)) *ebpfReceiver {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	if change != nil {
		change(cfg)
	}
	settings := metadatatest.NewSettings(tel)
	r, err := newReceiver(cfg, settings, next, func(*Config, *zap.Logger) source { return src })
	require.NoError(t, err)
	require.NoError(t, r.Start(context.Background(), componenttest.NewNopHost()))
	return r
}

func newTelemetry(t *testing.T) *componenttest.Telemetry {
	tel := componenttest.NewTelemetry()
	t.Cleanup(func() { assert.NoError(t, tel.Shutdown(context.Background())) })
	return tel
}

func eventNamesOf(logs []plog.Logs) []string {
	var names []string
	for _, l := range logs {
		for _, rl := range l.ResourceLogs().All() {
			for _, lr := range recordsOf(rl).All() {
				names = append(names, lr.EventName())
			}
		}
	}
	return names
}

func TestUrgentEventsDoNotWaitForTheFlush(t *testing.T) {
	t.Parallel()
	src, sink := newScriptedSource(), new(consumertest.LogsSink)
	r := startScripted(t, src, sink, newTelemetry(t), func(c *Config) { c.FlushInterval = time.Minute })
	src.in <- execOf(1)
	src.in <- refused(2)
	assert.Eventually(t, func() bool { return sink.LogRecordCount() == 3 }, 5*time.Second, time.Millisecond)
	assert.Equal(t, []string{event.EBPFStarted, event.ProcessExec, event.TCPConnectFailed}, eventNamesOf(sink.AllLogs()))
	assert.Len(t, sink.AllLogs(), 2, "the exec went with the urgent one")
	require.NoError(t, r.Shutdown(context.Background()))
}

func TestShutdownSendsWhatIsQueued(t *testing.T) {
	t.Parallel()
	src, sink := newScriptedSource(), new(consumertest.LogsSink)
	r := startScripted(t, src, sink, newTelemetry(t), func(c *Config) { c.FlushInterval = time.Minute })
	for i := range 10 {
		src.in <- execOf(uint64(i))
	}
	require.NoError(t, r.Shutdown(context.Background()))
	assert.Equal(t, 11, sink.LogRecordCount())
}

func TestShutdownReadsWhatTheSourceStillHolds(t *testing.T) {
	t.Parallel()
	src, sink := newScriptedSource(), new(consumertest.LogsSink)
	const held = 1000
	src.in = make(chan any, held)
	for i := range held {
		src.in <- execOf(uint64(i))
	}
	r := startScripted(t, src, sink, newTelemetry(t), func(c *Config) { c.FlushInterval = time.Minute })
	require.NoError(t, r.Shutdown(context.Background()))
	assert.Zero(t, src.unread)
	assert.Equal(t, 1+held, sink.LogRecordCount())
}

func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	src, sink := newScriptedSource(), new(consumertest.LogsSink)
	r := startScripted(t, src, sink, newTelemetry(t), func(c *Config) {
		c.FlushInterval = time.Minute
		c.MaxBatchSize = 4
	})
	for i := range 10 {
		src.in <- execOf(uint64(i))
	}
	require.NoError(t, r.Shutdown(context.Background()))
	for _, logs := range sink.AllLogs() {
		assert.LessOrEqual(t, logs.LogRecordCount(), 4)
	}
	assert.Equal(t, 11, sink.LogRecordCount())
}

// blockedConsumer takes nothing until it is released or given up.
type blockedConsumer struct {
	consumertest.LogsSink
	release chan struct{}
}

func (b *blockedConsumer) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	select {
	case <-b.release:
		return b.LogsSink.ConsumeLogs(ctx, logs)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestFullQueueKeepsRoomForUrgentEventsAndCounts(t *testing.T) {
	t.Parallel()
	tel := newTelemetry(t)
	src, next := newScriptedSource(), &blockedConsumer{release: make(chan struct{})}
	r := startScripted(t, src, next, tel, func(c *Config) { c.QueueSize = 8 })
	for i := range 10 {
		src.in <- execOf(uint64(i)) // 6 find a place
	}
	for i := range 3 {
		src.in <- refused(uint64(i)) // 2 do
	}
	src.in <- errors.New("not a record")
	src.in <- errors.New("not a record") // taken: the one before has been counted
	close(next.release)
	require.NoError(t, r.Shutdown(context.Background()))
	assert.Equal(t, 1+6+2, next.LogRecordCount())
	metadatatest.AssertEqualReceiverTapioEbpfDropped(t, tel, []metricdata.DataPoint[int64]{
		{Value: 4, Attributes: attribute.NewSet(attribute.String("event", event.ProcessExec), attribute.String("reason", droppedQueueFull))},
		{Value: 1, Attributes: attribute.NewSet(attribute.String("event", event.TCPConnectFailed), attribute.String("reason", droppedQueueFull))},
		{Value: 2, Attributes: attribute.NewSet(attribute.String("event", "unknown"), attribute.String("reason", droppedMalformed))},
	}, metricdatatest.IgnoreTimestamp())
}

func TestShutdownGivesUpWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	src, next := newScriptedSource(), &blockedConsumer{release: make(chan struct{})}
	r := startScripted(t, src, next, newTelemetry(t), nil)
	src.in <- refused(1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	err := r.Shutdown(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "kernel events were not sent")
	<-r.sendDone
}

func TestMetricsOfTheSource(t *testing.T) {
	t.Parallel()
	tel := newTelemetry(t)
	src := newScriptedSource()
	src.names = []string{"process_exit"}
	src.failures = []failure{{"oom_kill", "no"}, {"tcp_connect", "no"}}
	src.counts = sourceStats{lost: map[string]int64{event.ProcessExit: 7}, missed: map[string]int64{"process_exit": 3}, ringUsed: 4096}
	sink := new(consumertest.LogsSink)
	r := startScripted(t, src, sink, tel, nil)
	src.in <- refused(1)
	assert.Eventually(t, func() bool { return sink.LogRecordCount() == 2 }, 5*time.Second, time.Millisecond)

	point := func(v int64, kv ...attribute.KeyValue) []metricdata.DataPoint[int64] {
		return []metricdata.DataPoint[int64]{{Value: v, Attributes: attribute.NewSet(kv...)}}
	}
	ignore := metricdatatest.IgnoreTimestamp()
	metadatatest.AssertEqualReceiverTapioEbpfLost(t, tel, point(7, attribute.String("event", event.ProcessExit)), ignore)
	metadatatest.AssertEqualReceiverTapioEbpfMissed(t, tel, point(3, attribute.String("program", "process_exit")), ignore)
	metadatatest.AssertEqualReceiverTapioEbpfProgramsAttached(t, tel, point(1), ignore)
	metadatatest.AssertEqualReceiverTapioEbpfProgramsFailed(t, tel, point(2), ignore)
	metadatatest.AssertEqualReceiverTapioEbpfQueueCapacity(t, tel, point(8192), ignore)
	metadatatest.AssertEqualReceiverTapioEbpfQueueSize(t, tel, point(0), ignore)
	metadatatest.AssertEqualReceiverTapioEbpfRingUsed(t, tel, point(4096), ignore)
	assert.Eventually(t, func() bool {
		_, err := tel.GetMetric("otelcol_receiver_tapio_ebpf_latency")
		return err == nil
	}, 5*time.Second, time.Millisecond)
	require.NoError(t, r.Shutdown(context.Background()))
}

func TestRefusedLogsAreCountedByTheCollector(t *testing.T) {
	t.Parallel()
	tel := newTelemetry(t)
	r := startScripted(t, newScriptedSource(), consumertest.NewErr(errors.New("full")), tel, nil)
	require.NoError(t, r.Shutdown(context.Background()))
	got, err := tel.GetMetric("otelcol_receiver_refused_log_records")
	require.NoError(t, err)
	assert.Equal(t, int64(1), got.Data.(metricdata.Sum[int64]).DataPoints[0].Value)
}

func TestNothingAttached(t *testing.T) {
	t.Parallel()
	src, sink, host := newScriptedSource(), new(consumertest.LogsSink), &statusHost{}
	src.failures = []failure{{"process_exit", "not permitted"}}
	r, err := newReceiver(createDefaultConfig().(*Config), receiver.Settings{ID: component.NewID(metadata.Type), TelemetrySettings: componenttest.NewNopTelemetrySettings()},
		sink, func(*Config, *zap.Logger) source { return src })
	require.NoError(t, err)
	require.NoError(t, r.Start(context.Background(), host))
	require.NoError(t, r.Shutdown(context.Background()))

	require.Len(t, host.events(), 1)
	assert.Equal(t, componentstatus.StatusPermanentError, host.events()[0].Status())
	require.EqualError(t, host.events()[0].Err(), "1 of 1 kernel programs do not run: process_exit: not permitted; what runs: nothing")
	require.Equal(t, []string{event.EBPFStarted}, eventNamesOf(sink.AllLogs()))
	record := recordsOf(sink.AllLogs()[0].ResourceLogs().At(0)).At(0)
	assert.Equal(t, map[string]any{
		event.KeyEBPFPrograms: []any{}, event.KeyEBPFFailed: []any{"process_exit: not permitted"},
	}, record.Attributes().AsRaw())
}

func TestReasonsAreSaidOnce(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"a, c: not permitted", "b: too old"},
		reasonsOf([]failure{{"a", "not permitted"}, {"b", "too old"}, {"c", "not permitted"}}, 0, maxNamed))
	var many []failure
	for n := range 26 {
		many = append(many, failure{fmt.Sprint("p", n), "not permitted"})
	}
	assert.Equal(t, []string{"all 26 programs: not permitted"}, reasonsOf(many, 0, maxNamed))
	assert.Equal(t, []string{"p0, p1, p2, p3 and 22 more: not permitted"}, reasonsOf(many, 1, maxNamed), "others run")
	assert.Equal(t, []string{"p0, p1: not permitted"}, reasonsOf(many[:2], 0, 2))
}

func TestShutdownWithoutStart(t *testing.T) {
	t.Parallel()
	r, err := NewFactory().CreateLogs(context.Background(), metadatatest.NewSettings(newTelemetry(t)), createDefaultConfig(), consumertest.NewNop())
	require.NoError(t, err)
	require.NoError(t, r.Shutdown(context.Background()))
	assert.Equal(t, metadata.Type, NewFactory().Type())
}
