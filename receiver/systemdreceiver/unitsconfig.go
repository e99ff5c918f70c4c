package systemdreceiver

import (
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
)

// UnitsConfig says which units to watch, and where.
type UnitsConfig struct {
	// Enabled watches units, jobs and the boot.
	Enabled bool `mapstructure:"enabled"`
	// BusAddress is the D-Bus address of the system bus.
	BusAddress string `mapstructure:"bus_address"`
	// Required makes the collector fail to start where systemd cannot be seen.
	Required bool `mapstructure:"required"`
	// Include are globs (*, ?, [a-z]) of unit names to watch; one must match.
	Include []string `mapstructure:"include"`
	// Exclude are globs of unit names to leave out; they win over Include.
	Exclude []string `mapstructure:"exclude"`
	// Critical are globs of units on which others depend.
	Critical []string `mapstructure:"critical"`
	// CriticalSeverity is the severity of what would be ERROR, for those units.
	CriticalSeverity CriticalSeverity `mapstructure:"critical_severity"`
	// RestartWindow is how close two restarts must be to belong to one loop.
	RestartWindow time.Duration `mapstructure:"restart_window"`
	// SampleInterval is how often the memory and tasks of running services are read,
	// so that they are known when one fails; 0 is never.
	SampleInterval time.Duration `mapstructure:"sample_interval"`
	// Jobs makes a span of every job, in the traces pipeline.
	Jobs bool `mapstructure:"jobs"`
	// Boot makes a trace of the boot, in the traces pipeline.
	Boot bool `mapstructure:"boot"`
}

// defaultBusAddress is where the D-Bus specification puts the system bus, by
// its path without the symbolic link /var/run.
const defaultBusAddress = "unix:path=/run/dbus/system_bus_socket"

// Bounds of restart_window: below a second systemd's own restart delay splits
// loops, above a day unrelated restarts join.
const (
	minRestartWindow = time.Second
	maxRestartWindow = 24 * time.Hour
)

// minSampleInterval keeps systemd from doing little else than answering.
const (
	minSampleInterval = time.Second
	maxSampleInterval = time.Hour
)

// CriticalSeverity is error or fatal.
type CriticalSeverity string

// Allowed implements section.Choice.
func (CriticalSeverity) Allowed() []string { return []string{"error", "fatal"} }

// severities are the values of critical_severity.
var severities = map[CriticalSeverity]plog.SeverityNumber{
	"error": plog.SeverityNumberError,
	"fatal": plog.SeverityNumberFatal,
}

func defaultUnitsConfig() UnitsConfig {
	return UnitsConfig{
		Enabled:    true,
		BusAddress: defaultBusAddress,
		Include:    []string{"*.service", "*.socket", "*.mount", "*.swap", "*.target"},
		// Mounts of containers and pods come and go with them; so do the managers
		// and directories of users who log in.
		Exclude: []string{
			"*-kubelet-*.mount", "*-docker-*.mount", "*-containers-*.mount", "*-containerd-*.mount", "run-netns-*.mount",
			"run-credentials-*.mount", "run-user-*.mount", "user@*.service", "user-runtime-dir@*.service",
		},
		Critical: []string{
			"kubelet.service", "containerd.service", "crio.service", "docker.service", "podman.service", "k3s*.service", "rke2*.service",
			"etcd*.service", "kube-*.service", "dbus*.service", "systemd-journald.service", "systemd-networkd.service",
			"systemd-resolved.service", "NetworkManager.service", "networking.service", "ssh.service", "sshd.service",
		},
		CriticalSeverity: "fatal",
		RestartWindow:    10 * time.Minute,
		SampleInterval:   10 * time.Second,
		Jobs:             true,
		Boot:             true,
	}
}

func (c *UnitsConfig) include() globList  { return globList{"units::include", c.Include, true} }
func (c *UnitsConfig) critical() globList { return globList{"units::critical", c.Critical, true} }

// validate returns one error for each key that is wrong.
func (c *UnitsConfig) validate() []error {
	var errs []error
	if !strings.Contains(c.BusAddress, ":") {
		errs = append(errs, fmt.Errorf("units::bus_address: %q is not a D-Bus address such as %s", c.BusAddress, defaultBusAddress))
	}
	if len(c.Include) == 0 {
		errs = append(errs, fmt.Errorf(`units::include: [] matches no unit; use ["*"] for all`))
	}
	for _, list := range []globList{c.include(), {"units::exclude", c.Exclude, true}, c.critical()} {
		errs = append(errs, list.validate()...)
	}
	if _, ok := severities[c.CriticalSeverity]; !ok {
		errs = append(errs, fmt.Errorf("units::critical_severity: %q is not %s", c.CriticalSeverity, strings.Join(c.CriticalSeverity.Allowed(), " or ")))
	}
	if d := c.RestartWindow; d < minRestartWindow || d > maxRestartWindow {
		errs = append(errs, fmt.Errorf("units::restart_window: %s is not in %s to %s", d, minRestartWindow, maxRestartWindow))
	}
	if d := c.SampleInterval; d != 0 && (d < minSampleInterval || d > maxSampleInterval) {
		errs = append(errs, fmt.Errorf("units::sample_interval: %s is neither 0 nor in %s to %s", d, minSampleInterval, maxSampleInterval))
	}
	return errs
}
