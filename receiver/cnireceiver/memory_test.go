package cnireceiver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/storageclient"
	"github.com/yairfalse/tapio/internal/storageclient/storagetest"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadatatest"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// keeps is how many conditions are kept.
func keeps(t *testing.T, s *storagetest.Map) int {
	m, err := openMemory(context.Background(), storageHost{storage: s.Copy()}, &storageID, component.NewID(metadata.Type))
	require.NoError(t, err)
	n := 0
	for _, shard := range m.shards {
		n += len(shard)
	}
	return n
}

var storageID = component.MustNewID("keeper")

// storageHost has one extension, which is the storage.
type storageHost struct{ storage component.Component }

func (h storageHost) GetExtensions() map[component.ID]component.Component {
	return map[component.ID]component.Component{storageID: h.storage}
}

// startWith starts a receiver on the storage; the last result stops it.
func startWith(t *testing.T, cfg *Config, s *storagetest.Map, next consumer.Logs) (*observer.ObservedLogs, *componenttest.Telemetry, func()) {
	t.Helper()
	cfg.StorageID = &storageID
	tel := componenttest.NewTelemetry()
	set := metadatatest.NewSettings(tel)
	core, logs := observer.New(zap.InfoLevel)
	set.Logger = zap.New(core)
	r, err := NewFactory().CreateLogs(context.Background(), set, cfg, next)
	require.NoError(t, err)
	require.NoError(t, r.Start(context.Background(), storageHost{s}))
	stop := sync.OnceFunc(func() {
		assert.NoError(t, r.Shutdown(context.Background()))
		assert.NoError(t, tel.Shutdown(context.Background()))
	})
	t.Cleanup(stop)
	return logs, tel, stop
}

// nodeWithBrokenConfig is a node whose configuration is no JSON.
func nodeWithBrokenConfig(t *testing.T) (cfg *Config, mend func()) {
	cfg, dir := nodeWithoutCNI(t)
	require.NoError(t, os.MkdirAll(cfg.ConfigDirs[0], 0o750))
	file := filepath.Join(dir, "etc/net.d/10.conf")
	require.NoError(t, os.WriteFile(file, []byte(`{"name": "n", "type": "bridge",}`), 0o600))
	return cfg, func() { require.NoError(t, os.WriteFile(file, []byte(`{"name": "n", "type": "bridge"}`), 0o600)) }
}

func recordsIn(next *scriptedConsumer, name string) []plog.LogRecord {
	var out []plog.LogRecord
	for _, logs := range next.AllLogs() {
		for _, rl := range logs.ResourceLogs().All() {
			for _, lr := range rl.ScopeLogs().At(0).LogRecords().All() {
				if lr.EventName() == name {
					out = append(out, lr)
				}
			}
		}
	}
	return out
}

func eventually(t *testing.T, next *scriptedConsumer, name string) plog.LogRecord {
	t.Helper()
	require.Eventually(t, func() bool { return len(recordsIn(next, name)) > 0 }, time.Minute, time.Millisecond, "%s", name)
	return recordsIn(next, name)[0]
}

func TestWhatIsWrongOutlivesTheCollector(t *testing.T) {
	t.Parallel()
	cfg, mend := nodeWithBrokenConfig(t)
	s, first := &storagetest.Map{}, &scriptedConsumer{}
	_, _, stop := startWith(t, cfg, s, first)
	told := eventually(t, first, event.CNIConfigInvalid)
	killed := s.Copy() // as after a kill
	stop()

	for name, kept := range map[string]*storagetest.Map{"stopped": s.Copy(), "killed": killed} {
		next := &scriptedConsumer{}
		_, _, stop := startWith(t, cfg, kept, next)
		again := eventually(t, next, event.CNIConfigInvalid)
		assert.Equal(t, told.Timestamp(), again.Timestamp(), name)
		assert.Equal(t, told.Body().Str(), again.Body().Str())
		assert.Equal(t, told.Attributes().AsRaw(), again.Attributes().AsRaw())
		stop()
	}

	mend()
	for name, kept := range map[string]*storagetest.Map{"stopped": s.Copy(), "killed": killed.Copy()} {
		next := &scriptedConsumer{}
		_, _, stop := startWith(t, cfg, kept, next)
		over := eventually(t, next, event.CNIRecovered)
		assert.Contains(t, over.Body().Str(), "Over when the collector looked again", name)
		assert.Empty(t, recordsIn(next, event.CNIConfigInvalid))
		assert.Greater(t, over.Timestamp(), told.Timestamp())
		require.Eventually(t, func() bool { return keeps(t, kept) == 0 }, time.Minute, time.Millisecond)
		stop()

		last := &scriptedConsumer{}
		_, _, stop = startWith(t, cfg, kept, last)
		eventually(t, last, event.CNIStarted)
		stop()
		assert.Empty(t, recordsIn(last, event.CNIRecovered), "its end is told once")
	}
}

// Other directories say nothing of a file that is still broken where it was.
func TestWhatWasInOtherDirectoriesIsForgotten(t *testing.T) {
	t.Parallel()
	cfg, _ := nodeWithBrokenConfig(t)
	s, first := &storagetest.Map{}, &scriptedConsumer{}
	_, _, stop := startWith(t, cfg, s, first)
	eventually(t, first, event.CNIConfigInvalid)
	stop()

	cfg.ConfigDirs = []string{t.TempDir()}
	next := &scriptedConsumer{}
	_, _, stop = startWith(t, cfg, s, next)
	eventually(t, next, event.CNIStarted)
	require.Eventually(t, func() bool { return keeps(t, s) == 0 }, time.Minute, time.Millisecond)
	stop()
	assert.Empty(t, recordsIn(next, event.CNIRecovered))
}

// An end that the next component has not taken is told by the next start.
func TestEndThatWasNotTakenIsNotForgotten(t *testing.T) {
	t.Parallel()
	cfg, mend := nodeWithBrokenConfig(t)
	s, next := &storagetest.Map{}, &scriptedConsumer{}
	_, _, stop := startWith(t, cfg, s, next)
	eventually(t, next, event.CNIConfigInvalid)
	next.mu.Lock()
	for range 1000 {
		next.answers = append(next.answers, errors.New("full"))
	}
	next.mu.Unlock()
	mend()
	require.Eventually(t, func() bool {
		next.mu.Lock()
		defer next.mu.Unlock()
		return len(next.answers) < 1000
	}, time.Minute, time.Millisecond)
	assert.Equal(t, 1, keeps(t, s))
	stop()
	last := &scriptedConsumer{}
	startWith(t, cfg, s, last)
	eventually(t, last, event.CNIRecovered)
}

// peekingConsumer looks what is kept while it is told something.
type peekingConsumer struct {
	scriptedConsumer
	peek func(logs plog.Logs)
}

func (c *peekingConsumer) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	c.peek(logs)
	return c.scriptedConsumer.ConsumeLogs(ctx, logs)
}

// What begins is kept before it is told, what ends until after: a kill in between loses
// neither.
// TestWhatIsOverIsBounded: while nobody takes what is told, conditions that come and go do
// not pile up.
func TestWhatIsOverIsBounded(t *testing.T) {
	t.Parallel()
	s := &storagetest.Map{}
	m := &memory{client: s, over: map[string]struct{}{}, unwritten: storageclient.Unwritten{}}
	for i := range m.shards {
		m.shards[i] = map[string]state.Kept{}
	}
	held := func() (n int) {
		for _, shard := range m.shards {
			n += len(shard)
		}
		return n
	}
	for n := range 3 * maxOver {
		key := fmt.Sprint("gone/", n)
		m.shards[shardOf(key)][key], m.over[key] = state.Kept{Key: key}, struct{}{}
		if n%1000 == 0 {
			require.NoError(t, m.before(t.Context(), state.NewDecider(state.Settings{})))
		}
		require.LessOrEqual(t, held(), maxOver+1001)
	}
}

func TestKilledWhileItTells(t *testing.T) {
	t.Parallel()
	cfg, mend := nodeWithBrokenConfig(t)
	s := &storagetest.Map{}
	kept := make(chan int, 2)
	next := &peekingConsumer{}
	next.peek = func(logs plog.Logs) {
		seen := scriptedConsumer{}
		if seen.ConsumeLogs(context.Background(), logs) == nil && len(recordsIn(&seen, event.CNIConfigInvalid))+len(recordsIn(&seen, event.CNIRecovered)) > 0 {
			kept <- keeps(t, s)
		}
	}
	startWith(t, cfg, s, next)
	assert.Equal(t, 1, <-kept, "while its begin is told")
	mend()
	assert.Equal(t, 1, <-kept, "while its end is told")
	require.Eventually(t, func() bool { return keeps(t, s) == 0 }, time.Minute, time.Millisecond)
}

func TestDamagedMemoryIsAWarningAndAFreshStart(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]string{
		"no JSON":                  "\x00\x01garbage",
		"another version":          `{"version":2,"value":[]}`,
		"another content":          `{"version":1,"value":{"a":1}}`,
		"null":                     `null`,
		"a condition that none is": `{"version":1,"value":[{"key":"k","sources":["x"],"event":{"name":"n","time":"2026-11-23T03:00:00Z"}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, _ := nodeWithBrokenConfig(t)
			s, next := &storagetest.Map{Values: map[string][]byte{}}, &scriptedConsumer{}
			for i := range shardCount {
				s.Values[shardKey(i)] = []byte(damage)
			}
			logs, tel, _ := startWith(t, cfg, s, next)
			eventually(t, next, event.CNIConfigInvalid)
			warnings := logs.FilterMessageSnippet("some of what was remembered cannot be read").All()
			require.Len(t, warnings, 1)
			assert.Contains(t, warnings[0].ContextMap()["error"], "conditions/0: ")
			m, err := tel.GetMetric("otelcol_receiver_tapio_cni_read_errors")
			require.NoError(t, err)
			assert.NotNil(t, m)
			assert.Equal(t, 1, keeps(t, s), "it is written over")
		})
	}
}

func TestMemoryThatCannotBeWrittenIsToldOnceAndWrittenLater(t *testing.T) {
	t.Parallel()
	cfg, _ := nodeWithBrokenConfig(t)
	cfg.Interval = time.Second
	s, next := &storagetest.Map{Refuse: errors.New("disk full")}, &scriptedConsumer{}
	logs, _, stop := startWith(t, cfg, s, next)
	eventually(t, next, event.CNIConfigInvalid)
	time.Sleep(2 * time.Second) // some more pictures, each of which tries again
	assert.Len(t, logs.FilterMessageSnippet("cannot be remembered").All(), 1)
	s.SetRefuse(nil)
	stop()
	assert.Equal(t, 1, keeps(t, s), "written at the stop")
}

func TestStorageThatIsNoneIsAnError(t *testing.T) {
	t.Parallel()
	for want, host := range map[string]component.Host{
		"storage: extension keeper is not in service::extensions": componenttest.NewNopHost(),
		"storage: extension keeper stores nothing": storageHost{struct {
			component.StartFunc
			component.ShutdownFunc
		}{}},
	} {
		cfg, _ := nodeWithoutCNI(t)
		cfg.StorageID = &storageID
		tel := componenttest.NewTelemetry()
		r, err := NewFactory().CreateLogs(context.Background(), metadatatest.NewSettings(tel), cfg, &scriptedConsumer{})
		require.NoError(t, err)
		assert.ErrorContains(t, r.Start(context.Background(), host), want)
		assert.NoError(t, r.Shutdown(context.Background()))
		assert.NoError(t, tel.Shutdown(context.Background()))
	}
}
