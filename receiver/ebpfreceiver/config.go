package ebpfreceiver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"

	"github.com/yairfalse/tapio/internal/kmsg"
	"github.com/yairfalse/tapio/internal/section"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

// Config says what to watch and how much to hold.
type Config struct {
	metadata.LogsBuilderConfig `mapstructure:",squash"`

	// Programs are the kernel programs, by what they watch.
	Programs ProgramsConfig `mapstructure:"programs"`
	// HostName is the host.name of all records; empty for that of the system.
	HostName string `mapstructure:"host_name"`
	// CommandLine adds all arguments to process.exec. They may hold secrets.
	CommandLine bool `mapstructure:"command_line"`
	// RingBufferSize is the memory between kernel and receiver in bytes: a power
	// of two, at least a page.
	RingBufferSize int `mapstructure:"ring_buffer_size"`
	// QueueSize is how many events may wait for the next component.
	QueueSize int `mapstructure:"queue_size"`
	// MaxBatchSize is the largest number of records handed on at once.
	MaxBatchSize int `mapstructure:"max_batch_size"`
	// SampleInterval is how often what the kernel counts is read.
	SampleInterval time.Duration `mapstructure:"sample_interval"`
	// makesSpans: there is a traces pipeline.
	makesSpans bool
	// FlushInterval is how long an event that is not urgent may wait for others.
	FlushInterval time.Duration `mapstructure:"flush_interval"`
}

// ProgramsConfig has one group for each thing that is watched.
type ProgramsConfig struct {
	// Process: tapio.process.* .
	Process ProgramConfig `mapstructure:"process"`
	// Memory: tapio.oom.kill and tapio.memory.* .
	Memory MemoryConfig `mapstructure:"memory"`
	// Network: tapio.tcp.* and tapio.dns.* .
	Network NetworkConfig `mapstructure:"network"`
	// Syscalls: tapio.syscall.failed and tapio.syscall.failures.
	Syscalls ProgramConfig `mapstructure:"syscalls"`
	// Disk: tapio.block_io.* .
	Disk ProgramConfig `mapstructure:"disk"`
	// Scheduler: tapio.cpu.* .
	Scheduler ProgramConfig `mapstructure:"scheduler"`
	// HTTP: the trace id of requests on other events.
	HTTP HTTPConfig `mapstructure:"http"`
	// TLS: the same for requests that OpenSSL encrypts.
	TLS ProgramConfig `mapstructure:"tls"`
	// Kmsg: tapio.kernel.* and, of devices without a queue of requests,
	// tapio.block_io.error. It is no program but the kernel's log, of what no
	// tracepoint tells.
	Kmsg KmsgConfig `mapstructure:"kmsg"`
}

// NetworkConfig is the group of sockets and names.
type NetworkConfig struct {
	// Enabled loads the programs of the group.
	Enabled bool `mapstructure:"enabled"`
	// SlowDNS is how long an answer to a DNS question may take until it is slow; 0
	// for never.
	SlowDNS time.Duration `mapstructure:"slow_dns"`
}

// MemoryConfig says how to watch memory.
type MemoryConfig struct {
	// Enabled loads the programs of the group.
	Enabled bool `mapstructure:"enabled"`
	// GrowthWindow is for how long a process must grow.
	GrowthWindow time.Duration `mapstructure:"growth_window"`
}

// HTTPConfig says how requests with a traceparent are followed.
type HTTPConfig struct {
	// Enabled loads the programs of the group.
	Enabled bool `mapstructure:"enabled"`
	// ContextMap is where OpenTelemetry eBPF Instrumentation pins the trace contexts
	// of threads. It is used when it is there.
	ContextMap string `mapstructure:"context_map"`
	// Observation is how long a process is watched for signs of an SDK before its
	// spans are told. Go programs list what they are made of and need none.
	Observation time.Duration `mapstructure:"observation"`
	// GoroutineChildren follows goroutines of Go programs to those that they start.
	GoroutineChildren bool `mapstructure:"goroutine_children"`
}

// defaultContextMap is that of OpenTelemetry eBPF Instrumentation.
const defaultContextMap = "/sys/fs/bpf/otel/traces_ctx_v1"

// KmsgConfig says what to read of the kernel's log.
type KmsgConfig struct {
	// Enabled reads /dev/kmsg.
	Enabled bool `mapstructure:"enabled"`
	// RulesFile is a file of rules that come before the built-in ones.
	RulesFile string `mapstructure:"rules_file"`
}

// rules returns the rules for messages of the kernel, the user's own first.
func (c *KmsgConfig) rules() (kmsg.Rules, error) {
	if c.RulesFile == "" {
		return kmsg.BuiltIn(), nil
	}
	text, err := os.ReadFile(c.RulesFile)
	if err != nil {
		return nil, err
	}
	own, err := kmsg.ParseRules(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.RulesFile, err)
	}
	return append(own, kmsg.BuiltIn()...), nil
}

// ProgramConfig is one group.
type ProgramConfig struct {
	// Enabled loads the programs of the group.
	Enabled bool `mapstructure:"enabled"`
}

// Bounds of the configuration. A ring buffer above 1 GiB is refused by kernels.
const (
	maxRingBufferSize = 1 << 30
	maxQueueSize      = 1 << 20
	maxFlushInterval  = time.Minute
)

func createDefaultConfig() component.Config {
	return &Config{
		LogsBuilderConfig: metadata.DefaultLogsBuilderConfig(),
		Programs: ProgramsConfig{
			Process:  ProgramConfig{Enabled: true},
			Memory:   MemoryConfig{Enabled: true, GrowthWindow: 5 * time.Minute},
			Network:  NetworkConfig{Enabled: true, SlowDNS: 500 * time.Millisecond},
			Syscalls: ProgramConfig{Enabled: true},
			Disk:     ProgramConfig{Enabled: true},
			HTTP:     HTTPConfig{ContextMap: defaultContextMap, Observation: 10 * time.Second},
			Kmsg:     KmsgConfig{Enabled: true},
		},
		RingBufferSize: 8 << 20,
		QueueSize:      8192,
		MaxBatchSize:   512,
		SampleInterval: 10 * time.Second,
		FlushInterval:  5 * time.Millisecond,
	}
}

// Unmarshal implements confmap.Unmarshaler.
func (c *Config) Unmarshal(conf *confmap.Conf) error { return section.Unmarshal(conf, c) }

// Validate names every key that is wrong, its value and what is allowed.
func (c *Config) Validate() error {
	var errs []error
	page := os.Getpagesize()
	if n := c.RingBufferSize; n < page || n > maxRingBufferSize || n&(n-1) != 0 {
		errs = append(errs, fmt.Errorf("ring_buffer_size: %d is not a power of two from %d to %d", n, page, maxRingBufferSize))
	}
	if n := c.QueueSize; n < 1 || n > maxQueueSize {
		errs = append(errs, fmt.Errorf("queue_size: %d is not in 1 to %d", n, maxQueueSize))
	}
	if n := c.MaxBatchSize; n < 1 || n > maxQueueSize {
		errs = append(errs, fmt.Errorf("max_batch_size: %d is not in 1 to %d", n, maxQueueSize))
	}
	if d := c.FlushInterval; d < 0 || d > maxFlushInterval {
		errs = append(errs, fmt.Errorf("flush_interval: %s is not in 0s to %s", d, maxFlushInterval))
	}
	if d := c.SampleInterval; d < time.Second || d > time.Hour {
		errs = append(errs, fmt.Errorf("sample_interval: %s is not in 1s to 1h", d))
	}
	if d := c.Programs.Network.SlowDNS; d < 0 || d > answerTimeout {
		errs = append(errs, fmt.Errorf("programs::network::slow_dns: %s is not in 0s to %s", d, answerTimeout))
	}
	if groups := groupNames(); !slices.ContainsFunc(groups, func(name string) bool { return isEnabled(&c.Programs, name) }) {
		errs = append(errs, fmt.Errorf("programs: %s are all disabled; enable one or remove the receiver", strings.Join(groups, ", ")))
	}
	if d := c.Programs.Memory.GrowthWindow; c.Programs.Memory.Enabled && (d < 10*time.Second || d > 24*time.Hour) {
		errs = append(errs, fmt.Errorf("programs::memory::growth_window: %s is not in 10s to 24h", d))
	} else if least := growthMin * c.SampleInterval; c.Programs.Memory.Enabled && d < least {
		errs = append(errs, fmt.Errorf("programs::memory::growth_window: %s is less than %d times sample_interval (%s): set it to %s or more", d, growthMin, c.SampleInterval, least))
	}
	if c.Programs.HTTP.GoroutineChildren && !c.Programs.HTTP.Enabled {
		errs = append(errs, errors.New("programs::http::goroutine_children: true has no effect while programs::http::enabled is false; enable that or leave this out"))
	}
	if c.Programs.TLS.Enabled && !c.Programs.HTTP.Enabled {
		errs = append(errs, errors.New("programs::tls::enabled: true has no effect while programs::http::enabled is false; enable that or leave this out"))
	}
	if d := c.Programs.HTTP.Observation; d < 0 || d > maxObservation {
		errs = append(errs, fmt.Errorf("programs::http::observation: %s is not in 0s to %s", d, maxObservation))
	}
	if p := c.Programs.HTTP.ContextMap; p != "" && !filepath.IsAbs(p) {
		errs = append(errs, fmt.Errorf("programs::http::context_map: %q is no absolute path; leave it empty to use none", p))
	}
	if _, err := c.Programs.Kmsg.rules(); c.Programs.Kmsg.Enabled && err != nil {
		errs = append(errs, fmt.Errorf("programs::kmsg::rules_file: %w", err))
	}
	return errors.Join(errs...)
}
