package cnireceiver

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/plugins"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

func TestLoadConfig(t *testing.T) {
	t.Parallel()
	all := createDefaultConfig().(*Config)
	all.HostName, all.RootPath, all.HostNamespace = "node-7", "/hostfs", "/run/netns/node"
	keeper := component.MustNewID("file_storage")
	all.StorageID = &keeper
	all.ConfigDirs = []string{"/etc/cni/net.d", "/etc/cni/multus/net.d"}
	all.PluginDirs = []string{"/opt/cni/bin"}
	all.ResultDirs, all.resultDirsSet = []string{"/var/lib/cni/results", "/var/lib/cni/other"}, true
	all.NamespaceDirs = []string{"/run/netns", "/run/docker/netns"}
	all.IPAM = IPAMConfig{Enabled: true, DataDirs: []string{"/var/lib/cni/networks", "/run/my-ipam"}, HighWater: 0.7}
	all.Interfaces = InterfacesConfig{Hold: 10 * time.Second}
	all.Leaks = LeaksConfig{GracePeriod: 10 * time.Minute, NamespacePatterns: []string{"cni-*", "pod-*"}}
	all.Conntrack = ConntrackConfig{HighWater: 0.9}
	all.Operations = OperationsConfig{Output: plugins.OutputNever}
	all.Logs = LogsConfig{Files: []string{"/var/log/k3s.log"}, JournalDirs: []string{"/var/log/journal.remote"}}
	all.Interval, all.Debounce = time.Minute, time.Second
	all.Events.TapioCniInterface.Enabled = false
	for name, want := range map[string]component.Config{"": createDefaultConfig(), "all": all} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
			require.NoError(t, err)
			sub, err := conf.Sub(component.NewIDWithName(metadata.Type, name).String())
			require.NoError(t, err)
			got := createDefaultConfig()
			require.NoError(t, sub.Unmarshal(got))
			require.NoError(t, got.(*Config).Validate())
			// What the user wrote is remembered by the generated event settings.
			got.(*Config).Events.TapioCniInterface = metadata.EventConfig{Enabled: got.(*Config).Events.TapioCniInterface.Enabled}
			assert.Equal(t, want, got)
		})
	}
}

func TestValidateNamesKeyValueAndRange(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		`root_path: "hostfs" is not an absolute path`:                   func(c *Config) { c.RootPath = "hostfs" },
		`host_namespace: "x" is not an absolute path`:                   func(c *Config) { c.HostNamespace = "x" },
		`config_dirs[1]: "net.d" is not an absolute path`:               func(c *Config) { c.ConfigDirs = []string{"/a", "net.d"} },
		`plugin_dirs[0]: "" is not an absolute path`:                    func(c *Config) { c.PluginDirs = []string{""} },
		"plugin_dirs: [] is no directory; runtimes use /opt/cni/bin":    func(c *Config) { c.PluginDirs = nil },
		"config_dirs: [] is no directory; runtimes use /etc/cni/net.d":  func(c *Config) { c.ConfigDirs = []string{} },
		`result_dirs[0]: "a" is not an absolute path`:                   func(c *Config) { c.ResultDirs = []string{"a"} },
		`namespace_dirs[0]: "a" is not an absolute path`:                func(c *Config) { c.NamespaceDirs = []string{"a"} },
		`ipam::data_dirs[0]: "a" is not an absolute path`:               func(c *Config) { c.IPAM.DataDirs = []string{"a"} },
		`logs::journal_dirs[0]: "a" is not an absolute path`:            func(c *Config) { c.Logs.JournalDirs = []string{"a"} },
		`logs::files[0]: "a" is not an absolute path`:                   func(c *Config) { c.Logs.Files = []string{"a"} },
		"ipam::high_water: 0 is not above 0 and at most 1":              func(c *Config) { c.IPAM.HighWater = 0 },
		"ipam::high_water: NaN is not above 0 and at most 1":            func(c *Config) { c.IPAM.HighWater = math.NaN() },
		"conntrack::high_water: 85 is not above 0 and at most 1":        func(c *Config) { c.Conntrack.HighWater = 85 },
		"interfaces::hold: -1s is not in 0s to 10m0s":                   func(c *Config) { c.Interfaces.Hold = -time.Second },
		"leaks::grace_period: 48h0m0s is not in 0s to 24h0m0s":          func(c *Config) { c.Leaks.GracePeriod = 48 * time.Hour },
		`leaks::namespace_patterns[0]: "[" is not a glob such as cni-*`: func(c *Config) { c.Leaks.NamespacePatterns = []string{"["} },
		`operations::output: "no" is not on_demand, always or never`:    func(c *Config) { c.Operations.Output = "no" },
		"interval: 1ms is not in 1s to 1h0m0s":                          func(c *Config) { c.Interval = time.Millisecond },
		"debounce: 1m0s is not in 0s to 10s":                            func(c *Config) { c.Debounce = time.Minute },
	} {
		cfg := createDefaultConfig().(*Config)
		change(cfg)
		assert.ErrorContains(t, cfg.Validate(), want)
	}
}

// optionKeys are the keys of a configuration, as users write them.
func optionKeys(prefix string, typ reflect.Type) (out []string) {
	for field := range typ.Fields() {
		if !field.IsExported() {
			continue
		}
		key := prefix + field.Tag.Get("mapstructure")
		if field.Type.Kind() == reflect.Struct && field.Tag.Get("mapstructure") != ",squash" {
			out = append(out, optionKeys(key+"::", field.Type)...)
		} else if key != ",squash" {
			out = append(out, key)
		}
	}
	return out
}

func TestReadmeSaysEverything(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("README.md")
	require.NoError(t, err)
	keys := optionKeys("", reflect.TypeFor[Config]())
	assert.Contains(t, keys, "leaks::grace_period")
	for _, key := range keys {
		assert.Contains(t, string(content), "\n| `"+key+"` | ", "option")
	}
	logs, _ := state.PluginLogs()
	for _, log := range logs {
		assert.Contains(t, string(content), "`"+log+"`", "log of a known plugin")
	}
	for name := range enabledEvents(createDefaultConfig().(*Config)) {
		last := name[strings.LastIndexByte(name, '.'):]
		assert.Regexp(t, "`"+regexp.QuoteMeta(name)+"`|`"+regexp.QuoteMeta(last)+"`", string(content), "event")
	}
}

// TestKeysAndUnits: a slip of the keyboard is explained.
func TestKeysAndUnits(t *testing.T) {
	for want, section := range map[string]map[string]any{
		"intervall: there is no such key; do you mean interval?": {"intervall": "5s"},
		"events::tapio.cni.pool.full: there is no such key; do you mean events::tapio.cni.pool.exhausted or events::tapio.cni.pool.high?": {
			"events": map[string]any{"tapio.cni.pool.full": map[string]any{"enabled": false}},
		},
		"operations::output: 4 is not allowed: want one of on_demand, always, never": {"operations": map[string]any{"output": 4}},
		"interval: 5 is not allowed: want a number with its unit":                    {"interval": 5},
	} {
		assert.ErrorContains(t, confmap.NewFromStringMap(section).Unmarshal(createDefaultConfig()), want)
	}
}
