package cnireceiver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"go.yaml.in/yaml/v3"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/machine"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadatatest"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// nodeWithoutCNI is a configuration in which no directory is there yet.
func nodeWithoutCNI(t *testing.T) (*Config, string) {
	dir := t.TempDir()
	cfg := createDefaultConfig().(*Config)
	cfg.ConfigDirs, cfg.PluginDirs = []string{filepath.Join(dir, "etc/net.d")}, []string{filepath.Join(dir, "bin")}
	cfg.ResultDirs, cfg.NamespaceDirs = []string{filepath.Join(dir, "results")}, []string{filepath.Join(dir, "netns")}
	cfg.IPAM.DataDirs = []string{filepath.Join(dir, "networks")}
	cfg.Debounce = time.Millisecond
	cfg.Operations.Enabled = false
	return cfg, dir
}

// scriptedConsumer answers with errors first, then takes everything.
type scriptedConsumer struct {
	consumertest.LogsSink
	mu      sync.Mutex
	answers []error
}

func (c *scriptedConsumer) ConsumeLogs(ctx context.Context, logs plog.Logs) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answers) > 0 {
		err := c.answers[0]
		c.answers = c.answers[1:]
		return err
	}
	return c.LogsSink.ConsumeLogs(ctx, logs)
}

func startOn(t *testing.T, cfg *Config, next *scriptedConsumer) (*componenttest.Telemetry, *observer.ObservedLogs) {
	tel := componenttest.NewTelemetry()
	set := metadatatest.NewSettings(tel)
	core, logs := observer.New(zap.InfoLevel)
	set.Logger = zap.New(core)
	r, err := NewFactory().CreateLogs(context.Background(), set, cfg, next)
	require.NoError(t, err)
	require.NoError(t, r.Start(context.Background(), componenttest.NewNopHost()))
	t.Cleanup(func() {
		assert.NoError(t, r.Shutdown(context.Background()))
		assert.NoError(t, tel.Shutdown(context.Background()))
	})
	return tel, logs
}

func namesIn(next *scriptedConsumer) []string {
	var names []string
	for _, logs := range next.AllLogs() {
		for _, rl := range logs.ResourceLogs().All() {
			for _, lr := range rl.ScopeLogs().At(0).LogRecords().All() {
				names = append(names, lr.EventName())
			}
		}
	}
	return names
}

func TestNodeWithoutCNIStartsQuietlyAndSeesItCome(t *testing.T) {
	t.Parallel()
	cfg, dir := nodeWithoutCNI(t)
	next := &scriptedConsumer{}
	_, logs := startOn(t, cfg, next)
	require.Eventually(t, func() bool { return len(namesIn(next)) == 1 }, 5*time.Second, time.Millisecond)
	assert.Equal(t, []string{event.CNIStarted}, namesIn(next))
	require.Equal(t, 2, logs.Len(), "%v", logs.All())
	assert.Equal(t, []any{
		"config_dirs[0]: " + cfg.ConfigDirs[0], "plugin_dirs[0]: " + cfg.PluginDirs[0], "result_dirs[0]: " + cfg.ResultDirs[0],
		"namespace_dirs[0]: " + cfg.NamespaceDirs[0], "ipam::data_dirs[0]: " + cfg.IPAM.DataDirs[0],
	}, logs.All()[0].ContextMap()["paths"])
	assert.Contains(t, logs.All()[1].Message, "there is no network configuration in "+cfg.ConfigDirs[0])

	// The installer of a network makes the directory, then the file.
	require.NoError(t, os.MkdirAll(cfg.ConfigDirs[0], 0o750))
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etc/net.d/10.conf"), []byte(`{"name": "n", "type": "bridge"}`), 0o600))
	assert.Eventually(t, func() bool { return len(namesIn(next)) == 3 }, 10*time.Second, time.Millisecond)
	assert.Equal(t, []string{event.CNIStarted, event.CNIConfigChanged, event.CNIPluginsMissing}, namesIn(next), "the plugin is not there yet")
}

// containerd's own configuration writes bin_dir with a slash at the end.
func TestDirectoriesWithASlashAtTheEndAreWatched(t *testing.T) {
	t.Parallel()
	cfg, dir := nodeWithoutCNI(t)
	cfg.Interval = time.Hour
	require.NoError(t, os.MkdirAll(cfg.ConfigDirs[0], 0o750))
	cfg.ConfigDirs[0] += "/"
	next := &scriptedConsumer{}
	startOn(t, cfg, next)
	require.Eventually(t, func() bool { return len(namesIn(next)) == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "etc/net.d/10.conf"), []byte(`{"name": "n", "type": "bridge"}`), 0o600))
	assert.Eventually(t, func() bool { return slices.Contains(namesIn(next), event.CNIConfigChanged) }, 10*time.Second, time.Millisecond)
}

func TestRestBetweenPictures(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]time.Duration{
		0: 0, 100 * time.Millisecond: time.Second, 2 * time.Second: maxRest, time.Hour: maxRest,
	} {
		assert.Equal(t, want, restAfter(took), took)
	}
}

func TestRefusedEventsAreSentAgain(t *testing.T) {
	t.Parallel()
	cfg, _ := nodeWithoutCNI(t)
	next := &scriptedConsumer{answers: []error{errors.New("memory is short"), errors.New("memory is short")}}
	startOn(t, cfg, next)
	assert.Eventually(t, func() bool { return len(namesIn(next)) == 1 }, 10*time.Second, 10*time.Millisecond)
}

func TestPermanentlyRefusedEventsAreNot(t *testing.T) {
	t.Parallel()
	cfg, _ := nodeWithoutCNI(t)
	cfg.Interval = time.Second
	next := &scriptedConsumer{answers: []error{consumererror.NewPermanent(errors.New("never"))}}
	startOn(t, cfg, next)
	time.Sleep(2500 * time.Millisecond)
	assert.Empty(t, namesIn(next))
}

func TestEncoderPutsPodsApartAndLeavesOutWhatIsDisabled(t *testing.T) {
	t.Parallel()
	cfg := createDefaultConfig().(*Config)
	cfg.Events.TapioCniPoolHigh.Enabled = false
	enc := newEncoder(cfg, receiver.Settings{}, machine.Info{Name: "node-7"})
	at := time.Unix(5, 0)
	pod := state.Pod{ContainerID: "c", Name: "p", Namespace: "n", UID: "u", IP: "10.0.0.2"}
	logs := enc.encode([]state.Event{
		{Name: event.CNIInterface, Time: at, Severity: plog.SeverityNumberInfo, Pod: pod, Attributes: map[string]any{event.KeyCNIMTU: int64(1500)}},
		{Name: event.CNIPoolHigh, Time: at},
		{Name: event.CNIPoolExhausted, Time: at, Severity: plog.SeverityNumberError, Body: "full"},
		{Name: event.CNIInterfaceRemoved, Time: at, Pod: pod},
	}, time.Unix(6, 0))
	require.Equal(t, 2, logs.ResourceLogs().Len())
	assert.Equal(t, map[string]any{
		"host.name": "node-7", "container.id": "c", "k8s.pod.name": "p", "k8s.namespace.name": "n", "k8s.pod.uid": "u", "k8s.pod.ip": "10.0.0.2",
	}, logs.ResourceLogs().At(0).Resource().Attributes().AsRaw())
	assert.Equal(t, 2, logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().Len())
	record := logs.ResourceLogs().At(1).ScopeLogs().At(0).LogRecords().At(0)
	assert.Equal(t, "full", record.Body().Str())
	assert.Equal(t, at.UTC(), record.Timestamp().AsTime())
	assert.Equal(t, "Error", record.SeverityText())
}

// Every event of the state half is declared, and can be disabled.
func TestEventsAreThoseOfTheMetadata(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("metadata.yaml")
	require.NoError(t, err)
	var declared struct {
		Events map[string]any `yaml:"events"`
	}
	require.NoError(t, yaml.Unmarshal(content, &declared))
	enabled := enabledEvents(createDefaultConfig().(*Config))
	for name := range declared.Events {
		assert.True(t, enabled[name], name)
	}
	assert.Len(t, enabled, len(declared.Events))
	assert.Equal(t, "tapio_cni", metadata.Type.String())
}

// What the user named and is not there is told with its key, what is so by default is not.
func TestAbsentPaths(t *testing.T) {
	t.Parallel()
	cfg := createDefaultConfig().(*Config)
	root := t.TempDir()
	cfg.RootPath = root
	assert.Empty(t, cfg.absentPaths(true), "a node without CNI")
	assert.False(t, cfg.sharesResults())
	cfg.HostNamespace, cfg.ConfigDirs = "/run/netns/nope", []string{"/etc/cni/net.d", "/etc/cni/nett.d"}
	cfg.Logs.Files = append(cfg.Logs.Files, "/var/log/k3s.log")
	want := []string{"host_namespace: /run/netns/nope", "config_dirs[1]: /etc/cni/nett.d"}
	assert.Equal(t, want, cfg.absentPaths(false))
	assert.Equal(t, append(want, fmt.Sprintf("logs::files[%d]: /var/log/k3s.log", len(cfg.Logs.Files)-1)), cfg.absentPaths(true))
	assert.True(t, cfg.sharesResults())
	require.NoError(t, confmap.NewFromStringMap(map[string]any{"result_dirs": []any{"/var/lib/cni/results"}}).Unmarshal(cfg))
	assert.False(t, cfg.sharesResults(), "somebody looked at it, and it is the node's own mount")
	cfg.RootPath = "/nowhere/at/all"
	assert.Equal(t, []string{"root_path: /nowhere/at/all"}, cfg.absentPaths(true))
}
