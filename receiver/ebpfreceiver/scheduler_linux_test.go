//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

// spin is the role "spin": four threads on one processor. They rest a lot until they
// are told to rest no more. Others' load does not make their waits long: all threads
// have the highest priority, also those of the runtime, and pass it on.
func spin() {
	threads, _ := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		if id, err := strconv.Atoi(thread.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, -20)
		}
	}
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
	var quota any // the path of the quota, where another one names the tasks
	known := ""
	if strings.HasPrefix(folder, "/sys/fs/cgroup/cpu/") {
		quota = path
		path, known = memoryCgroup(t, 256<<20)
	}
	r := startRig(t, withScheduler)
	cmd := role("spin")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	require.NoError(t, os.WriteFile(filepath.Join(folder, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0o600))
	if known != "" {
		require.NoError(t, os.WriteFile(filepath.Join(known, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0o600))
	}
	_, err = stdin.Write([]byte{1, 1})
	require.NoError(t, err)

	got := r.await(func(s seenRecord) bool {
		return s.Name == event.CPUThrottled && s.Resource[event.KeyProcessCgroup] == path && s.Severity == "Warn"
	})
	assert.InDelta(t, 0.1, got.Attributes[event.KeyCPULimit], 1e-9)
	assert.Equal(t, quota, got.Attributes[event.KeyCPUCgroup])
	assert.Greater(t, got.Attributes[event.KeyCPUThrottledShare], throttledMatters)
	assert.Positive(t, got.Attributes[event.KeyCPUThrottledTime])
	assert.LessOrEqual(t, got.Attributes[event.KeyCPUThrottledPeriods], got.Attributes[event.KeyCPUPeriods])
	t.Log(got.Body)
}

func TestCgroupOfTasks(t *testing.T) {
	t.Parallel()
	const container = "/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, tc := range []struct{ quota, tasks, want string }{
		{"/shop", "", "/shop"},
		{"/shop", "/", "/shop"},
		{"/shop", "/payment", "/payment"},
		{"/system.slice/a.service", "/system.slice", "/system.slice/a.service"},
		{"/system.slice/a.service", "/system.slice/a.service", "/system.slice/a.service"},
		{"/quotas", container, container},
		{container, "/everything", container},
	} {
		assert.Equal(t, tc.want, cgroupOfTasks(tc.quota, tc.tasks), tc.quota+" "+tc.tasks)
	}
}

// TestWaitForAProcessor: what rested in a cgroup is gone, and eight busy loops share one
// processor. They are no Go programs: the runtime of those has threads that wake up
// a thousand times a second and wait shortly, and the percentile is that of all waits.
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

	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	for range 8 {
		loopOn(t, 0, folder)
	}
	starved := r.awaitFor(time.Minute, in(event.CPUStarved))
	assert.Equal(t, "Warn", starved.Severity)
	assert.Greater(t, starved.Attributes[event.KeyCPUWaiting], 2.0, "seven of eight wait at any time")
	assert.Greater(t, starved.Attributes[event.KeyCPUWaitP90], longWait.floor/1e6)
	t.Log(starved.Body)
}

// loopOn starts a process in the cgroup that does nothing but use that processor, until
// the test ends.
func loopOn(t *testing.T, processor int, cgroup string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "while :; do :; done")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var one unix.CPUSet
	one.Set(processor)
	require.NoError(t, unix.SchedSetaffinity(cmd.Process.Pid, &one))
	require.NoError(t, os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0o600))
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
