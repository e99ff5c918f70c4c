package ebpfreceiver

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

func TestLoadConfig(t *testing.T) {
	t.Parallel()
	all := createDefaultConfig().(*Config)
	all.Programs.Network.Enabled = false
	all.Programs.Network.SlowDNS = time.Second
	all.Programs.Kmsg.Enabled = false
	all.Programs.HTTP.Enabled = true
	all.Programs.HTTP.ContextMap = "/sys/fs/bpf/other"
	all.Programs.HTTP.Observation = time.Minute
	all.Programs.HTTP.GoroutineChildren = true
	all.Programs.TLS.Enabled = true
	all.HostName = "node-7"
	all.CommandLine = true
	all.RingBufferSize = 8 << 20
	all.QueueSize = 1000
	all.MaxBatchSize = 100
	all.FlushInterval = 20 * time.Millisecond
	all.Events.TapioProcessExec.Enabled = false
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
			got.(*Config).Events.TapioProcessExec = metadata.EventConfig{Enabled: got.(*Config).Events.TapioProcessExec.Enabled}
			assert.Equal(t, want, got)
		})
	}
}

func TestRulesOfADisabledProgramAreNotRead(t *testing.T) {
	t.Parallel()
	cfg := createDefaultConfig().(*Config)
	cfg.Programs.Kmsg.RulesFile = "/does/not/exist"
	require.ErrorContains(t, cfg.Validate(), "programs::kmsg::rules_file")
	cfg.Programs.Kmsg.Enabled = false
	assert.NoError(t, cfg.Validate())
}

func TestValidateNamesKeyValueAndRange(t *testing.T) {
	t.Parallel()
	page := strconv.Itoa(os.Getpagesize())
	for want, change := range map[string]func(*Config){
		"ring_buffer_size: 5000 is not a power of two from " + page + " to 1073741824":                                func(c *Config) { c.RingBufferSize = 5000 },
		"ring_buffer_size: 2147483648 is not a power of two from " + page + " to 1073741824":                          func(c *Config) { c.RingBufferSize = 2 << 30 },
		"ring_buffer_size: 0 is not a power of two from " + page + " to 1073741824":                                   func(c *Config) { c.RingBufferSize = 0 },
		"queue_size: 0 is not in 1 to 1048576":                                                                        func(c *Config) { c.QueueSize = 0 },
		"programs::memory::growth_window: 1s is not in 10s to 24h":                                                    func(c *Config) { c.Programs.Memory.GrowthWindow = time.Second },
		"programs::memory::growth_window: 5m0s is less than 10 times sample_interval (1m0s): set it to 10m0s or more": func(c *Config) { c.SampleInterval = time.Minute },
		"max_batch_size: -1 is not in 1 to 1048576":                                                                   func(c *Config) { c.MaxBatchSize = -1 },
		"flush_interval: 2m0s is not in 0s to 1m0s":                                                                   func(c *Config) { c.FlushInterval = 2 * time.Minute },
		"programs: process, memory, network, syscalls, disk, scheduler, http, tls, kmsg are all disabled":             func(c *Config) { c.Programs = ProgramsConfig{} },
		"programs::network::slow_dns: 6s is not in 0s to 5s":                                                          func(c *Config) { c.Programs.Network.SlowDNS = 6 * time.Second },
		`programs::http::context_map: "otel/map" is no absolute path`:                                                 func(c *Config) { c.Programs.HTTP.ContextMap = "otel/map" },
		"programs::http::observation: 2h0m0s is not in 0s to 1h0m0s":                                                  func(c *Config) { c.Programs.HTTP.Observation = 2 * time.Hour },
		"programs::http::goroutine_children: true has no effect while programs::http::enabled is false":               func(c *Config) { c.Programs.HTTP.GoroutineChildren = true },
		"programs::tls::enabled: true has no effect while programs::http::enabled is false":                           func(c *Config) { c.Programs.TLS.Enabled = true },
	} {
		cfg := createDefaultConfig().(*Config)
		change(cfg)
		assert.ErrorContains(t, cfg.Validate(), want)
	}
	cfg := createDefaultConfig().(*Config)
	cfg.QueueSize, cfg.FlushInterval = 0, -time.Second
	err := cfg.Validate()
	require.ErrorContains(t, err, "queue_size: 0")
	require.ErrorContains(t, err, "flush_interval: -1s", "all that is wrong is said at once")
}

// TestKeysAndUnits: a slip of the keyboard is explained.
func TestKeysAndUnits(t *testing.T) {
	for want, section := range map[string]map[string]any{
		"programs::procss: there is no such key; do you mean programs::process?": {"programs": map[string]any{"procss": nil}},
		"programs::process: true is not allowed: want a section of enabled":      {"programs": map[string]any{"process": true}},
		`programs::process::enabled: "maybe" is not allowed: want true or false`: {"programs": map[string]any{"process": map[string]any{"enabled": "maybe"}}},
	} {
		assert.ErrorContains(t, confmap.NewFromStringMap(section).Unmarshal(createDefaultConfig()), want)
	}
}
