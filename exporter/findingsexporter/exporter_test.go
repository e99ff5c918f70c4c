package findingsexporter

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/extension/extensiontest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/yairfalse/tapio/exporter/findingsexporter/internal/metadata"
	"github.com/yairfalse/tapio/exporter/findingsexporter/internal/metadatatest"
	"github.com/yairfalse/tapio/extension/tapioextension"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/finding/findingtest"
	"github.com/yairfalse/tapio/internal/findingsapi"
)

var tapioID = component.MustNewID("tapio")

// host runs the extensions of a test.
type host struct {
	component.Host
	extensions map[component.ID]component.Component
}

func (h host) GetExtensions() map[component.ID]component.Component { return h.extensions }

func newHost(store component.Component) component.Host {
	return host{componenttest.NewNopHost(), map[component.ID]component.Component{tapioID: store}}
}

// newStoreHost is the host of the generated lifecycle tests.
func newStoreHost() component.Host { return newHost(&memoryStore{}) }

// memoryStore keeps findings in memory and fails when told to.
type memoryStore struct {
	component.StartFunc
	component.ShutdownFunc
	mu    sync.Mutex
	saved []finding.ID
	last  *finding.Finding
	err   func(*finding.Finding) error
}

func (m *memoryStore) SaveFinding(_ context.Context, f *finding.Finding) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		if err := m.err(f); err != nil {
			return err
		}
	}
	m.saved, m.last = append(m.saved, f.ID), f
	return nil
}

func (m *memoryStore) HandOver(*finding.Finding) {}

func (m *memoryStore) OpenFindings(context.Context) ([]*finding.Finding, error) { return nil, nil }

func (m *memoryStore) ids() []finding.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]finding.ID(nil), m.saved...)
}

// synchronous returns a configuration whose ConsumeLogs returns what push does.
func synchronous() *Config {
	cfg := createDefaultConfig().(*Config)
	cfg.Queue = configoptional.None[exporterhelper.QueueBatchConfig]()
	cfg.Retry.Enabled = false
	return cfg
}

func start(t *testing.T, cfg *Config, store component.Component) (exporter.Logs, *componenttest.Telemetry, *observer.ObservedLogs) {
	t.Helper()
	tel := componenttest.NewTelemetry()
	core, logs := observer.New(zapcore.WarnLevel)
	set := exporter.Settings{ID: component.MustNewID("tapio_findings"), TelemetrySettings: tel.NewTelemetrySettings()}
	set.Logger = zap.New(core)
	exp, err := NewFactory().CreateLogs(t.Context(), set, cfg)
	require.NoError(t, err)
	require.NoError(t, exp.Start(t.Context(), newHost(store)))
	t.Cleanup(func() {
		assert.NoError(t, exp.Shutdown(context.Background()))
		assert.NoError(t, tel.Shutdown(context.Background()))
	})
	return exp, tel, logs
}

func logsOf(t *testing.T, fs ...*finding.Finding) plog.Logs {
	t.Helper()
	ld := plog.NewLogs()
	for _, f := range fs {
		require.NoError(t, f.ToLog(ld.ResourceLogs().AppendEmpty(), f.UpdatedAt))
	}
	return ld
}

func addOrdinary(ld plog.Logs, n int) {
	sl := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	for range n {
		sl.LogRecords().AppendEmpty().SetEventName("checkout.done")
	}
}

func damage(ld plog.Logs, i int) {
	ld.ResourceLogs().At(i).ScopeLogs().At(0).LogRecords().At(0).Attributes().Remove(finding.KeyState)
}

func TestFindingsReachARealStoreAmongOtherRecords(t *testing.T) {
	f := tapioextension.NewFactory()
	cfg := f.CreateDefaultConfig().(*tapioextension.Config)
	cfg.Path = filepath.Join(t.TempDir(), "findings.db")
	cfg.HTTP.NetAddr.Endpoint = freeAddress(t)
	ext, err := f.Create(t.Context(), extensiontest.NewNopSettings(f.Type()), cfg)
	require.NoError(t, err)
	require.NoError(t, ext.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { assert.NoError(t, ext.Shutdown(context.Background())) })

	exp, tel, _ := start(t, createDefaultConfig().(*Config), ext)
	assert.False(t, exp.Capabilities().MutatesData)
	ld := logsOf(t, findingtest.Full(), findingtest.Minimal(1))
	addOrdinary(ld, 5)
	before := plog.NewLogs()
	ld.CopyTo(before)
	require.NoError(t, exp.ConsumeLogs(t.Context(), ld))
	assert.Equal(t, before, ld, "the data of the pipeline is left alone")

	client, err := findingsapi.NewClient("http://"+cfg.HTTP.NetAddr.Endpoint, "", 5*time.Second)
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		page, err := client.Findings(t.Context(), findingsapi.Query{})
		require.NoError(c, err)
		assert.Len(c, page.Findings, 2)
	}, 10*time.Second, 20*time.Millisecond)
	got, err := client.Finding(t.Context(), findingtest.Full().ID.String())
	require.NoError(t, err)
	assert.Equal(t, findingtest.Full(), got)
	metadatatest.AssertEqualExporterTapioFindingsRecordsIgnored(t, tel, points(5), ignoreTime...)
}

func TestStartSaysWhichExtensionIsMissing(t *testing.T) {
	for name, tc := range map[string]struct {
		host component.Host
		want string
	}{
		"none":       {componenttest.NewNopHost(), `no extension "tapio" runs: configure it under`},
		"wrong type": {newHost(struct{ component.Component }{}), `"tapio" keeps no findings`},
	} {
		t.Run(name, func(t *testing.T) {
			set := exporter.Settings{ID: component.NewID(metadata.Type), TelemetrySettings: componenttest.NewNopTelemetrySettings()}
			exp, err := NewFactory().CreateLogs(t.Context(), set, createDefaultConfig())
			require.NoError(t, err)
			assert.ErrorContains(t, exp.Start(t.Context(), tc.host), tc.want)
			assert.NoError(t, exp.Shutdown(t.Context()))
		})
	}
}

func TestDamagedRecordDoesNotStopTheOthers(t *testing.T) {
	store := &memoryStore{}
	exp, tel, logs := start(t, synchronous(), store)
	ld := logsOf(t, findingtest.Minimal(1), findingtest.Minimal(2), findingtest.Minimal(3))
	damage(ld, 0)
	damage(ld, 1)
	require.NoError(t, exp.ConsumeLogs(t.Context(), ld))
	assert.Equal(t, []finding.ID{findingtest.Minimal(3).ID}, store.ids())
	metadatatest.AssertEqualExporterTapioFindingsRecordsDamaged(t, tel, points(2), ignoreTime...)
	lines := logs.FilterMessageSnippet("cannot be kept").All()
	require.Len(t, lines, 1, "logged once, counted twice")
	assert.Contains(t, lines[0].ContextMap()["error"], finding.KeyState)
}

// forged returns what a sender of logs makes of a finding that this process wrote
// and that it has read in a backend: the same id, a revision above all others.
func forged(t *testing.T) plog.Logs {
	t.Helper()
	ld := logsOf(t, findingtest.Minimal(1))
	ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().PutInt(finding.KeyRevision, 1<<40)
	return ld
}

func TestForgedFindingIsRefused(t *testing.T) {
	store := &memoryStore{}
	exp, tel, logs := start(t, synchronous(), store)
	require.NoError(t, exp.ConsumeLogs(t.Context(), forged(t)), "nothing to try again")
	mixed := forged(t)
	logsOf(t, findingtest.Minimal(2)).ResourceLogs().MoveAndAppendTo(mixed.ResourceLogs())
	require.NoError(t, exp.ConsumeLogs(t.Context(), mixed))
	assert.Equal(t, []finding.ID{findingtest.Minimal(2).ID}, store.ids(), "its own alone")
	metadatatest.AssertEqualExporterTapioFindingsRecordsForeign(t, tel, points(2), ignoreTime...)
	lines := logs.FilterMessageSnippet("accept_foreign: true").All()
	require.Len(t, lines, 1, "logged once, counted twice")
}

func TestAcceptForeignKeepsOtherCollectorsFindings(t *testing.T) {
	store := &memoryStore{}
	cfg := synchronous()
	cfg.AcceptForeign = true
	exp, tel, logs := start(t, cfg, store)
	ld := forged(t)
	ld.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0).Attributes().Remove(finding.KeyOrigin)
	require.NoError(t, exp.ConsumeLogs(t.Context(), ld))
	assert.Equal(t, []finding.ID{findingtest.Minimal(1).ID}, store.ids())
	_, err := tel.GetMetric("otelcol_exporter_tapio_findings_records_foreign")
	assert.Error(t, err, "none counted")
	assert.Zero(t, logs.Len())
}

func TestIntervalPassesOnceAMinute(t *testing.T) {
	var i interval
	now := time.Now()
	assert.True(t, i.passes(now))
	assert.False(t, i.passes(now.Add(logInterval-1)))
	assert.True(t, i.passes(now.Add(logInterval)))
	assert.False(t, i.passes(now.Add(logInterval+1)))
}

func TestOnlyDamagedRecordsAreAPermanentError(t *testing.T) {
	exp, _, _ := start(t, synchronous(), &memoryStore{})
	ld := logsOf(t, findingtest.Minimal(1))
	damage(ld, 0)
	err := exp.ConsumeLogs(t.Context(), ld)
	assert.True(t, consumererror.IsPermanent(err), "%v", err)
}

func TestRefusedFindingCountsAsDamaged(t *testing.T) {
	store := &memoryStore{err: func(*finding.Finding) error { return tapioextension.ErrRefused }}
	exp, tel, _ := start(t, synchronous(), store)
	err := exp.ConsumeLogs(t.Context(), logsOf(t, findingtest.Minimal(1)))
	assert.True(t, consumererror.IsPermanent(err), "%v", err)
	metadatatest.AssertEqualExporterTapioFindingsRecordsDamaged(t, tel, points(1), ignoreTime...)
}

func TestOnlyWhatFailedIsTriedAgain(t *testing.T) {
	bad := findingtest.Minimal(2).ID
	attempts := 0
	store := &memoryStore{err: func(f *finding.Finding) error {
		if f.ID == bad && attempts < 3 {
			attempts++
			return errors.New("disk full")
		}
		return nil
	}}
	cfg := createDefaultConfig().(*Config)
	cfg.Retry.InitialInterval = time.Millisecond
	exp, _, _ := start(t, cfg, store)
	require.NoError(t, exp.ConsumeLogs(t.Context(), logsOf(t, findingtest.Minimal(1), findingtest.Minimal(2))))
	require.Eventually(t, func() bool { return len(store.ids()) == 2 }, 10*time.Second, time.Millisecond)
	assert.Equal(t, []finding.ID{findingtest.Minimal(1).ID, bad}, store.ids(), "the first is saved once")
	assert.Equal(t, 3, attempts)
}

func TestAStoreInTroubleDoesNotBlockThePipeline(t *testing.T) {
	store := &memoryStore{err: func(*finding.Finding) error { return errors.New("disk full") }}
	exp, _, _ := start(t, createDefaultConfig().(*Config), store)
	done := make(chan error, 1)
	go func() { done <- exp.ConsumeLogs(context.Background(), logsOf(t, findingtest.Minimal(1))) }()
	select {
	case err := <-done:
		assert.NoError(t, err)
	case <-time.After(5 * time.Second):
		t.Fatal("ConsumeLogs waits for the store")
	}
}

func TestShutdownSavesWhatIsQueued(t *testing.T) {
	store := &memoryStore{}
	set := exporter.Settings{ID: component.NewID(metadata.Type), TelemetrySettings: componenttest.NewNopTelemetrySettings()}
	exp, err := NewFactory().CreateLogs(t.Context(), set, createDefaultConfig())
	require.NoError(t, err)
	require.NoError(t, exp.Start(t.Context(), newHost(store)))
	for n := range 100 {
		require.NoError(t, exp.ConsumeLogs(t.Context(), logsOf(t, findingtest.Minimal(n))))
	}
	require.NoError(t, exp.Shutdown(t.Context()))
	assert.Len(t, store.ids(), 100)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return l.Addr().String()
}
