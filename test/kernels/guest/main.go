//go:build linux

// Command guest is the first process of the machines that package kernels boots:
// it mounts what the tests need, runs them, hands over what they found at
// the second serial port, and turns the machine off.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	resultsPort = "/dev/ttyS1"
	runsFile    = "/tmp/runs"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("guest:", err)
	}
	unix.Sync()
	// QEMU ends with -no-reboot.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func run() error {
	if err := mountAll(); err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	mountCgroups := mountCgroupV2
	if strings.Contains(string(cmdline), "tapio.cgroup=v1") {
		mountCgroups = mountCgroupV1
	}
	if err := errors.Join(mountCgroups(), loadModules(), loopbackUp()); err != nil {
		return err
	}
	// Count and time every run of every program: /proc/sys/kernel/bpf_stats_enabled.
	if err := os.WriteFile("/proc/sys/kernel/bpf_stats_enabled", []byte("1"), 0o600); err != nil {
		return err
	}
	if err := exec.CommandContext(context.Background(), "/bin/busybox", "--install", "/bin").Run(); err != nil {
		return fmt.Errorf("busybox --install: %w", err)
	}
	return errors.Join(runTests(), handOver())
}

type mount struct {
	kind, at, options string
}

func mountEach(mounts []mount) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.at, 0o750); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mount %s at %s: %w", m.kind, m.at, err)
		}
	}
	return nil
}

func mountAll() error {
	return mountEach([]mount{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", ""},
		{"tmpfs", "/tmp", ""},
		{"tmpfs", "/run", ""},
		{"bpf", "/sys/fs/bpf", ""},
		{"tracefs", "/sys/kernel/tracing", ""},
	})
}

func mountCgroupV2() error {
	return mountEach([]mount{{"cgroup2", "/sys/fs/cgroup", ""}})
}

// mountCgroupV1 mounts them as systemd's hybrid mode does.
func mountCgroupV1() error {
	return mountEach([]mount{
		{"tmpfs", "/sys/fs/cgroup", ""},
		{"cgroup2", "/sys/fs/cgroup/unified", ""},
		{"cgroup", "/sys/fs/cgroup/memory", "memory"},
		{"cgroup", "/sys/fs/cgroup/cpu", "cpu,cpuacct"},
		{"cgroup", "/sys/fs/cgroup/blkio", "blkio"},
		{"cgroup", "/sys/fs/cgroup/pids", "pids"},
		{"cgroup", "/sys/fs/cgroup/freezer", "freezer"},
	})
}

// loadModules loads /modules in the order of their names.
func loadModules() error {
	files, err := filepath.Glob("/modules/*")
	if err != nil {
		return err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := unix.InitModule(content, ""); err != nil {
			return fmt.Errorf("load %s: %w", file, err)
		}
	}
	return nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// runTests runs each test binary in its directory, with its output on the console.
func runTests() error {
	binaries, err := filepath.Glob("/tests/*/*.test")
	if err != nil {
		return err
	}
	for _, binary := range binaries {
		fmt.Println("=== BINARY", filepath.Base(binary))
		tests, err := os.ReadFile(filepath.Join(filepath.Dir(binary), "tests"))
		if err != nil {
			return err
		}
		//nolint:gosec // the binaries are those that package kernels put there
		cmd := exec.CommandContext(context.Background(), binary, "-test.v", "-test.count=1", "-test.timeout=15m", "-test.run="+string(tests))
		cmd.Dir = filepath.Dir(binary)
		cmd.Env = []string{"PATH=/bin:/usr/bin", "HOME=/tmp", "TMPDIR=/tmp", "TAPIO_EBPF_TEST_RUNS=" + runsFile}
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		status := "ok"
		if err := cmd.Run(); err != nil {
			status = err.Error()
		}
		fmt.Println("=== END", filepath.Base(binary), status)
	}
	return nil
}

// handOver writes what the programs did to the second serial port, whose other
// end is a file of the host.
func handOver() error {
	from, err := os.Open(runsFile)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(resultsPort, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	// Close waits until all is sent.
	return errors.Join(err, to.Close())
}
