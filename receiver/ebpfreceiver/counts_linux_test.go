//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

// TestLastSample: what took a large part of a short time since the sample before took little
// of an interval.
func TestLastSample(t *testing.T) {
	t.Parallel()
	const short, interval = 15 * time.Millisecond, 10 * time.Second
	all := func(stall time.Duration, throttled uint64) []kernelEvent {
		return []kernelEvent{
			forksEvent{isStorm: true, interval: short},
			reclaimEvent{stalls: *requests(1, stall), interval: short},
			runQueueEvent{isStarved: true, interval: short},
			throttledEvent{periods: throttled, throttled: throttled, period: 100 * time.Millisecond, interval: short},
		}
	}
	for _, ev := range all(2*time.Millisecond, 1) {
		assert.True(t, ev.isUrgent(), "%T: it would be told as one that matters", ev)
	}
	last := lastSample(all(2*time.Millisecond, 1), interval)
	require.Len(t, last, 2)
	for _, ev := range last {
		assert.False(t, ev.isUrgent(), "%T", ev)
	}
	for _, ev := range lastSample(all(2*time.Second, 20), interval) {
		assert.True(t, ev.isUrgent(), "%T", ev)
	}
}

// leak is the role "leak": it takes a MiB ten times a second.
func leak() {
	_, _ = os.Stdin.Read(make([]byte, 1)) // it is in its cgroup
	var held [][]byte
	for range 10000 {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += os.Getpagesize() {
			b[i] = 1
		}
		held = append(held, b)
		time.Sleep(100 * time.Millisecond)
	}
	_ = held
}

// readFiles is the role "read-files": it reads a file that does not fit in its cgroup,
// again and again.
func readFiles(file string) {
	_, _ = os.Stdin.Read(make([]byte, 1)) // it is in its cgroup
	fd, err := unix.Open(file, unix.O_RDONLY, 0)
	if err != nil {
		os.Exit(10)
	}
	for b := make([]byte, 1<<20); ; {
		for off := int64(0); ; off += int64(len(b)) {
			if n, err := unix.Pread(fd, b, off); err != nil || n == 0 {
				break
			}
		}
	}
}

// fork is the role "fork": it begins processes one after the other, few until it is
// told to do without a pause.
func fork() {
	_, _ = os.Stdin.Read(make([]byte, 1)) // it is in its cgroup
	var wild atomic.Bool
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		wild.Store(true)
	}()
	for {
		_ = exec.Command("/bin/true").Run()
		if !wild.Load() {
			time.Sleep(300 * time.Millisecond)
		}
	}
}

// requireSpeed skips a test of rates on a processor that is emulated.
func requireSpeed(t *testing.T) {
	t.Helper()
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err == nil && strings.Contains(string(cpu), "QEMU TCG") {
		t.Skip("an emulated processor is too slow for the rates of this test")
	}
}

// TestMemoryGrowth: a process that leaks towards the limit of its cgroup, then is
// killed at it.
func TestMemoryGrowth(t *testing.T) {
	requireKernel(t)
	const limit = 256 << 20
	path, folder := memoryCgroup(t, limit)
	r := startRig(t, func(c *Config) {
		c.SampleInterval = time.Second
		c.Programs.Memory.GrowthWindow = 10 * time.Second
	})
	pid, _ := startIn(t, folder, "leak", nil)
	got := r.awaitFor(time.Minute, of(event.MemoryGrowth, pid))
	assert.Equal(t, "Warn", got.Severity)
	assert.Equal(t, path, got.Attributes[event.KeyMemoryCgroup])
	assert.Equal(t, int64(limit), got.Attributes[event.KeyMemoryLimit])
	assert.Greater(t, got.Attributes[event.KeyMemoryRSS], int64(64<<20))
	assert.Greater(t, got.Attributes[event.KeyMemoryGrowth], int64(growthBytes))
	slope := got.Attributes[event.KeyMemorySlope].(float64)
	assert.Positive(t, slope)
	left := got.Attributes[event.KeyMemoryTimeToLimit].(float64)
	usage := got.Attributes[event.KeyMemoryUsage].(int64)
	assert.InEpsilon(t, float64(limit-usage)/slope, left, 0.05)
	t.Log(got.Body)
	killed := r.awaitFor(time.Minute, of(event.OOMKill, pid))
	actual := killed.Time.Sub(got.Time).Seconds()
	t.Logf("killed after %.1f s, predicted were %.1f s", actual, left)
	assert.Less(t, actual, 4*left+5)
}

// uncachedFile makes a file of which nothing is in memory: what is there was charged
// to who wrote it.
func uncachedFile(t testing.TB, size int) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, make([]byte, size), 0o600))
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Sync())
	require.NoError(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	return file
}

// TestReclaimStalls: a process reads a file that does not fit in its cgroup.
func TestReclaimStalls(t *testing.T) {
	requireKernel(t)
	file := uncachedFile(t, 64<<20)
	var st unix.Stat_t
	require.NoError(t, unix.Stat(file, &st))
	if unix.Major(st.Dev) == 0 && os.Getenv("CI") != "true" {
		t.Skip("temporary files are on no disk here: what is in memory stays there")
	}
	path, folder := memoryCgroup(t, 24<<20)
	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	t.Setenv("TAPIO_EBPF_TEST_FILE", file)
	startIn(t, folder, "read-files", nil)
	got := r.await(func(s seenRecord) bool {
		return s.Name == event.MemoryReclaim && s.Resource[event.KeyProcessCgroup] == path
	})
	assert.Positive(t, got.Attributes[event.KeyReclaimStalls])
	assert.Positive(t, got.Attributes[event.KeyReclaimTime])
	assert.Positive(t, got.Attributes[event.KeyReclaimFreed])
	assert.Contains(t, []string{"Debug", "Warn"}, got.Severity)
	t.Log(got.Body)
}

func TestForkRate(t *testing.T) {
	requireKernel(t)
	requireSpeed(t)
	path, folder := memoryCgroup(t, 256<<20)
	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	in := func(name string) func(seenRecord) bool {
		return func(s seenRecord) bool { return s.Name == name && s.Resource[event.KeyProcessCgroup] == path }
	}
	var begun []io.Writer
	for range 2 {
		cmd := role("fork")
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		require.NoError(t, os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
		_, err = stdin.Write([]byte{1})
		require.NoError(t, err)
		begun = append(begun, stdin)
	}
	got := r.await(in(event.ProcessForks))
	assert.Equal(t, "Debug", got.Severity)
	require.Eventually(t, func() bool { return len(r.records(in(event.ProcessForks))) > baselineMin }, time.Minute, 10*time.Millisecond)
	assert.Empty(t, r.records(in(event.ProcessForkStorm)))
	for _, stdin := range begun {
		_, err := stdin.Write([]byte{1})
		require.NoError(t, err)
	}
	storm := r.awaitFor(time.Minute, in(event.ProcessForkStorm))
	assert.Equal(t, "Warn", storm.Severity)
	assert.Greater(t, storm.Attributes[event.KeyProcessForks], int64(50))
	t.Log(storm.Body)
}

// FuzzDecodeMemory: what the iterator wrote, or did not, never crashes the receiver.
func FuzzDecodeMemory(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 3000))
	f.Fuzz(func(t *testing.T, raw []byte) {
		w := newGrowthWatch(time.Minute, time.Second)
		readings := decodeMemory(raw)
		if len(readings)*64 > len(raw) {
			t.Errorf("%d readings of %d bytes", len(readings), len(raw))
		}
		for i := range uint64(3) {
			w.sample(i*uint64(time.Minute), readings)
		}
	})
}

// TestMemoryOfThisProcess: what the iterator says of it is what /proc says.
func TestMemoryOfThisProcess(t *testing.T) {
	requireKernel(t)
	cfg := createDefaultConfig().(*Config)
	cfg.Programs = ProgramsConfig{Memory: cfg.Programs.Memory}
	k := openKernel(cfg, programs(cfg), zap.NewNop())
	defer k.close()
	require.Empty(t, k.failures)
	held := make([]byte, 128<<20)
	for i := 0; i < len(held); i += os.Getpagesize() {
		held[i] = 1
	}
	for _, s := range k.samplers {
		m, ok := s.(*memorySampler)
		if !ok {
			continue
		}
		readings, err := readMemory(m.link)
		require.NoError(t, err)
		for _, r := range readings {
			assert.GreaterOrEqual(t, r.rss, uint64(64<<20))
			if int(r.who.pid) != os.Getpid() {
				continue
			}
			statm, err := os.ReadFile("/proc/self/statm")
			require.NoError(t, err)
			var size, resident uint64
			_, err = fmt.Sscan(string(statm), &size, &resident)
			require.NoError(t, err)
			assert.InEpsilon(t, float64(resident*pageSize()), float64(r.rss), 0.1)
			assert.Equal(t, ownCgroup(t), r.who.cgroup)
			runtime.KeepAlive(held)
			return
		}
	}
	t.Fatal("this process is not among them")
}

// BenchmarkMemorySample is a sample of all processes of this machine.
func BenchmarkMemorySample(b *testing.B) {
	cfg := createDefaultConfig().(*Config)
	cfg.Programs = ProgramsConfig{Memory: cfg.Programs.Memory}
	k := openKernel(cfg, programs(cfg), zap.NewNop())
	defer k.close()
	for _, s := range k.samplers {
		if m, ok := s.(*memorySampler); ok {
			for b.Loop() {
				_ = m.sample()
			}
		}
	}
	tasks, _ := filepath.Glob("/proc/[0-9]*/task/*")
	b.ReportMetric(float64(len(tasks)), "tasks")
}

// BenchmarkFork is what the beginning of a process costs more.
func BenchmarkFork(b *testing.B) {
	programCost(b, ProgramsConfig{Process: ProgramConfig{Enabled: true}}, bpf.ForksProgProcessFork, func() {
		_ = exec.Command("/bin/true").Run()
	})
}

// BenchmarkReclaim is what each stall costs more: a beginning and an end.
func BenchmarkReclaim(b *testing.B) {
	folder := "/sys/fs/cgroup/memory/tapio-bench-" + strconv.Itoa(os.Getpid())
	if err := os.Mkdir(folder, 0o755); err != nil {
		b.Skip(err)
	}
	defer os.Remove(folder)
	require.NoError(b, os.WriteFile(folder+"/memory.limit_in_bytes", []byte("25165824"), 0o600))
	file := uncachedFile(b, 64<<20)
	cmd := role("read-files")
	cmd.Env = append(cmd.Env, "TAPIO_EBPF_TEST_FILE="+file)
	stdin, err := cmd.StdinPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	require.NoError(b, os.WriteFile(folder+"/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
	_, _ = stdin.Write([]byte{1})
	programCost(b, ProgramsConfig{Memory: MemoryConfig{Enabled: true, GrowthWindow: time.Minute}}, bpf.ReclaimProgMemcgReclaimEnd, func() {
		time.Sleep(10 * time.Millisecond)
	})
}
