package systemdreceiver

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/job"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadatatest"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/unit"
)

// statusHost notes what is reported, and has extensions.
type statusHost struct {
	mu         sync.Mutex
	events     []*componentstatus.Event
	extensions map[component.ID]component.Component
}

func (h *statusHost) GetExtensions() map[component.ID]component.Component { return h.extensions }

func (h *statusHost) Report(e *componentstatus.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

func (h *statusHost) reported() []*componentstatus.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events
}

// noSystemd is a configuration for a host without systemd.
func noSystemd(t *testing.T) *Config {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	cfg.Units.BusAddress = "unix:path=" + filepath.Join(t.TempDir(), "bus")
	cfg.Journal.Enabled = false
	return cfg
}

func newTestUnits(t *testing.T, logs consumer.Logs, traces consumer.Traces) *units {
	t.Helper()
	r, err := newReceiver(noSystemd(t), receivertest.NewNopSettings(metadata.Type), func() {})
	require.NoError(t, err)
	r.out.logs, r.out.traces = logs, traces
	return newUnits(r, &hostInfo{name: "node-7"})
}

func TestHostWithoutSystemd(t *testing.T) {
	t.Parallel()
	tel := componenttest.NewTelemetry()
	t.Cleanup(func() { assert.NoError(t, tel.Shutdown(context.Background())) })
	sink, host := new(consumertest.LogsSink), &statusHost{}
	r, err := NewFactory().CreateLogs(context.Background(), metadatatest.NewSettings(tel), noSystemd(t), sink)
	require.NoError(t, err)
	require.NoError(t, r.Start(context.Background(), host))
	require.Eventually(t, func() bool { return len(host.reported()) > 0 }, 10*time.Second, time.Millisecond)
	time.Sleep(3 * firstDial) // it looks again, and does not say so again
	require.Len(t, host.reported(), 1)
	assert.Equal(t, componentstatus.StatusRecoverableError, host.reported()[0].Status())
	require.ErrorContains(t, host.reported()[0].Err(), "systemd cannot be seen at unix:path=")
	metadatatest.AssertEqualReceiverTapioSystemdBusConnected(t, tel, []metricdata.DataPoint[int64]{{Value: 0}}, metricdatatest.IgnoreTimestamp())
	require.NoError(t, r.Shutdown(context.Background()))
	assert.Zero(t, sink.LogRecordCount())
}

func TestRequiredSystemd(t *testing.T) {
	t.Parallel()
	cfg := noSystemd(t)
	cfg.Units.Required = true
	r, err := NewFactory().CreateLogs(context.Background(), receivertest.NewNopSettings(metadata.Type), cfg, consumertest.NewNop())
	require.NoError(t, err)
	err = r.Start(context.Background(), &statusHost{})
	require.ErrorContains(t, err, "units::required is true and systemd cannot be seen at unix:path=")
	require.NoError(t, r.Shutdown(context.Background()))
}

func TestLogsAndTracesAreOneReceiver(t *testing.T) {
	t.Parallel()
	cfg, set, f := noSystemd(t), receivertest.NewNopSettings(metadata.Type), NewFactory()
	logs, err := f.CreateLogs(context.Background(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	traces, err := f.CreateTraces(context.Background(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	assert.Same(t, logs, traces)
	for _, r := range []component.Component{logs, traces} {
		require.NoError(t, r.Start(context.Background(), &statusHost{}))
	}
	for _, r := range []component.Component{logs, traces} {
		require.NoError(t, r.Shutdown(context.Background()))
	}
	again, err := f.CreateLogs(context.Background(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	assert.NotSame(t, logs, again)
	require.NoError(t, again.Shutdown(context.Background()))
}

// store is a storage extension in memory.
type store struct {
	component.StartFunc
	component.ShutdownFunc
	values map[string][]byte
	writes int
	fail   error
}

func (s *store) GetClient(context.Context, component.Kind, component.ID, string) (storage.Client, error) {
	return s, nil
}

func (s *store) Get(_ context.Context, key string) ([]byte, error) { return s.values[key], s.fail }

func (s *store) Set(ctx context.Context, key string, value []byte) error {
	if err := errors.Join(s.fail, ctx.Err()); err != nil {
		return err
	}
	s.writes++
	s.values[key] = value
	return nil
}

func (s *store) Delete(_ context.Context, key string) error { delete(s.values, key); return s.fail }

func (s *store) Batch(ctx context.Context, operations ...*storage.Operation) error {
	for _, o := range operations {
		if err := s.Set(ctx, o.Key, o.Value); err != nil {
			return err
		}
	}
	return s.fail
}

func (*store) Close(context.Context) error { return nil }

// TestMemoryAtShutdown: what was told is remembered though the receiver is being stopped.
func TestMemoryAtShutdown(t *testing.T) {
	t.Parallel()
	s := &store{values: map[string][]byte{}}
	m := memoryIn(t, s)
	ended, end := context.WithCancel(t.Context())
	end()
	require.NoError(t, m.save(ended, failedUnits(t, "a.service"), set("a.service")))
	m.jobs.Seed = "x"
	require.NoError(t, m.saveJobs(ended))
	m = memoryIn(t, s)
	assert.Contains(t, m.shards[shardOf("a.service")], "a.service")
	assert.Equal(t, "x", m.jobs.Seed)
}

// TestMemoryThatCannotBeWritten: what could not be written is written with what comes next,
// or at the end.
func TestMemoryThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(*memory, *unit.Tracker) error{
		"another unit":     func(m *memory, u *unit.Tracker) error { return m.save(t.Context(), u, set("b.service")) },
		"the unit, as was": func(m *memory, u *unit.Tracker) error { return m.save(t.Context(), u, set("a.service")) },
		"jobs":             func(m *memory, _ *unit.Tracker) error { return m.saveJobs(t.Context()) },
		"the end":          func(m *memory, _ *unit.Tracker) error { return m.close(t.Context()) },
	} {
		s := &store{values: map[string][]byte{}, fail: nil}
		m := memoryIn(t, s)
		u := failedUnits(t, "a.service", "b.service")
		s.fail = errors.New("disk full")
		require.ErrorContains(t, m.save(t.Context(), u, set("a.service")), "disk full", name)
		s.fail = nil
		require.NoError(t, then(m, u), name)
		assert.Contains(t, memoryIn(t, s).shards[shardOf("a.service")], "a.service", name)
	}
}

func set(names ...string) map[string]struct{} {
	out := map[string]struct{}{}
	for _, name := range names {
		out[name] = struct{}{}
	}
	return out
}

func memoryIn(t *testing.T, s *store) *memory {
	t.Helper()
	id := component.MustNewID("store")
	m, err := openMemory(t.Context(), &statusHost{extensions: map[component.ID]component.Component{id: s}}, &id, id)
	require.NoError(t, err)
	return m
}

// failedUnits is a tracker that has seen these units fail.
func failedUnits(t *testing.T, names ...string) *unit.Tracker {
	t.Helper()
	tracker := unit.NewTracker(time.Minute, 10)
	for _, name := range names {
		require.Len(t, tracker.Changed(name, map[string]any{
			"ActiveState": "failed", "Result": "signal", "InvocationID": []byte{1}, "StateChangeTimestamp": uint64(1_795_000_000_000_000),
		}, time.Now()), 1)
	}
	return tracker
}

func TestMemory(t *testing.T) {
	t.Parallel()
	ctx, id := context.Background(), component.MustNewID("store")
	s := &store{values: map[string][]byte{}}
	host := &statusHost{extensions: map[component.ID]component.Component{id: s}}
	m, err := openMemory(ctx, host, &id, id)
	require.NoError(t, err)

	tracker := unit.NewTracker(time.Minute, 10)
	failed := map[string]any{
		"ActiveState": "failed", "Result": "signal", "InvocationID": []byte{1}, "StateChangeTimestamp": uint64(1_795_000_000_000_000),
	}
	names := map[string]struct{}{"a.service": {}}
	require.Len(t, tracker.Changed("a.service", failed, time.Now()), 1)
	require.NoError(t, m.save(ctx, tracker, names))
	require.NoError(t, m.save(ctx, tracker, names))
	assert.Equal(t, 1, s.writes, "what has not changed is not written")
	m.jobs = openJobs{Seed: "x", Jobs: []job.Job{{ID: 7, Unit: "a.service", Anchor: 7}}}
	require.NoError(t, m.saveJobs(ctx))

	m, err = openMemory(ctx, host, &id, id)
	require.NoError(t, err)
	assert.Equal(t, "x", m.jobs.Seed)
	assert.Equal(t, uint32(7), m.jobs.Jobs[0].ID)
	again := unit.NewTracker(time.Minute, 10)
	m.restore(again)
	assert.Empty(t, again.Changed("a.service", failed, time.Now()), "it was told")
	again.Gone("a.service", time.Now(), false)
	require.NoError(t, m.save(ctx, again, names))
	m, err = openMemory(ctx, host, &id, id)
	require.NoError(t, err)
	empty := unit.NewTracker(time.Minute, 10)
	m.restore(empty)
	assert.Zero(t, empty.Len())

	for key := range maps.Clone(s.values) {
		s.values[key] = []byte("{")
	}
	m, err = openMemory(ctx, host, &id, id)
	require.NoError(t, err, "what cannot be understood is forgotten")
	assert.Equal(t, int64(len(s.values)), m.forgotten)
	s.fail = errors.New("disk full")
	_, err = openMemory(ctx, host, &id, id)
	require.ErrorContains(t, err, "storage: read units/0: disk full")
	require.ErrorContains(t, m.saveJobs(ctx), "storage: write: disk full")
}

func TestStorageThatIsNotThere(t *testing.T) {
	t.Parallel()
	id := component.MustNewID("store")
	_, err := openMemory(context.Background(), &statusHost{}, &id, id)
	require.EqualError(t, err, "storage: extension store is not in service::extensions")
	_, err = openMemory(context.Background(), &statusHost{extensions: map[component.ID]component.Component{id: nil}}, &id, id)
	require.EqualError(t, err, "storage: extension store stores nothing; use file_storage, for example")
	m, err := openMemory(context.Background(), &statusHost{}, nil, id)
	require.NoError(t, err)
	require.NoError(t, m.saveJobs(context.Background()))
	require.NoError(t, m.close(context.Background()))
}
