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
		`units::bus_address: "/run/x" is not a D-Bus address such as unix:path=/run/dbus/system_bus_socket`:                                     func(c *UnitsConfig) { c.BusAddress = "/run/x" },
		`units::include: [] matches no unit; use ["*"] for all`:                                                                                 func(c *UnitsConfig) { c.Include = nil },
		`units::include[1]: "[" is not a pattern of *, ?, [a-z] and plain characters`:                                                           func(c *UnitsConfig) { c.Include = []string{"*", "["} },
		`units::exclude[0]: "" is not a pattern of *, ?, [a-z] and plain characters`:                                                            func(c *UnitsConfig) { c.Exclude = []string{""} },
		`units::critical[0]: "[" is not a pattern of *, ?, [a-z] and plain characters`:                                                          func(c *UnitsConfig) { c.Critical = []string{"["} },
		`units::critical[1]: "ledger" matches no unit: names end in .service, .socket, .mount and the like; do you mean "ledger.service"?`:      func(c *UnitsConfig) { c.Critical = []string{"a.service", "ledger"} },
		`units::include[0]: "*.servce" matches no unit: names end in .service, .socket, .mount and the like; do you mean "*.service"?`:          func(c *UnitsConfig) { c.Include = []string{"*.servce"} },
		`units::exclude[0]: "user@1000" matches no unit: names end in .service, .socket, .mount and the like; do you mean "user@1000.service"?`: func(c *UnitsConfig) { c.Exclude = []string{"user@1000"} },
		`units::critical_severity: "panic" is not error or fatal`:                                                                               func(c *UnitsConfig) { c.CriticalSeverity = "panic" },
		`units::sample_interval: 10ms is neither 0 nor in 1s to 1h0m0s`:                                                                         func(c *UnitsConfig) { c.SampleInterval = 10 * time.Millisecond },
		`units::restart_window: 0s is not in 1s to 24h0m0s`:                                                                                     func(c *UnitsConfig) { c.RestartWindow = 0 },
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
		assert.Empty(t, globList{globs: []string{glob}}.validate(), glob)
	}
}

func TestGlobsOfUnits(t *testing.T) {
	t.Parallel()
	for glob, want := range map[string]bool{
		"ledger.service": true, "ledger*": true, "*": true, "led?er.s*ice": true, "*ice": true, "*.socke?": true, "a.[st]*": true, "init.scope": true,
		`.*\.service`:  true, // a regular expression, which the warning tells of
		`a\x2db.mount`: true, "getty@tty1.service": true, "x.y.service": true,
		"ledger": false, "*ledger": false, "ledger.servic": false, ".service": false, "ledger.service*x": false, "*.services": false, "[a]b": false,
	} {
		assert.Equal(t, want, canBeUnit(glob), glob)
	}
}

// What the user wrote and no unit has is named; the defaults are not, as no machine has
// them all.
func TestUnmatchedGlobs(t *testing.T) {
	t.Parallel()
	names := []string{"ssh.service", "ledger.service", "getty@.service", "worker@.service"}
	list := globList{"units::critical", []string{
		"kubelet.service", "ledger.service", "ledgr.service", `.*\.service`, "led*", "getty@tty1.service", "getty@tty1.socket", "worker@*", "gety@tty1.service",
	}, true}
	assert.Equal(t, []string{
		"units::critical[2]: ledgr.service", `units::critical[3]: .*\.service`, "units::critical[6]: getty@tty1.socket", "units::critical[8]: gety@tty1.service",
	}, list.unmatched(defaultUnitsConfig().Critical, names))
}

// TestKeysAndUnits: a slip of the keyboard is explained.
func TestKeysAndUnits(t *testing.T) {
	for want, section := range map[string]map[string]any{
		"journal::priority: 4 is not allowed: want one of emerg, alert, crit, err, warning, notice, info, debug": {"journal": map[string]any{"priority": 4}},
		"units::critical_severity: 4 is not allowed: want one of error, fatal":                                   {"units": map[string]any{"critical_severity": 4}},
		"journal::start_at: 4 is not allowed: want one of end, beginning":                                        {"journal": map[string]any{"start_at": 4}},
		`journal::matches[0]::_UID: 0 is not allowed: want a text, which a number is in quotes: "0"`:             {"journal": map[string]any{"matches": []any{map[string]any{"_UID": 0}}}},
		"events::tapio.systemd.unit.failed: false is not allowed: want a section: {enabled: false}":              {"events": map[string]any{"tapio.systemd.unit.failed": false}},
		"journal::prioriti: there is no such key; do you mean journal::priority?":                                {"journal": map[string]any{"prioriti": "notice"}},
	} {
		assert.ErrorContains(t, confmap.NewFromStringMap(section).Unmarshal(createDefaultConfig()), want)
	}
}
