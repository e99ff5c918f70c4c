//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
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

// flood says what the role "flood-with-failures" does.
type flood struct {
	// Rate is calls a second, 0 for as many as one thread can make; Calls how many.
	Rate, Calls int
}

const floodEnv = "TAPIO_EBPF_TEST_FLOOD"

// floodTick is how often a paced flood makes the calls that are due.
const floodTick = 200 * time.Microsecond

// floodWithFailures opens files until it has made its calls, in vain, and prints how
// long that took.
func floodWithFailures() {
	var f flood
	if err := json.Unmarshal([]byte(os.Getenv(floodEnv)), &f); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	runtime.LockOSThread()
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: 0})
	path := []byte("/\x00")
	begin := time.Now()
	for made := 0; made < f.Calls; {
		due := f.Calls
		if f.Rate > 0 {
			due = min(f.Calls, int(time.Since(begin).Seconds()*float64(f.Rate))+1)
		}
		for ; made < due; made++ {
			openInVain(path)
		}
		if f.Rate > 0 {
			time.Sleep(floodTick)
		}
	}
	fmt.Println(time.Since(begin).Nanoseconds())
	os.Exit(0)
}

func openInVain(path []byte) {
	_, _, _ = unix.RawSyscall6(unix.SYS_OPENAT, 0, uintptr(unsafe.Pointer(&path[0])), unix.O_RDONLY, 0, 0, 0)
}

// flooded is what became of a flood.
type flooded struct {
	made, delivered, lost, dropped int64
	// of is what the flooding process had delivered; delivered has others on the machine too.
	of              processFailures
	elapsed, reader time.Duration
}

func (f flooded) rate() float64 { return float64(f.made) / f.elapsed.Seconds() }

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
	before := ownCPU()
	cmd := role("flood-with-failures")
	text, err := json.Marshal(f)
	require.NoError(tb, err)
	cmd.Env = append(cmd.Env, floodEnv+"="+string(text))
	out, err := cmd.Output()
	require.NoError(tb, err)
	var elapsed int64
	_, err = fmt.Sscan(string(out), &elapsed)
	require.NoError(tb, err)
	got := flooded{made: int64(f.Calls), elapsed: time.Duration(elapsed)}
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
	got.of = next.byProcess[int64(cmd.Process.Pid)]
	return got
}

func ownCPU() time.Duration {
	var usage unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &usage) // cannot fail of this process
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func (f flooded) String() string {
	return fmt.Sprintf("%.0f events/s: %d of %d lost in the ring, %d dropped from the queue; %.0f ns of the reader's CPU for each delivered",
		f.rate(), f.lost, f.made, f.dropped, float64(f.reader)/float64(f.delivered))
}

// TestFlood: of a call that fails as fast as it can each failure is a record of its own, or
// is counted as lost.
func TestFlood(t *testing.T) {
	requireKernel(t)
	got := runFlood(t, flood{Calls: 100_000})
	t.Log(got)
	assert.GreaterOrEqual(t, got.of.count+got.lost+got.dropped, got.made)
	assert.NotZero(t, got.of.count)
	assert.Zero(t, got.of.outOfOrder)
}

// BenchmarkFlood: one call that fails again and again, through the ring, the queue and the
// encoder, made by one thread that does nothing else: at rates that grow until some are
// lost, then as fast as it can. Where none are lost, it makes no more than is read.
func BenchmarkFlood(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("kernel programs need root")
	}
	for b.Loop() {
		var without, with flooded
		for rate := 400_000; rate < 3_000_000 && with.made == 0; rate += rate / 8 {
			got := runFlood(b, flood{Rate: rate, Calls: rate * 2})
			if got.lost+got.dropped == 0 {
				without = got
			} else {
				with = got
			}
		}
		unpaced := runFlood(b, flood{Calls: 1_000_000})
		b.Log("without loss:", without)
		if with.made > 0 {
			b.Log("loss begins:", with)
			b.ReportMetric(with.rate(), "events/s-where-loss-begins")
		}
		b.Log("as fast as it can:", unpaced)
		b.ReportMetric(without.rate(), "events/s-without-loss")
		b.ReportMetric(float64(without.reader)/float64(max(without.delivered, 1)), "reader-ns/event")
	}
}
