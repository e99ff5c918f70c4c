//go:build linux && (amd64 || arm64)

package plugins

import (
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
)

// BenchmarkSystemCall is what any process of the machine pays for a system call
// that has nothing to do with plugins, while streams are looked at. Turns with and
// without alternate, and the fastest of each counts: what else the machine does
// falls out.
func BenchmarkSystemCall(b *testing.B) {
	const calls = 20_000
	r := newRig(b, OutputNever)
	r.source.tap = newTap(r.loadAll(), OutputAlways)
	defer func() { require.NoError(b, r.source.tap.close()) }()
	turn := func() time.Duration {
		began := time.Now()
		for range calls {
			_, _, _ = unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
		return time.Since(began)
	}
	without, with := time.Hour, time.Hour
	for b.Loop() {
		without = min(without, turn())
		require.NoError(b, r.source.tap.attach())
		with = min(with, turn())
		require.NoError(b, r.source.tap.detach())
	}
	b.ReportMetric(float64(without.Nanoseconds())/calls, "ns/call-without")
	b.ReportMetric(float64((with-without).Nanoseconds())/calls, "ns/call-added")
	b.ReportMetric(0, "ns/op")
}

// loadAll loads the programs once more, for they are of one collection.
func (r *rig) loadAll() *ebpf.Collection {
	c, err := load(true)
	require.NoError(r.tb, err)
	r.tb.Cleanup(c.Close)
	return c
}

// BenchmarkExec is what the exec of a process that is no plugin costs, by the
// kernel's own count of the program's time.
func BenchmarkExec(b *testing.B) {
	for _, variables := range []int{10, 30, 100} {
		b.Run(strconv.Itoa(variables), func(b *testing.B) {
			r := newRig(b, OutputNever)
			stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
			require.NoError(b, err)
			defer stats.Close()
			env := make([]string, variables)
			for i := range env {
				env[i] = "SOME_VARIABLE_" + strconv.Itoa(i) + "=some value of usual length"
			}
			for b.Loop() {
				cmd := exec.Command("/bin/true")
				cmd.Env = env
				require.NoError(b, cmd.Run())
			}
			s, err := r.source.collection.Programs[bpf.CNIProgCniExec].Stats()
			require.NoError(b, err)
			b.ReportMetric(float64(s.Runtime)/float64(time.Nanosecond)/float64(s.RunCount), "program-ns/exec")
		})
	}
}
