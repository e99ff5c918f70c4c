//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

// flood says what each process in the role "flood-with-failures" does.
type flood struct {
	// Rate is calls a second, 0 for as many as one thread can make; Calls how many.
	Rate, Calls int
	// IsMixed says that no call is the one before: several calls fail, for several reasons, in turn.
	IsMixed bool
	// Processes is how many do that at once.
	Processes int
}

func (f flood) calls() int { return f.Calls * f.Processes }

const floodEnv = "TAPIO_EBPF_TEST_FLOOD"

// floodTick is how often a paced flood makes the calls that are due.
const floodTick = 200 * time.Microsecond

// floodWithFailures makes its calls, in vain, once there is something to read, and prints
// how long that took.
func floodWithFailures() {
	var f flood
	if err := json.Unmarshal([]byte(os.Getenv(floodEnv)), &f); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	runtime.LockOSThread()
	full, err := unix.Open("/dev/full", unix.O_WRONLY, 0)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: 0})
	failing := callsInVain(uintptr(full))
	if !f.IsMixed {
		failing = failing[:1]
	}
	_, _ = os.Stdin.Read(make([]byte, 1))
	begin := time.Now()
	for made := 0; made < f.Calls; {
		due := f.Calls
		if f.Rate > 0 {
			due = min(f.Calls, int(time.Since(begin).Seconds()*float64(f.Rate))+1)
		}
		for ; made < due; made++ {
			c := &failing[made%len(failing)]
			_, _, _ = unix.RawSyscall6(c.number, c.arguments[0], c.arguments[1], c.arguments[2], c.arguments[3], c.arguments[4], 0)
		}
		if f.Rate > 0 {
			time.Sleep(floodTick)
		}
	}
	fmt.Println(time.Since(begin).Nanoseconds())
	os.Exit(0)
}

// callInVain is a system call that fails.
type callInVain struct {
	number    uintptr
	arguments [5]uintptr
}

// slash is a path for the kernel.
var slash = [...]byte{'/', 0}

// callsInVain are such calls where no file may be opened any more and full is the device
// that has no space.
func callsInVain(full uintptr) []callInVain {
	path := uintptr(unsafe.Pointer(&slash))
	const tooLong = 1 << 60
	return []callInVain{
		{unix.SYS_OPENAT, [5]uintptr{0, path, unix.O_RDONLY}},                                          // EMFILE
		{unix.SYS_WRITE, [5]uintptr{full, path, 1}},                                                    // ENOSPC
		{unix.SYS_DUP, [5]uintptr{0}},                                                                  // EMFILE
		{unix.SYS_MMAP, [5]uintptr{0, tooLong, unix.PROT_READ, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS}}, // ENOMEM
		{unix.SYS_EPOLL_CREATE1, [5]uintptr{0}},                                                        // EMFILE
	}
}

// flooded is what became of a flood.
type flooded struct {
	made, delivered, lost, dropped int64
	// of is what the flooding processes had delivered; delivered has others on the machine too.
	of processFailures
	// reader and makers are CPU time.
	elapsed, reader, makers time.Duration
}

func (f flooded) rate() float64 {
	if f.made == 0 {
		return 0
	}
	return float64(f.made) / f.elapsed.Seconds()
}

// countingConsumer counts the records of a flood.
type countingConsumer struct {
	consumer.Logs
	failures atomic.Int64
	// mu guards byProcess, which has the failures of each.
	mu        sync.Mutex
	byProcess map[int64]processFailures
}

// processFailures counts those of one process, and those of them that are not later than
// the one before.
type processFailures struct {
	count, outOfOrder int64
	last              pcommon.Timestamp
}

// add counts the failures of one resource.
func (c *countingConsumer) add(rl plog.ResourceLogs) {
	var pid int64
	if v, ok := rl.Resource().Attributes().Get(event.KeyProcessPID); ok {
		pid = v.Int()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.byProcess[pid]
	before := of.count
	for _, lr := range recordsOf(rl).All() {
		if lr.EventName() != event.SyscallFailed {
			continue
		}
		of.count++
		if at := lr.Timestamp(); at <= of.last {
			of.outOfOrder++
		} else {
			of.last = at
		}
	}
	c.byProcess[pid] = of
	c.failures.Add(of.count - before)
}

func newCountingConsumer(tb testing.TB) *countingConsumer {
	tb.Helper()
	c := &countingConsumer{byProcess: map[int64]processFailures{}}
	var err error
	c.Logs, err = consumer.NewLogs(func(_ context.Context, logs plog.Logs) error {
		for _, rl := range logs.ResourceLogs().All() {
			c.add(rl)
		}
		return nil
	})
	require.NoError(tb, err)
	return c
}

// openUnlimited attaches the program of failing calls without its token bucket.
func openUnlimited(cfg *Config, log *zap.Logger) source {
	return openKernel(cfg, []program{{name: bpf.SyscallsProgSyscallFailed, load: bpf.LoadSyscalls, attached: countFailures, configure: func(spec *ebpf.CollectionSpec, _ *features) error {
		return spec.Variables[bpf.SyscallsVarIsUnlimited].Set(true)
	}}}, log)
}

// runFlood runs a receiver with its defaults and a flood, and waits until what is not
// lost is delivered.
func runFlood(tb testing.TB, f flood) flooded {
	tb.Helper()
	next := newCountingConsumer(tb)
	tel := componenttest.NewTelemetry()
	set := receivertest.NewNopSettings(metadata.Type)
	set.TelemetrySettings = tel.NewTelemetrySettings()
	r, err := newReceiver(createDefaultConfig().(*Config), set, next, openUnlimited)
	require.NoError(tb, err)
	require.NoError(tb, r.Start(context.Background(), componenttest.NewNopHost()))
	require.Empty(tb, r.failed())
	pids, start := startFlood(tb, f)
	before := ownCPU()
	got := flooded{made: int64(f.calls())}
	got.elapsed, got.makers = start()
	require.Eventually(tb, func() bool {
		got.lost, got.delivered = r.source.stats().lost[event.SyscallFailed], next.failures.Load()
		if m, err := tel.GetMetric("otelcol_receiver_tapio_ebpf_dropped"); err == nil { // none: nothing was
			got.dropped = 0
			for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
				got.dropped += p.Value
			}
		}
		return got.delivered+got.lost+got.dropped >= got.made
	}, time.Minute, 10*time.Millisecond)
	got.reader = ownCPU() - before
	require.NoError(tb, r.Shutdown(context.Background()))
	for _, pid := range pids {
		of := next.byProcess[pid]
		got.of.count += of.count
		got.of.outOfOrder += of.outOfOrder
	}
	return got
}

// startFlood starts the processes of a flood. They make their calls when the function is
// called, which returns how long the slowest took and the CPU time of all.
func startFlood(tb testing.TB, f flood) (pids []int64, flood func() (longest, cpu time.Duration)) {
	tb.Helper()
	text, err := json.Marshal(f)
	require.NoError(tb, err)
	r, w, err := os.Pipe()
	require.NoError(tb, err)
	outputs := make([]bytes.Buffer, f.Processes)
	cmds := make([]*exec.Cmd, f.Processes)
	for i := range cmds {
		cmd := role("flood-with-failures")
		cmd.Env = append(cmd.Env, floodEnv+"="+string(text))
		cmd.Stdin, cmd.Stdout = r, &outputs[i]
		require.NoError(tb, cmd.Start())
		pids, cmds[i] = append(pids, int64(cmd.Process.Pid)), cmd
	}
	require.NoError(tb, r.Close())
	return pids, func() (longest, cpu time.Duration) {
		require.NoError(tb, w.Close())
		for i, cmd := range cmds {
			require.NoError(tb, cmd.Wait())
			var took time.Duration
			_, err := fmt.Sscan(outputs[i].String(), (*int64)(&took))
			require.NoError(tb, err, outputs[i].String())
			longest = max(longest, took)
			cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		}
		return longest, cpu
	}
}

func ownCPU() time.Duration {
	var usage unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &usage) // cannot fail of this process
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func (f flooded) String() string {
	if f.made == 0 {
		return "none"
	}
	return fmt.Sprintf("%.0f events/s: %d of %d lost in the ring, %d dropped from the queue; %.0f ns of CPU for each call, %.0f ns of the reader's for each delivered",
		f.rate(), f.lost, f.made, f.dropped, float64(f.makers)/float64(f.made), float64(f.reader)/float64(f.delivered))
}

// TestFlood: of calls that fail as fast as they can each failure is a record of its own, or
// is counted as lost.
func TestFlood(t *testing.T) {
	requireKernel(t)
	for name, f := range map[string]flood{
		"one call":    {Calls: 100_000, Processes: 1},
		"calls mixed": {Calls: 50_000, Processes: 2, IsMixed: true},
	} {
		t.Run(name, func(t *testing.T) {
			got := runFlood(t, f)
			t.Log(got)
			assert.GreaterOrEqual(t, got.of.count+got.lost+got.dropped, got.made)
			assert.NotZero(t, got.of.count)
			assert.Zero(t, got.of.outOfOrder)
		})
	}
}

// BenchmarkFlood: calls that fail, through the ring, the queue and the encoder, at rates
// that grow until some are lost or no more are made, then as fast as they can: one call of
// one process again and again, and five calls of two processes in turn.
func BenchmarkFlood(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("kernel programs need root")
	}
	for _, f := range []struct {
		name string
		flood
	}{
		{"one-call", flood{Processes: 1}},
		{"calls-mixed", flood{Processes: 2, IsMixed: true}},
	} {
		b.Run(f.name, func(b *testing.B) {
			for b.Loop() {
				benchmarkFlood(b, f.flood)
			}
		})
	}
}

func benchmarkFlood(b *testing.B, f flood) {
	var without flooded
	for rate := 200_000; ; rate += rate / 8 {
		f.Rate, f.Calls = rate/f.Processes, 2*rate/f.Processes
		got := runFlood(b, f)
		if got.lost+got.dropped > 0 {
			b.Log("loss begins:", got)
			b.ReportMetric(got.rate(), "events/s-where-loss-begins")
			break
		}
		if got.rate() > without.rate() {
			without = got
		}
		if got.rate() < float64(rate)*0.9 {
			b.Logf("no loss: no more are made (%.0f of %d a second)", got.rate(), rate)
			break
		}
	}
	f.Rate, f.Calls = 0, 1_000_000/f.Processes
	b.Log("without loss:", without)
	b.Log("as fast as it can:", runFlood(b, f))
	b.ReportMetric(without.rate(), "events/s-without-loss")
	b.ReportMetric(float64(without.reader)/float64(max(without.delivered, 1)), "reader-ns/event")
}
