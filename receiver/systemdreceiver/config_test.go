package systemdreceiver

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadata"
)

func loadConfig(t *testing.T, name string) *Config {
	t.Helper()
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	sub, err := conf.Sub(component.NewIDWithName(metadata.Type, name).String())
	require.NoError(t, err)
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, sub.Unmarshal(cfg))
	return cfg
}

func TestConfig(t *testing.T) {
	t.Parallel()
	assert.Equal(t, createDefaultConfig(), loadConfig(t, ""))
	require.NoError(t, loadConfig(t, "").Validate())

	cfg := loadConfig(t, "all")
	require.NoError(t, cfg.Validate())
	id := component.MustNewID("file_storage")
	assert.Equal(t, "node-7", cfg.HostName)
	assert.Equal(t, &id, cfg.StorageID)
	assert.Equal(t, UnitsConfig{
		Enabled: true, BusAddress: "unix:path=/host/run/dbus/system_bus_socket", Required: true,
		Include: []string{"*.service"}, Exclude: []string{"apt-*.service"},
		Critical: []string{"payment.service"}, CriticalSeverity: "error", RestartWindow: 5 * time.Minute, SampleInterval: 30 * time.Second,
	}, cfg.Units)
	assert.False(t, cfg.Events.TapioSystemdUnitActivated.Enabled)
}

func TestValidateUnits(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*UnitsConfig){
		`units::bus_address: "/run/x" is not a D-Bus address such as unix:path=/run/dbus/system_bus_socket`: func(c *UnitsConfig) { c.BusAddress = "/run/x" },
		`units::include: [] matches no unit; use ["*"] for all`:                                             func(c *UnitsConfig) { c.Include = nil },
		`units::include::1: "[" is not a pattern of *, ?, [a-z] and plain characters`:                       func(c *UnitsConfig) { c.Include = []string{"*", "["} },
		`units::exclude::0: "" is not a pattern of *, ?, [a-z] and plain characters`:                        func(c *UnitsConfig) { c.Exclude = []string{""} },
		`units::critical::0: "[" is not a pattern of *, ?, [a-z] and plain characters`:                      func(c *UnitsConfig) { c.Critical = []string{"["} },
		`units::critical_severity: "panic" is not error or fatal`:                                           func(c *UnitsConfig) { c.CriticalSeverity = "panic" },
		`units::sample_interval: 10ms is neither 0 nor in 1s to 1h0m0s`:                                     func(c *UnitsConfig) { c.SampleInterval = 10 * time.Millisecond },
		`units::restart_window: 0s is not in 1s to 24h0m0s`:                                                 func(c *UnitsConfig) { c.RestartWindow = 0 },
	} {
		cfg := createDefaultConfig().(*Config)
		change(&cfg.Units)
		assert.EqualError(t, cfg.Validate(), want)
	}
}

func TestWatchedUnits(t *testing.T) {
	t.Parallel()
	u := newTestUnits(t, nil, nil)
	for name, want := range map[string]bool{
		"nginx.service": true, "data.mount": true, "dbus.socket": true, "multi-user.target": true, "getty@tty1.service": true,
		"var-lib-kubelet-pods-x.mount": false, "run-docker-netns-x.mount": false, "var-lib-docker-overlay2-x.mount": false,
		"user@1000.service": false, "user-1000.slice": false, "session-1.scope": false, "dev-sda.device": false,
		"cri-containerd-x.scope": false,
	} {
		assert.Equal(t, want, u.isWatched(name), name)
	}
}

// A unit's own name matches itself, whatever systemd escapes in it.
func TestGlobs(t *testing.T) {
	t.Parallel()
	for glob, names := range map[string][2]string{ // one that matches, and one that does not
		`var-lib-my\x2ddata.mount`: {`var-lib-my\x2ddata.mount`, `var-lib-myx2ddata.mount`},
		`foo\x2d*.service`:         {`foo\x2dbar.service`, `foo-bar.service`},
		`a[\x]b`:                   {`a\b`, `a]b`},
		`a\`:                       {`a\`, `a`},
		"kube-*.service":           {"kube-proxy.service", "kubelet.service"},
	} {
		assert.True(t, matches([]string{glob}, names[0]), "%s: %s", glob, names[0])
		assert.False(t, matches([]string{glob}, names[1]), "%s: %s", glob, names[1])
		cfg := createDefaultConfig().(*Config)
		cfg.Units.Include, cfg.Journal.ExcludeUnits = []string{glob}, []string{glob}
		assert.NoError(t, cfg.Validate(), glob)
	}
}

// TestKeysAndUnits: a slip of the keyboard is explained.
func TestKeysAndUnits(t *testing.T) {
	for want, section := range map[string]map[string]any{
		"journal::prioriti: there is no such key; do you mean journal::priority?": {"journal": map[string]any{"prioriti": "notice"}},
	} {
		assert.ErrorContains(t, confmap.NewFromStringMap(section).Unmarshal(createDefaultConfig()), want)
	}
}
