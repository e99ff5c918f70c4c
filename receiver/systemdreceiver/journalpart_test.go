package systemdreceiver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/yairfalse/tapio/internal/journal/journaltest"
	"github.com/yairfalse/tapio/internal/storageclient/storagetest"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadata"
)

type storageHost struct {
	component.Host
	id      component.ID
	storage component.Component
}

func (h storageHost) GetExtensions() map[component.ID]component.Component {
	return map[component.ID]component.Component{h.id: h.storage}
}

// journalRun is one run of a receiver over a directory.
type journalRun struct {
	warnings *observer.ObservedLogs
	receiver *systemdReceiver
	mu       sync.Mutex
	uids     []string
	// refuse is the error of the pipeline, nil for none.
	refuse atomic.Pointer[error]
	// largest is the body of the largest batch, in bytes.
	largest int
}

func startJournal(t *testing.T, dir string, s *storagetest.Map, change func(*JournalConfig), refuse error) *journalRun {
	t.Helper()
	id := component.MustNewID("map_storage")
	cfg := createDefaultConfig().(*Config)
	cfg.Units.Enabled, cfg.HostName, cfg.StorageID = false, "node-7", &id
	cfg.Journal.Directories, cfg.Journal.StartAt, cfg.Journal.Priority = []string{dir}, startAtBeginning, "debug"
	cfg.Journal.PollInterval, cfg.Journal.MaxBatchSize = minPollInterval, 100
	if change != nil {
		change(&cfg.Journal)
	}
	require.NoError(t, cfg.Validate())
	run := &journalRun{}
	if refuse != nil {
		run.refuse.Store(&refuse)
	}
	set := receivertest.NewNopSettings(metadata.Type)
	var core zapcore.Core
	core, run.warnings = observer.New(zap.WarnLevel)
	set.Logger = zap.New(core)
	r, err := newReceiver(cfg, set, func() {})
	require.NoError(t, err)
	r.out.logs, err = consumer.NewLogs(run.consume)
	require.NoError(t, err)
	run.receiver = r
	require.NoError(t, r.Start(t.Context(), storageHost{componenttest.NewNopHost(), id, s}))
	return run
}

func (r *journalRun) consume(_ context.Context, logs plog.Logs) error {
	if err := r.refuse.Load(); err != nil {
		return *err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	size := 0
	defer func() { r.largest = max(r.largest, size) }()
	for _, rl := range logs.ResourceLogs().All() {
		for _, record := range rl.ScopeLogs().At(0).LogRecords().All() {
			size += len(record.Body().Str())
			uid, _ := record.Attributes().Get(keyRecordUID)
			r.uids = append(r.uids, uid.Str())
		}
	}
	return nil
}

func (r *journalRun) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.uids)
}

func (r *journalRun) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.NoError(t, r.receiver.Shutdown(ctx))
}

// warned waits for warnings and returns their context.
func (r *journalRun) warned(t *testing.T, count int) (all []map[string]any) {
	t.Helper()
	require.Eventually(t, func() bool { return r.warnings.Len() >= count }, 20*time.Second, 10*time.Millisecond)
	for _, w := range r.warnings.All() {
		all = append(all, w.ContextMap())
	}
	require.Len(t, all, count)
	return all
}

// A directory that is named and has no journal is told with its key and what was meant.
func TestDirectoriesWithoutJournal(t *testing.T) {
	dir := t.TempDir()
	journaltest.Remote(t, filepath.Join(dir, "journal", "0123456789abcdef0123456789abcd01", "system.journal"), true, true, journaltest.Export(0, 10, 1))
	run := startJournal(t, dir, &storagetest.Map{}, nil, nil)
	assert.Equal(t, []any{"journal::directories[0]: no *.journal in " + dir + " nor in a folder in it; do you mean " + dir + "/journal?"}, run.warned(t, 1)[0]["reasons"])
	run.stop(t)

	run = startJournal(t, dir, &storagetest.Map{}, func(c *JournalConfig) {
		c.Directories = []string{"/run/log/journal", dir + "/journal", dir + "/nowhere"}
	}, nil)
	assert.Equal(t, []any{"journal::directories[2]: " + dir + "/nowhere does not exist"}, run.warned(t, 1)[0]["reasons"])
	require.Eventually(t, func() bool { return run.count() >= 10 }, 20*time.Second, time.Millisecond)
	run.stop(t)
}

// A damaged file is told once, with what is lost.
func TestDamagedJournalIsTold(t *testing.T) {
	dir, s := t.TempDir(), &storagetest.Map{}
	path := filepath.Join(dir, "cut.journal")
	journaltest.Remote(t, path, true, true, journaltest.Export(0, 3000, 1))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(path, info.Size()/2))
	run := startJournal(t, dir, s, nil, nil)
	said, ok := run.warned(t, 1)[0]["reason"].(string)
	require.True(t, ok)
	run.stop(t)
	assert.Equal(t, fmt.Sprintf("%s: ends early, %d entries lost", path, 3000-run.count()), said)
}

// Stopped at any moment and started again, it hands every entry on once.
func TestJournalGoesOn(t *testing.T) {
	dir, s := t.TempDir(), &storagetest.Map{}
	journaltest.Remote(t, filepath.Join(dir, "system.journal"), true, true, journaltest.Export(0, 5000, 1))
	seen := map[string]int{}
	runs := 0
	for len(seen) < 5000 {
		run := startJournal(t, dir, s, nil, nil)
		require.Eventually(t, func() bool { return run.count() > 0 }, 20*time.Second, time.Millisecond)
		run.stop(t)
		for _, uid := range run.uids {
			seen[uid]++
		}
		runs++
	}
	for uid, n := range seen {
		require.Equal(t, 1, n, uid)
	}
	t.Logf("%d runs", runs)
	run := startJournal(t, dir, s, nil, nil)
	time.Sleep(10 * minPollInterval)
	run.stop(t)
	assert.Zero(t, run.count(), "all was handed on")
}

// A pipeline that refuses for a while gets everything later; one that refuses
// for good is not asked twice, and nobody waits for it.
func TestJournalRefused(t *testing.T) {
	dir := t.TempDir()
	journaltest.Remote(t, filepath.Join(dir, "system.journal"), true, true, journaltest.Export(0, 1000, 1))

	run := startJournal(t, dir, &storagetest.Map{}, nil, errors.New("later"))
	time.Sleep(20 * minPollInterval)
	assert.Zero(t, run.count())
	run.refuse.Store(nil)
	require.Eventually(t, func() bool { return run.count() == 1000 }, 20*time.Second, time.Millisecond)
	run.stop(t)

	s := &storagetest.Map{}
	run = startJournal(t, dir, s, nil, errors.New("later"))
	time.Sleep(10 * minPollInterval)
	run.stop(t)
	run = startJournal(t, dir, s, nil, nil)
	require.Eventually(t, func() bool { return run.count() == 1000 }, 20*time.Second, time.Millisecond, "nothing was handed on before")
	run.stop(t)

	s = &storagetest.Map{}
	run = startJournal(t, dir, s, nil, consumererror.NewPermanent(errors.New("never")))
	time.Sleep(50 * minPollInterval)
	run.stop(t)
	run = startJournal(t, dir, s, nil, nil)
	time.Sleep(10 * minPollInterval)
	run.stop(t)
	assert.Zero(t, run.count())
}

// A position that cannot be understood is begun anew; a directory that comes
// late and a file that is none are no reason not to start.
func TestJournalStarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	run := startJournal(t, dir, &storagetest.Map{Values: map[string][]byte{positionKey: []byte("{")}}, nil, nil)
	journaltest.Remote(t, filepath.Join(dir, "system.journal"), true, true, journaltest.Export(0, 100, 1))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "none.journal"), []byte("none"), 0o600))
	require.Eventually(t, func() bool { return run.count() == 100 }, 20*time.Second, time.Millisecond)
	run.stop(t)

	cfg := createDefaultConfig().(*Config)
	id := component.MustNewID("none")
	cfg.StorageID, cfg.Units.Enabled, cfg.HostName = &id, false, "x"
	r, err := newReceiver(cfg, receivertest.NewNopSettings(metadata.Type), func() {})
	require.NoError(t, err)
	r.out.logs = consumerNop(t)
	assert.ErrorContains(t, r.Start(t.Context(), componenttest.NewNopHost()), "extension none is not in service::extensions")
	require.NoError(t, r.Shutdown(t.Context()))
}

func consumerNop(t *testing.T) consumer.Logs {
	t.Helper()
	c, err := consumer.NewLogs(func(context.Context, plog.Logs) error { return nil })
	require.NoError(t, err)
	return c
}

// A batch is bounded by its bytes too, and nothing is left out for that.
func TestJournalBatchBytes(t *testing.T) {
	dir := t.TempDir()
	const n, each = 200, 60_000
	var entries []byte
	for i := range n {
		text := journaltest.Export(i, 1, 1)
		entries = append(entries, text[:len(text)-1]...)
		entries = append(entries, "MESSAGE="+strings.Repeat("x", each)+"\n\n"...)
	}
	entries = bytes.ReplaceAll(entries, []byte("\nMESSAGE=request"), []byte("\nREQUEST=request"))
	journaltest.Remote(t, filepath.Join(dir, "system.journal"), true, true, entries)
	run := startJournal(t, dir, &storagetest.Map{}, func(c *JournalConfig) { c.MaxBatchSize = 1000 }, nil)
	require.Eventually(t, func() bool { return run.count() == n }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, run.receiver.Shutdown(t.Context()))
	assert.Less(t, run.largest, fullBatch+each)
	assert.Greater(t, run.largest, fullBatch/2)
}
