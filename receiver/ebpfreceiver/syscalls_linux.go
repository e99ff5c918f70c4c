//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"cmp"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

// maxFailures bounds the records of one sample; the most frequent are sent.
const maxFailures = 64

// failureCounts reads how often system calls failed.
type failureCounts struct {
	counts  counters[bpf.SyscallsFailureKey, uint64]
	paths   *ebpf.Map
	sampled time.Time
	// leftOut counts failures that were in none of the records sent.
	leftOut atomic.Int64
}

// countFailures is called when the program runs that counts them.
func countFailures(k *kernel, p *runningProgram) {
	c := p.collection
	counts := newCounters[bpf.SyscallsFailureKey, uint64](c.Maps[bpf.SyscallsMapFailures])
	counts.sum = total
	k.samplers = append(k.samplers, &failureCounts{counts: counts, paths: c.Maps[bpf.SyscallsMapFailurePaths], sampled: time.Now()})
}

func (f *failureCounts) left() map[string]int64 {
	return map[string]int64{event.SyscallFailures: f.leftOut.Load()}
}

// growth is by how much a count grew.
type growth struct {
	key bpf.SyscallsFailureKey
	by  uint64
}

func (f *failureCounts) sample() []kernelEvent {
	now := time.Now()
	interval := now.Sub(f.sampled)
	f.sampled = now
	var grown []growth
	f.counts.each(func(key bpf.SyscallsFailureKey, now, before *uint64) bool {
		if *now <= *before {
			return false
		}
		grown = append(grown, growth{key, *now - *before})
		return true
	})
	slices.SortFunc(grown, func(a, b growth) int {
		return cmp.Or(cmp.Compare(b.by, a.by), cmp.Compare(a.key.Cgroup, b.key.Cgroup), cmp.Compare(a.key.Number, b.key.Number), cmp.Compare(a.key.Error, b.key.Error))
	})
	boot := bootNow()
	var out []kernelEvent
	for i, g := range grown {
		if i >= maxFailures {
			f.leftOut.Add(int64(g.by))
			continue
		}
		who := processInfo{cgroup: cgroupOf(f.paths, g.key.Cgroup)}
		out = append(out, syscallsEvent{
			base: base{at: boot, who: who}, call: syscallName(g.key.Number), errno: errnoName(g.key.Error),
			count: g.by, interval: interval.Round(time.Millisecond),
		})
	}
	return out
}

var callNames = func() map[int]string {
	info, err := arch.GetInfo(runtime.GOARCH)
	if err != nil {
		return nil // an architecture without a table: numbers are shown
	}
	return info.SyscallNumbers
}()

// compatCall marks the numbers of programs of 32 bits, which have a table of their own
// (TAPIO_COMPAT of syscalls.bpf.c).
const compatCall = 1 << 31

// syscallName is the name of a system call of this machine; those of programs of
// 32 bits have none.
func syscallName(number uint32) string {
	if number&compatCall != 0 {
		return "compat_" + strconv.Itoa(int(number&^compatCall))
	}
	if name, ok := callNames[int(number)]; ok {
		return name
	}
	return "syscall_" + strconv.Itoa(int(number))
}

// errnoName is the name of an error number, such as ENOSPC.
func errnoName(number uint32) string {
	if name := unix.ErrnoName(syscall.Errno(number)); name != "" {
		return name
	}
	return "errno_" + strconv.Itoa(int(number))
}
