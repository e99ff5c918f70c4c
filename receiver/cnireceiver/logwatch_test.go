package cnireceiver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/event"
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
	})
	for _, file := range cfg.Logs.Files { // the same in both
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), logged(t), 0o600))
	}
	assert.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == 6
	}, 5*time.Second, 10*time.Millisecond)
	require.NoError(t, w.shutdown(context.Background()))
	require.Len(t, got, 6, "Calico's line has no owner, and is told of both files")
	assert.Equal(t, event.CNIOperation, got[0].Name)
	assert.Equal(t, plog.SeverityNumberError, got[0].Severity)
	assert.Equal(t, state.Pod{ContainerID: "cda935516085f259adfec47370d105820dce944fa8ef3d09c8c434c06a55fa95", Name: "payment-2", Namespace: "shop", UID: "uid-2"}, got[0].Pod)
	assert.Equal(t, "bridge", got[0].Attributes[event.KeyCNIPlugin])
	assert.Equal(t, plog.SeverityNumberWarn, got[3].Severity, "a DEL is tried again")
}

// The same failure of several pods is one of each.
func TestFailuresOfSeveralPods(t *testing.T) {
	t.Parallel()
	w := &logWatcher{told: make(map[runtimelog.Failure]time.Time)}
	now := time.Now()
	isNew := func(line string) bool {
		f, ok := runtimelog.Parse(line)
		require.True(t, ok, line)
		return w.isNew(f, now)
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
	assert.Len(t, w.told, 3)
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
				assert.Eventually(t, func() bool { return len(namesIn(next)) == 6 }, 5*time.Second, 10*time.Millisecond)
			}
			require.NoError(t, r.Shutdown(context.Background()))
			require.NoError(t, tel.Shutdown(context.Background()))
		})
	}
}
