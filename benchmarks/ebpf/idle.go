//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/receiver/ebpfreceiver"
)

// measureIdle runs the default groups while nothing is asked of them and prints
// what they use: CPU of this process and of the programs in the kernel, memory.
func measureIdle(length time.Duration) error {
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		return fmt.Errorf("count the time of programs: %w", err)
	}
	defer stats.Close()
	t, err := startGroups(func(*ebpfreceiver.Config) {})
	if err != nil {
		return err
	}
	time.Sleep(5 * time.Second) // what happens at the start is over
	cpu, err := t.cpu()
	kernel, kernelErr := programTime()
	if err = errors.Join(err, kernelErr); err != nil {
		return err
	}
	begin, records := time.Now(), t.records.Load()
	time.Sleep(length)
	elapsed := time.Since(begin)
	cpuAfter, err := t.cpu()
	kernelAfter, kernelErr := programTime()
	memory, memoryErr := residentMemory()
	if err = errors.Join(err, kernelErr, memoryErr); err != nil {
		return err
	}
	fmt.Printf("idle for %s: %d records; user space %.3f %% of one CPU, programs in the kernel %.3f %% (with the cost of timing them); %s\n",
		elapsed.Round(time.Second), t.records.Load()-records, percent(cpuAfter-cpu, elapsed), percent(kernelAfter-kernel, elapsed), memory)
	_, err = t.stop()
	return err
}

func percent(part, of time.Duration) float64 { return 100 * part.Seconds() / of.Seconds() }

// programTime is how long all kernel programs of the machine have run.
func programTime() (total time.Duration, err error) {
	for id := ebpf.ProgramID(0); ; {
		id, err = ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return total, nil
		}
		if err != nil {
			return 0, err
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // it is gone
		}
		stats, err := p.Stats()
		if err == nil {
			total += stats.Runtime
		}
		_ = p.Close()
	}
}

// residentMemory is VmRSS and VmHWM of this process.
func residentMemory() (string, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", err
	}
	var out []string
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "VmHWM") {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(out, ", "), nil
}
