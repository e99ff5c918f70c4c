//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

// spin is the role "spin": four threads on one processor. They rest a lot until they
// are told to rest no more.
func spin() {
	_, _ = os.Stdin.Read(make([]byte, 1)) // it is in its cgroup
	var one unix.CPUSet
	one.Set(0)
	busy := make(chan struct{})
	for range 4 {
		go func() {
			runtime.LockOSThread()
			_ = unix.SchedSetaffinity(0, &one)
			for {
				select {
				case <-busy:
					for {
						_ = busy
					}
				case <-time.After(20 * time.Millisecond):
				}
			}
		}()
	}
	_, _ = os.Stdin.Read(make([]byte, 1))
	close(busy)
	select {}
}

// cpuCgroup makes a cgroup of the cpu controller with a quota of CPUs, 0 for none.
func cpuCgroup(t *testing.T, cpus float64) (path, folder string) {
	t.Helper()
	path = fmt.Sprintf("/tapio-test-cpu-%d", os.Getpid())
	if root := "/sys/fs/cgroup/cpu"; isFile(root+"/cpu.cfs_quota_us") || isFile(root+"/cpu.shares") {
		folder = root + path
		makeCgroup(t, folder)
		if cpus > 0 {
			require.NoError(t, os.WriteFile(folder+"/cpu.cfs_quota_us", fmt.Appendf(nil, "%.0f", cpus*100000), 0o600))
		}
		return path, folder
	}
	require.NoError(t, handDown(t, "/sys/fs/cgroup/cgroup.subtree_control", "cpu"))
	folder = "/sys/fs/cgroup" + path
	makeCgroup(t, folder)
	if cpus > 0 {
		require.NoError(t, os.WriteFile(folder+"/cpu.max", fmt.Appendf(nil, "%.0f 100000", cpus*100000), 0o600))
	}
	return path, folder
}

func withScheduler(c *Config) {
	c.SampleInterval = time.Second
	c.Programs.Scheduler.Enabled = true
}

func TestCPUThrottling(t *testing.T) {
	requireKernel(t)
	path, folder := cpuCgroup(t, 0.1)
	r := startRig(t, withScheduler)
	cmd := role("spin")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	require.NoError(t, os.WriteFile(filepath.Join(folder, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0o600))
	_, err = stdin.Write([]byte{1, 1})
	require.NoError(t, err)

	got := r.await(func(s seenRecord) bool {
		return s.Name == event.CPUThrottled && s.Resource[event.KeyProcessCgroup] == path && s.Severity == "Warn"
	})
	assert.InDelta(t, 0.1, got.Attributes[event.KeyCPULimit], 1e-9)
	assert.Greater(t, got.Attributes[event.KeyCPUThrottledShare], throttledMatters)
	assert.Positive(t, got.Attributes[event.KeyCPUThrottledTime])
	assert.LessOrEqual(t, got.Attributes[event.KeyCPUThrottledPeriods], got.Attributes[event.KeyCPUPeriods])
	t.Log(got.Body)
}

// TestWaitForAProcessor: four busy threads share one processor.
func TestWaitForAProcessor(t *testing.T) {
	requireKernel(t)
	requireSpeed(t)
	path, folder := memoryCgroup(t, 256<<20)
	r := startRig(t, withScheduler)
	cmd := role("spin")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	require.NoError(t, os.WriteFile(filepath.Join(folder, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0o600))
	_, err = stdin.Write([]byte{1})
	require.NoError(t, err)
	in := func(name string) func(seenRecord) bool {
		return func(s seenRecord) bool { return s.Name == name && s.Resource[event.KeyProcessCgroup] == path }
	}
	got := r.await(in(event.CPURunQueue))
	assert.Equal(t, "Debug", got.Severity)
	require.Eventually(t, func() bool { return len(r.records(in(event.CPURunQueue))) > baselineMin+1 }, time.Minute, 10*time.Millisecond)

	before, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", cmd.Process.Pid))
	require.NoError(t, err)
	_, err = stdin.Write([]byte{1})
	require.NoError(t, err)
	starved := r.awaitFor(time.Minute, in(event.CPUStarved))
	assert.Equal(t, "Warn", starved.Severity)
	assert.Greater(t, starved.Attributes[event.KeyCPUWaiting], 2.0, "three of four wait at any time")
	assert.Greater(t, starved.Attributes[event.KeyCPUWaitP90], longWait.floor/1e6)
	t.Log(starved.Body, string(before))
}

// BenchmarkSwitch is what each switch from one thread to another costs more.
func BenchmarkSwitch(b *testing.B) {
	var fds [2][2]int
	for i := range fds {
		require.NoError(b, unix.Pipe(fds[i][:]))
	}
	var one unix.CPUSet
	one.Set(0)
	go func() {
		runtime.LockOSThread()
		_ = unix.SchedSetaffinity(0, &one)
		for c := make([]byte, 1); ; {
			if n, err := unix.Read(fds[0][0], c); err != nil || n == 0 {
				return
			}
			_, _ = unix.Write(fds[1][1], c)
		}
	}()
	runtime.LockOSThread()
	_ = unix.SchedSetaffinity(0, &one)
	c := make([]byte, 1)
	programCost(b, ProgramsConfig{Scheduler: ProgramConfig{Enabled: true}}, bpf.SchedulerProgRunQueue, func() {
		_, _ = unix.Write(fds[0][1], c)
		_, _ = unix.Read(fds[1][0], c)
	})
	_ = unix.Close(fds[0][1])
}
