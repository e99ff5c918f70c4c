//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/link"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

func pageSize() uint64 { return uint64(os.Getpagesize()) }

// memorySampler asks the kernel for all big processes.
type memorySampler struct {
	link    link.Link
	watch   *growthWatch
	failed  atomic.Int64
	leftOut atomic.Int64
}

// watchGrowth is called when the iterator is ready.
func watchGrowth(window, interval time.Duration) func(*kernel, *runningProgram) {
	return func(k *kernel, p *runningProgram) {
		k.samplers = append(k.samplers, &memorySampler{link: p.link, watch: newGrowthWatch(window, interval)})
	}
}

func (m *memorySampler) left() map[string]int64 {
	return map[string]int64{event.MemoryGrowth: m.leftOut.Load() + m.failed.Load()}
}

func (m *memorySampler) sample() []kernelEvent {
	readings, err := readMemory(m.link)
	if err != nil {
		m.failed.Add(1) // the next sample sees them again
		return nil
	}
	found := m.watch.sample(bootNow(), readings)
	m.leftOut.Store(m.watch.leftOut)
	out := make([]kernelEvent, len(found))
	for i, ev := range found {
		out[i] = ev
	}
	return out
}

// readMemory runs the iterator over all tasks.
func readMemory(l link.Link) ([]memoryReading, error) {
	it, ok := l.(*link.Iter)
	if !ok {
		return nil, fmt.Errorf("%T is no iterator", l)
	}
	reader, err := it.Open()
	if err != nil {
		return nil, fmt.Errorf("open iterator: %w", err)
	}
	defer reader.Close()
	raw, err := io.ReadAll(reader)
	if err != nil {
		return nil, err
	}
	return decodeMemory(raw), nil
}

// decodeMemory reads what the iterator wrote; what is cut off at its end is left out.
func decodeMemory(raw []byte) (out []memoryReading) {
	var s bpf.MemoryMemorySample
	size := int(unsafe.Sizeof(s))
	for ; len(raw) >= size; raw = raw[size:] {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&s)), size), raw)
		r := memoryReading{
			who: decodeProcess((*bpf.ProcessProcessId)(&s.Process), namesOf((*bpf.ProcessCgroupPath)(&s.Cgroup))),
			rss: s.Rss, limit: s.Limit, usage: s.Usage,
		}
		if s.Limit != 0 {
			r.limitCgroup = path((*bpf.ProcessCgroupPath)(&s.LimitCgroup))
		}
		out = append(out, r)
	}
	return out
}
