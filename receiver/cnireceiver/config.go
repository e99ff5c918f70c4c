package cnireceiver

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"

	"github.com/yairfalse/tapio/internal/section"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/plugins"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/snapshot"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// Config says where CNI keeps its files on this machine and what is too much.
// All paths are paths of the host.
type Config struct {
	metadata.LogsBuilderConfig `mapstructure:",squash"`

	// HostName is the host.name of all records; empty for that of the system.
	HostName string `mapstructure:"host_name"`
	// StorageID names the extension that remembers across restarts of the collector what
	// is wrong. Without one, it is told as new at every start.
	StorageID *component.ID `mapstructure:"storage"`
	// RootPath is where the host's / is mounted; empty when it is the collector's.
	RootPath string `mapstructure:"root_path"`
	// ConfigDirs hold network configurations: *.conf, *.conflist and *.json.
	ConfigDirs []string `mapstructure:"config_dirs"`
	// PluginDirs hold the executables of plugins. A plugin is looked up in all,
	// in this order.
	PluginDirs []string `mapstructure:"plugin_dirs"`
	// ResultDirs are where runtimes (libcni) keep the result of each ADD.
	ResultDirs []string `mapstructure:"result_dirs"`
	// NamespaceDirs are where network namespaces are pinned by name.
	NamespaceDirs []string `mapstructure:"namespace_dirs"`
	// HostNamespace is the path of the host's network namespace; empty for that
	// of the host's first process.
	HostNamespace string `mapstructure:"host_namespace"`

	// IPAM is about address pools.
	IPAM IPAMConfig `mapstructure:"ipam"`
	// Interfaces is about links, addresses and routes.
	Interfaces InterfacesConfig `mapstructure:"interfaces"`
	// Leaks is about what is left behind by pods that are gone.
	Leaks LeaksConfig `mapstructure:"leaks"`
	// Conntrack is about the kernel's table of connections.
	Conntrack ConntrackConfig `mapstructure:"conntrack"`

	// Operations is about what plugins are asked and answer.
	Operations OperationsConfig `mapstructure:"operations"`

	// Logs is about what runtimes log, for where operations cannot be seen.
	Logs LogsConfig `mapstructure:"logs"`

	// Interval is how often everything is read when nothing seems to change.
	Interval time.Duration `mapstructure:"interval"`
	// Debounce is how long changes are gathered before everything is read.
	Debounce time.Duration `mapstructure:"debounce"`

	// resultDirsSet says that the configuration names result_dirs, be it the default ones.
	resultDirsSet bool
}

// IPAMConfig is about address pools.
type IPAMConfig struct {
	// Enabled counts addresses and emits tapio.cni.pool.*.
	Enabled bool `mapstructure:"enabled"`
	// DataDirs hold a directory for each network, as host-local does. The addresses of
	// networks without a dataDir in their configuration are in these; those of others
	// are only in it, which is read too.
	DataDirs []string `mapstructure:"data_dirs"`
	// HighWater is the used part of a pool above which it is nearly full.
	HighWater float64 `mapstructure:"high_water"`
}

// InterfacesConfig is about links, addresses and routes.
type InterfacesConfig struct {
	// Enabled emits tapio.cni.interface.*, .address.* and .route.*.
	Enabled bool `mapstructure:"enabled"`
	// Hold is how long something must be wrong: while a pod is set up or torn
	// down, everything is for some moments.
	Hold time.Duration `mapstructure:"hold"`
}

// LeaksConfig is about what is left behind by pods that are gone.
type LeaksConfig struct {
	// Enabled emits tapio.cni.*.leaked.
	Enabled bool `mapstructure:"enabled"`
	// GracePeriod is how long a thing must have been without an owner.
	GracePeriod time.Duration `mapstructure:"grace_period"`
	// NamespacePatterns are globs of the names of network namespaces that
	// container runtimes make. Others are people's own, and never leaked.
	NamespacePatterns []string `mapstructure:"namespace_patterns"`
}

// ConntrackConfig is about the kernel's table of connections.
type ConntrackConfig struct {
	// Enabled reads the table's size and emits tapio.cni.conntrack.*.
	Enabled bool `mapstructure:"enabled"`
	// HighWater is the used part of the table above which it is nearly full.
	HighWater float64 `mapstructure:"high_water"`
}

// OperationsConfig is about what plugins are asked and answer, seen by kernel
// programs.
type OperationsConfig struct {
	// Enabled makes a trace of each operation, and tapio.cni.operation of those
	// that fail.
	Enabled bool `mapstructure:"enabled"`
	// Output says when the configuration that a plugin reads and the result that it
	// writes are looked at: on_demand, always or never.
	Output plugins.Output `mapstructure:"output"`
}

// LogsConfig is about what container runtimes log.
type LogsConfig struct {
	// Enabled emits tapio.cni.operation of failures that are logged, where the
	// kernel programs of operations cannot run.
	Enabled bool `mapstructure:"enabled"`
	// Files are logs of the runtime, the kubelet and plugins. One that is not
	// there is waited for.
	Files []string `mapstructure:"files"`
	// JournalDirs hold the files of systemd's journal, as /var/log/journal does. Empty
	// not to read it.
	JournalDirs []string `mapstructure:"journal_dirs"`
}

// Bounds of the configuration.
const (
	minInterval, maxInterval = time.Second, time.Hour
	maxDebounce              = 10 * time.Second
	maxHold, maxGracePeriod  = 10 * time.Minute, 24 * time.Hour
)

func createDefaultConfig() component.Config {
	return &Config{
		LogsBuilderConfig: metadata.DefaultLogsBuilderConfig(),
		ConfigDirs:        []string{"/etc/cni/net.d"},
		PluginDirs:        []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"},
		ResultDirs:        []string{"/var/lib/cni/results"},
		NamespaceDirs:     []string{"/run/netns"},
		IPAM:              IPAMConfig{Enabled: true, DataDirs: []string{"/var/lib/cni/networks"}, HighWater: 0.85},
		Interfaces:        InterfacesConfig{Enabled: true, Hold: 3 * time.Second},
		Leaks:             LeaksConfig{Enabled: true, GracePeriod: 5 * time.Minute, NamespacePatterns: []string{"cni-*"}},
		Conntrack:         ConntrackConfig{Enabled: true, HighWater: 0.85},
		Operations:        OperationsConfig{Enabled: true, Output: plugins.OutputOnDemand},
		Logs:              LogsConfig{Enabled: true, Files: defaultLogs(), JournalDirs: []string{"/var/log/journal", "/run/log/journal"}},
		Interval:          30 * time.Second,
		Debounce:          200 * time.Millisecond,
	}
}

// defaultLogs are where distributions have the logs of runtimes and the kubelet, and
// where the known plugins have theirs.
func defaultLogs() []string {
	plugins, _ := state.PluginLogs()
	return append([]string{"/var/log/syslog", "/var/log/messages", "/var/log/containerd.log"}, plugins...)
}

// Unmarshal implements confmap.Unmarshaler.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	c.resultDirsSet = conf.IsSet("result_dirs")
	return section.Unmarshal(conf, c)
}

// Validate names every key that is wrong, its value and what is allowed.
func (c *Config) Validate() error {
	var errs []error
	if c.RootPath != "" && !path.IsAbs(c.RootPath) {
		errs = append(errs, fmt.Errorf("root_path: %q is not an absolute path", c.RootPath))
	}
	if c.HostNamespace != "" && !path.IsAbs(c.HostNamespace) {
		errs = append(errs, fmt.Errorf("host_namespace: %q is not an absolute path", c.HostNamespace))
	}
	errs = append(errs,
		some("config_dirs", c.ConfigDirs, "/etc/cni/net.d"), some("plugin_dirs", c.PluginDirs, "/opt/cni/bin"),
		absolute("config_dirs", c.ConfigDirs), absolute("plugin_dirs", c.PluginDirs), absolute("result_dirs", c.ResultDirs),
		absolute("namespace_dirs", c.NamespaceDirs), absolute("ipam::data_dirs", c.IPAM.DataDirs), absolute("logs::files", c.Logs.Files),
		absolute("logs::journal_dirs", c.Logs.JournalDirs),
		part("ipam::high_water", c.IPAM.HighWater), part("conntrack::high_water", c.Conntrack.HighWater),
		between("interfaces::hold", c.Interfaces.Hold, 0, maxHold),
		between("leaks::grace_period", c.Leaks.GracePeriod, 0, maxGracePeriod),
		between("interval", c.Interval, minInterval, maxInterval),
		between("debounce", c.Debounce, 0, maxDebounce))
	switch o := c.Operations.Output; o {
	case plugins.OutputOnDemand, plugins.OutputAlways, plugins.OutputNever:
	default:
		errs = append(errs, fmt.Errorf("operations::output: %q is not on_demand, always or never", o))
	}
	for i, pattern := range c.Leaks.NamespacePatterns {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			errs = append(errs, fmt.Errorf("leaks::namespace_patterns[%d]: %q is not a glob such as cni-*", i, pattern))
		}
	}
	return errors.Join(errs...)
}

// some refuses an empty list of what is always needed.
func some(key string, dirs []string, usual string) error {
	if len(dirs) == 0 {
		return fmt.Errorf("%s: [] is no directory; runtimes use %s if not told otherwise", key, usual)
	}
	return nil
}

func absolute(key string, dirs []string) error {
	for i, dir := range dirs {
		if !path.IsAbs(dir) {
			return fmt.Errorf("%s[%d]: %q is not an absolute path", key, i, dir)
		}
	}
	return nil
}

func part(key string, v float64) error {
	if v > 0 && v <= 1 { // false for NaN
		return nil
	}
	return fmt.Errorf("%s: %v is not above 0 and at most 1", key, v)
}

func between(key string, d, low, high time.Duration) error {
	if d < low || d > high {
		return fmt.Errorf("%s: %s is not in %s to %s", key, d, low, high)
	}
	return nil
}

// options are what the reader of pictures needs.
func (c *Config) options() snapshot.Options {
	return snapshot.Options{
		Root: c.RootPath, HostNamespace: c.HostNamespace,
		ConfigDirs: cleaned(c.ConfigDirs), PluginDirs: cleaned(c.PluginDirs), ResultDirs: cleaned(c.ResultDirs), NamespaceDirs: cleaned(c.NamespaceDirs),
		DataDirs: cleaned(c.IPAM.DataDirs),
		Pools:    c.IPAM.Enabled || c.Leaks.Enabled, Interfaces: c.Interfaces.Enabled,
		Processes: c.Leaks.Enabled, Conntrack: c.Conntrack.Enabled,
	}
}

// cleaned are the directories as they are compared with others: without a slash at the end.
func cleaned(dirs []string) []string {
	out := make([]string, len(dirs))
	for i, dir := range dirs {
		out[i] = path.Clean(dir)
	}
	return out
}

// settings are what the decider needs.
func (c *Config) settings() state.Settings {
	places := c.options()
	return state.Settings{
		PoolHighWater: c.IPAM.HighWater, Pools: c.IPAM.Enabled, DataDirs: places.DataDirs, ConntrackHighWater: c.Conntrack.HighWater,
		Hold: c.Interfaces.Hold, Grace: c.Leaks.GracePeriod, NamespacePatterns: c.Leaks.NamespacePatterns,
		Interfaces: c.Interfaces.Enabled, Leaks: c.Leaks.Enabled, Conntrack: c.Conntrack.Enabled,
		ConfigDirs: places.ConfigDirs, PluginDirs: places.PluginDirs, ResultDirs: places.ResultDirs,
		NamespaceDirs: places.NamespaceDirs, HostNamespace: places.HostNamespace, Boot: boot(),
	}
}

// boot is the id of the kernel's boot, which is the same in most containers; "" when it
// cannot be read.
func boot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// watched names what is enabled, for people.
func (c *Config) watched() []string {
	out := []string{"config", "plugins", "results"}
	for _, part := range []struct {
		name    string
		enabled bool
	}{{"ipam", c.IPAM.Enabled}, {"interfaces", c.Interfaces.Enabled}, {"leaks", c.Leaks.Enabled}, {"conntrack", c.Conntrack.Enabled}, {"operations", c.Operations.Enabled}} {
		if part.enabled {
			out = append(out, part.name)
		}
	}
	return out
}
