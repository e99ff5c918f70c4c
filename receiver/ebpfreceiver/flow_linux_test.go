//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadatatest"
)

// bystander reads the same kernel into memory and loses nothing: with it a test
// knows what others on the machine did meanwhile.
type bystander struct {
	kernel *kernel
	done   chan struct{}
	seen   map[string][]int // pids by event name
}

func startBystander(t *testing.T) *bystander {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	cfg.RingBufferSize = 64 << 20
	b := &bystander{kernel: openKernel(cfg, programs(cfg), zap.NewNop()), done: make(chan struct{}), seen: map[string][]int{}}
	require.Empty(t, b.kernel.failures)
	go func() {
		defer close(b.done)
		for {
			ev, err := b.kernel.read()
			if errors.Is(err, os.ErrClosed) {
				return
			}
			for range weight(ev) {
				b.seen[ev.name()] = append(b.seen[ev.name()], int(ev.process().pid))
			}
		}
	}()
	return b
}

// stop returns how many events others made, and how many those with the pids.
func (b *bystander) stop(t *testing.T, name string, pids map[int]bool) (others, ours int) {
	t.Helper()
	require.NoError(t, b.kernel.stop())
	<-b.done
	for _, pid := range b.seen[name] {
		if pids[pid] {
			ours++
		} else {
			others++
		}
	}
	return others, ours
}

// TestPausedConsumerLosesOnlyWhatIsCounted: the next component takes nothing
// while processes begin and end and a storm of calls fails; then it goes on. What
// was not delivered is in the metrics, and what happens then is delivered.
func TestPausedConsumerLosesOnlyWhatIsCounted(t *testing.T) {
	requireKernel(t)
	b := startBystander(t)
	defer func() { assert.NoError(t, b.kernel.close()) }()
	tel := newTelemetry(t)
	next := &blockedConsumer{release: make(chan struct{})}
	cfg := createDefaultConfig().(*Config)
	cfg.QueueSize, cfg.MaxBatchSize = 128, 16
	cfg.RingBufferSize = 64 << 10
	r, err := newReceiver(cfg, metadatatest.NewSettings(tel), next, openSource)
	require.NoError(t, err)
	require.NoError(t, r.Start(context.Background(), componenttest.NewNopHost()))
	require.Empty(t, r.failed())

	const processes, workers = 150, 4
	pids := map[int]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range processes {
				cmd := exec.Command("/bin/true")
				assert.NoError(t, cmd.Run())
				mu.Lock()
				pids[cmd.Process.Pid] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	storm := role("storm")
	require.NoError(t, storm.Run())
	pids[storm.Process.Pid] = true
	close(next.release)

	again := &rig{t: t, receiver: r, sink: &next.LogsSink}
	require.Eventually(t, func() bool { // it recovers, when it has worked off what waits
		late := role("exit")
		assert.Error(t, late.Run())
		for range 20 {
			if len(again.records(of(event.ProcessExit, late.Process.Pid))) > 0 {
				return true
			}
			time.Sleep(50 * time.Millisecond)
		}
		return false
	}, time.Minute, 10*time.Millisecond)
	stats := r.source.stats()
	dropped := droppedByEvent(t, tel.GetMetric)
	require.NoError(t, r.Shutdown(context.Background()))

	produced := map[string]int{event.ProcessExec: processes*workers + 1, event.ProcessExit: processes*workers + 1, event.SyscallFailed: stormSize}
	for name, n := range produced {
		delivered := len(again.records(func(s seenRecord) bool {
			pid, _ := s.Resource[event.KeyProcessPID].(int64)
			return s.Name == name && pids[int(pid)]
		}))
		counted := stats.lost[name] + stats.suppressed[name] + dropped[name]
		others, seen := b.stop(t, name, pids)
		t.Logf("%s: %d produced, %d delivered, %d lost in the ring, %d suppressed, %d dropped from the queue; %d of others",
			name, n, delivered, stats.lost[name], stats.suppressed[name], dropped[name], others)
		if name != event.SyscallFailed { // of which the bystander has buckets of its own
			assert.Equal(t, n, seen, "produced %s", name)
			assert.LessOrEqual(t, counted, int64(n-delivered+others), name)
		}
		assert.GreaterOrEqual(t, counted, int64(n-delivered), "%s: what was not delivered is counted", name)
	}
	assert.NotZero(t, dropped[event.ProcessExec]+stats.lost[event.ProcessExec], "the queue was full")
	assert.NotZero(t, stats.suppressed[event.SyscallFailed])
}

// droppedByEvent reads the metric of what found no place in the queue.
func droppedByEvent(t *testing.T, metric func(string) (metricdata.Metrics, error)) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	m, err := metric("otelcol_receiver_tapio_ebpf_dropped")
	require.NoError(t, err)
	for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
		name, _ := p.Attributes.Value(attribute.Key("event"))
		out[name.AsString()] += p.Value
	}
	return out
}

// TestCountsOfTheLastInterval are told at the end, however long the interval would have lasted.
func TestCountsOfTheLastInterval(t *testing.T) {
	requireKernel(t)
	path, folder := memoryCgroup(t, 256<<20)
	r := startRig(t, func(c *Config) { c.SampleInterval, c.Programs.Memory.GrowthWindow = time.Hour, 24*time.Hour })
	cmd := role("runs-out")
	cmd.Env = append(cmd.Env, "TAPIO_EBPF_TEST_DIR="+t.TempDir()+"/none")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NoError(t, os.WriteFile(folder+"/cgroup.procs", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
	_, _ = stdin.Write([]byte{1})
	require.NoError(t, cmd.Wait())
	counted := func(s seenRecord) bool {
		return s.Name == event.SyscallFailures && s.Attributes[event.KeySyscall] == "getpgid" && s.Resource[event.KeyProcessCgroup] == path
	}
	require.Empty(t, r.records(counted))
	recordRuns(t, r.receiver.source)
	require.NoError(t, r.receiver.Shutdown(context.Background()))
	got := r.records(counted)
	require.Len(t, got, 1)
	assert.EqualValues(t, 500, got[0].Attributes[event.KeySyscallCount])
}
