package cnireceiver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/journal/journaltest"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadatatest"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/plugins"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/runtimelog"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

func logged(t *testing.T) []byte {
	lines, err := os.ReadFile(filepath.Join("internal", "runtimelog", "testdata", "lines.log"))
	require.NoError(t, err)
	return lines
}

func TestLoggedFailuresAreToldOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := createDefaultConfig().(*Config)
	cfg.RootPath = dir
	cfg.Logs.Files = []string{"/containerd.log", "/syslog"}
	var mu sync.Mutex
	var got []state.Event
	w := startLogWatcher(cfg, zap.NewNop(), func(_ context.Context, events []state.Event) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, events...)
	}, func(n int64) { assert.Zero(t, n, "all logs can be read") })
	for _, file := range cfg.Logs.Files { // the same in both
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), logged(t), 0o600))
	}
	assert.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) >= 10
	}, 5*time.Second, 10*time.Millisecond)
	require.NoError(t, w.shutdown(context.Background()))
	require.Len(t, got, 10, "what both files have is one")
	assert.Equal(t, event.CNIOperation, got[0].Name)
	assert.Equal(t, plog.SeverityNumberError, got[0].Severity)
	assert.Equal(t, state.Pod{ContainerID: "cda935516085f259adfec47370d105820dce944fa8ef3d09c8c434c06a55fa95", Name: "payment-2", Namespace: "shop", UID: "uid-2"}, got[0].Pod)
	assert.Equal(t, "bridge", got[0].Attributes[event.KeyCNIPlugin])
	assert.Equal(t, event.ErrorAddressPoolExhausted, got[0].Attributes[event.KeyErrorType])
	assert.Equal(t, "DEL", got[2].Attributes[event.KeyCNICommand])
	assert.Equal(t, plog.SeverityNumberWarn, got[2].Severity, "a DEL is tried again")
}

// journalEntry is one in systemd's export format, of now.
func journalEntry(message string, fields ...string) string {
	now := time.Now().UnixMicro()
	return fmt.Sprintf("__REALTIME_TIMESTAMP=%d\n__MONOTONIC_TIMESTAMP=%d\n_BOOT_ID=a1b2c3d4e5f60718293a4b5c6d7e8f90\n", now, now%1e9) +
		"_MACHINE_ID=0123456789abcdef0123456789abcdef\n" + strings.Join(fields, "\n") + "\nMESSAGE=" + message + "\n\n"
}

// A runtime that logs to the journal alone is read there; what anybody else says is not.
func TestFailuresInTheJournal(t *testing.T) {
	t.Parallel()
	journaltest.Needs(t, "systemd-journal-remote")
	dir := t.TempDir()
	cfg := createDefaultConfig().(*Config)
	cfg.RootPath, cfg.Logs.Files = dir, nil
	var mu sync.Mutex
	var got []state.Event
	w := startLogWatcher(cfg, zap.NewNop(), func(_ context.Context, events []state.Event) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, events...)
	}, func(n int64) { assert.Zero(t, n, "all logs can be read") })
	failed := func(pod string) string {
		return `time="2026-11-26T12:00:00Z" level=error msg="RunPodSandbox for &PodSandboxMetadata{Name:` + pod + `,Uid:u,Namespace:shop,Attempt:0,} failed, error" ` +
			`error="failed to setup network for sandbox \"` + strings.Repeat("a", 63) + pod[len(pod)-1:] + `\": plugin type=\"bridge\" failed (add): no IP addresses available in range set"`
	}
	const unit, group, root = "_SYSTEMD_UNIT=containerd.service", "_SYSTEMD_CGROUP=/system.slice/containerd.service", "_UID=0"
	entries := journalEntry(failed("anybody-1"), root, unit, "_SYSTEMD_CGROUP=/system.slice/containerd.service/pod1") +
		journalEntry(failed("anybody-2"), "_UID=1000", unit, group) +
		journalEntry(failed("anybody-3"), root, "_SYSTEMD_UNIT=session-1.scope", "_SYSTEMD_CGROUP=/user.slice/session-1.scope") +
		journalEntry("starting", root, unit, group) +
		journalEntry(failed("payment-4"), root, unit, group)
	before := time.Now().Add(-time.Minute)
	journaltest.Remote(t, filepath.Join(dir, "var/log/journal/0123456789abcdef0123456789abcdef/system.journal"), true, false, []byte(entries))
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(got)
	}
	assert.Eventually(t, func() bool { return count() > 0 }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, w.shutdown(context.Background()))
	require.Len(t, got, 1)
	assert.Equal(t, "payment-4", got[0].Pod.Name)
	assert.Equal(t, event.ErrorAddressPoolExhausted, got[0].Attributes[event.KeyErrorType])
	assert.True(t, got[0].Time.After(before) && !got[0].Time.After(time.Now()), "when journald got it")
}

// What cannot be read is counted: a log at each try, an entry of the journal once.
func TestLogsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	journaltest.Needs(t, "systemd-journal-remote")
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "syslog"), 0o750))
	cfg := createDefaultConfig().(*Config)
	cfg.RootPath, cfg.Logs.Files = dir, []string{"/syslog"}
	var counted int64
	w := &logWatcher{
		formats: logFormats(), log: zap.NewNop(), journal: followJournal(cfg), failing: map[int]bool{},
		files: []*runtimelog.File{runtimelog.Follow(filepath.Join(dir, "syslog"))}, count: func(n int64) { counted += n },
	}
	defer func() { require.NoError(t, w.journal.reader.Close()) }()
	w.look(time.Now())
	w.look(time.Now())
	assert.EqualValues(t, 2, counted)

	counted, w.files = 0, nil
	path := filepath.Join(dir, "var/log/journal/0123456789abcdef0123456789abcdef/system.journal")
	journaltest.Remote(t, path, true, false, []byte(journalEntry("starting", "_UID=0")+journalEntry("started", "_UID=0")))
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	// https://systemd.io/JOURNAL_FILE_FORMAT/: size of the header at 88, last object at 136; an object's type at 0, its size at 8.
	const entry = 3
	le := binary.LittleEndian
	for at := le.Uint64(file[88:]); at <= le.Uint64(file[136:]); at += (le.Uint64(file[at+8:]) + 7) &^ 7 {
		if file[at] == entry {
			file[at] = 77
		}
	}
	require.NoError(t, os.WriteFile(path, file, 0o600))
	assert.Eventually(t, func() bool { w.look(time.Now()); return counted > 0 }, 20*time.Second, 50*time.Millisecond)
	lost := w.journal.reader.Stats()
	w.look(time.Now())
	assert.EqualValues(t, lost.LostCorrupt+lost.LostDeleted, counted, "each once")
}

// The same failure of several pods is one of each.
func TestFailuresOfSeveralPods(t *testing.T) {
	t.Parallel()
	w := &logWatcher{told: make(map[runtimelog.Failure]toldFailure), formats: logFormats()}
	now := time.Now()
	isNew := func(line string) bool {
		all := w.parse(line)
		require.Len(t, all, 1, line)
		return w.isNew(all[0], 0, now)
	}
	kubelet := func(pod string) string {
		return `E1126 15:00:00.000000 1 pod_workers.go:1301] "Error syncing pod, skipping" err="failed to \"KillPodSandbox\" for \"u\" with KillPodSandboxError: ` +
			`\"rpc error: code = Unknown desc = plugin type=\\\"bridge\\\" failed (delete): boom\"" pod="` + pod + `" podUID="u"`
	}
	for _, pod := range []string{"shop/a", "shop/b", "bank/a"} {
		assert.True(t, isNew(kubelet(pod)), pod)
		assert.False(t, isNew(kubelet(pod)), "%s again", pod)
	}
	const calico = `2026-11-26 15:00:00.000 [ERROR][123] cni-plugin/plugin.go 555: Final result of CNI ADD was an error. error=No more free affine blocks`
	assert.True(t, isNew(calico))
	assert.True(t, isNew(calico), "nobody knows whether it is the same pod's")
	assert.False(t, w.isNew(w.parse(calico)[0], journalIndex, now), "another log has a copy")
	assert.Len(t, w.told, 4)
}

// What the runtime says of a plugin, and the plugin's own log, are one failure.
func TestRuntimeAndPluginTellOneFailure(t *testing.T) {
	t.Parallel()
	const id = "cda935516085f259adfec47370d105820dce944fa8ef3d09c8c434c06a55fa95"
	path := filepath.Join(t.TempDir(), "log")
	w := &logWatcher{
		told: make(map[runtimelog.Failure]toldFailure), failing: map[int]bool{}, formats: logFormats(),
		files: []*runtimelog.File{runtimelog.Follow(path)},
	}
	now := time.Now()
	require.Empty(t, w.look(now))
	require.NoError(t, os.WriteFile(path, []byte(
		`level=warning msg="Unable to create endpoint" containerID=`+id+` error="Cilium API client timeout exceeded" k8sNamespace=shop k8sPodName=payment-2 subsys=cilium-cni`+"\n"+
			`time="2026-11-26T12:00:00Z" level=error msg="RunPodSandbox failed" error="failed to setup network for sandbox \"`+id+`\": plugin type=\"cilium-cni\" failed (add): unable to create endpoint: Cilium API client timeout exceeded"`+"\n"), 0o600))
	got := w.look(now)
	require.Len(t, got, 1)
	assert.Equal(t, state.Pod{ContainerID: id, Name: "payment-2", Namespace: "shop"}, got[0].Pod)
	assert.Equal(t, "CNI plugin cilium-cni failed at ADD: Unable to create endpoint: Cilium API client timeout exceeded", got[0].Body)
}

// The kubelet asks for the status every five seconds, and says each time that it is bad.
func TestStatusThatStaysBadIsOne(t *testing.T) {
	t.Parallel()
	w := &logWatcher{told: make(map[runtimelog.Failure]toldFailure)}
	f := runtimelog.Failure{Command: "STATUS", Message: "limited connectivity"}
	now := time.Now()
	assert.True(t, w.isNew(f, 0, now))
	for range 10 {
		now = now.Add(repeatAfter - time.Second)
		w.look(now)
		assert.False(t, w.isNew(f, 0, now))
	}
	w.look(now.Add(repeatAfter))
	assert.True(t, w.isNew(f, 0, now), "it was good in between")
	ev := failureEvent(f, now)
	assert.Equal(t, "CNI failed at STATUS: limited connectivity", ev.Body)
	assert.Equal(t, plog.SeverityNumberError, ev.Severity)
	assert.NotContains(t, ev.Attributes, event.KeyCNIPlugin)
}

func TestDefaultLogsAreThoseOfTheTable(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{
		"/var/log/syslog", "/var/log/messages", "/var/log/containerd.log",
		"/var/log/aws-routed-eni/ipamd.log", "/var/log/aws-routed-eni/plugin.log", "/var/log/calico/cni/cni.log", "/var/run/cilium/cilium-cni.log",
	}, defaultLogs())
}

// Logs are read where kernel programs cannot run, and only there.
func TestLogsStandInForOperations(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(plugins.Output, *zap.Logger) (pluginSource, error){
		"no kernel programs": func(plugins.Output, *zap.Logger) (pluginSource, error) { return nil, errors.New("not permitted") },
		"disabled":           nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, dir := nodeWithoutCNI(t)
			cfg.Operations.Enabled = open != nil
			cfg.Logs.Files = []string{filepath.Join(dir, "syslog")}
			next := &scriptedConsumer{}
			tel := componenttest.NewTelemetry()
			r, err := newReceiver(cfg, metadatatest.NewSettings(tel))
			require.NoError(t, err)
			r.logs, r.open = next, open
			require.NoError(t, r.Start(context.Background(), componenttest.NewNopHost()))
			assert.Equal(t, open != nil, r.logWatcher != nil)
			require.NoError(t, os.WriteFile(cfg.Logs.Files[0], logged(t), 0o600))
			if open != nil {
				assert.Eventually(t, func() bool { return len(namesIn(next)) == 11 }, 5*time.Second, 10*time.Millisecond)
			}
			require.NoError(t, r.Shutdown(context.Background()))
			require.NoError(t, tel.Shutdown(context.Background()))
		})
	}
}
