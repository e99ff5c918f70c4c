//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
)

// counters reads a map of counters. The kernel only counts up, so that nothing is
// lost between reading and clearing; the difference is made here.
type counters[K comparable, V any] struct {
	kernel *ebpf.Map
	known  map[K]*counter[V]
	// sum adds up what CPUs counted, of a map with a value for each; else nil.
	sum func(perCPU []V) V
}

// counter is what a counter was, and for how many samples.
type counter[V any] struct {
	value V
	idle  int
}

func newCounters[K comparable, V any](m *ebpf.Map) counters[K, V] {
	return counters[K, V]{kernel: m, known: map[K]*counter[V]{}}
}

// After how many samples without growth a counter is deleted: where the map is nearly
// full, so that those that come next find a place, and else.
const (
	idleSamples        = 12
	idleSamplesCrowded = 2
)

// each calls grown with what each counter is and was at the sample before; grown
// says whether it grew. A counter that has not for long is deleted.
func (c *counters[K, V]) each(grown func(key K, now, before *V) bool) {
	var key K
	var value V
	idle := map[K]int{}
	entries := 0
	for all := c.kernel.Iterate(); c.next(all, &key, &value); entries++ {
		k := c.known[key]
		if k == nil {
			k = &counter[V]{}
			c.known[key] = k
		}
		if grown(key, &value, &k.value) {
			*k = counter[V]{value: value}
		} else if k.idle++; k.idle >= idleSamplesCrowded {
			idle[key] = k.idle
		}
	}
	atMost := idleSamples
	if entries > int(c.kernel.MaxEntries())*3/4 {
		atMost = idleSamplesCrowded
	}
	for key, samples := range idle {
		if samples >= atMost {
			if c.take(key, &value) == nil { // gone already is as good
				grown(key, &value, &c.known[key].value) // it may have, since it was read
			}
			delete(c.known, key)
		}
	}
}

func (c *counters[K, V]) next(all *ebpf.MapIterator, key *K, value *V) bool {
	if c.sum == nil {
		return all.Next(key, value)
	}
	var perCPU []V
	ok := all.Next(key, &perCPU)
	*value = c.sum(perCPU)
	return ok
}

// take deletes a counter and returns what it was at the last.
func (c *counters[K, V]) take(key K, value *V) error {
	if c.sum == nil {
		return c.kernel.LookupAndDelete(key, value)
	}
	var perCPU []V
	err := c.kernel.LookupAndDelete(key, &perCPU)
	*value = c.sum(perCPU)
	return err
}

// total is the sum of numbers.
func total(numbers []uint64) (sum uint64) {
	for _, n := range numbers {
		sum += n
	}
	return sum
}

// cgroupOf is the path of a cgroup that a program remembered, "" when it has not.
func cgroupOf(paths *ebpf.Map, id uint64) string {
	var p bpf.ProcessCgroupPath
	if id == 0 || paths.Lookup(id, &p) != nil {
		return ""
	}
	return path(&p)
}

// bootNow is the time in nanoseconds of CLOCK_BOOTTIME.
func bootNow() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail with this clock
	return uint64(ts.Nano())
}
