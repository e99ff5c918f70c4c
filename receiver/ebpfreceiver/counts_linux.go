//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

const (
	// maxReclaims and maxForks bound the records of one sample; the most are sent.
	maxReclaims = 64
	maxForks    = 64
	// leastStall is the least time for which a cgroup's stalls are told.
	leastStall = time.Millisecond
	// maxForkRates bounds the cgroups whose usual rate is known.
	maxForkRates = 4096
)

// Kinds of counts that reclaim.h defines.
const (
	kindReclaim = bpf.ProcessRecordKind(bpf.ReclaimCountKindTAPIO_RECLAIM)
	kindGrowth  = bpf.ProcessRecordKind(bpf.ReclaimCountKindTAPIO_GROWTH)
	kindForks   = bpf.ProcessRecordKind(bpf.ReclaimCountKindTAPIO_FORKS)
)

func reclaimPrograms() []program {
	all := []program{
		// The ends first, so that no beginning is without one.
		{name: bpf.ReclaimProgMemcgReclaimEnd, attached: countReclaims},
		{name: bpf.ReclaimProgMemcgReclaimBegin},
		{name: bpf.ReclaimProgDirectReclaimEnd},
		{name: bpf.ReclaimProgDirectReclaimBegin},
	}
	for i := range all {
		all[i].load = bpf.LoadReclaim
		all[i].sharesMaps = []string{bpf.ReclaimMapReclaiming, bpf.ReclaimMapReclaims, bpf.ReclaimMapCgroupPaths}
	}
	return all
}

// reclaimCounts reads how long tasks had to wait for memory.
type reclaimCounts struct {
	counts  counters[uint64, bpf.ReclaimReclaim]
	paths   *ebpf.Map
	page    uint64
	sampled time.Time
	leftOut atomic.Int64
}

func countReclaims(k *kernel, p *runningProgram) {
	c := p.collection
	k.samplers = append(k.samplers, &reclaimCounts{
		counts: newCounters[uint64, bpf.ReclaimReclaim](c.Maps[bpf.ReclaimMapReclaims]),
		paths:  c.Maps[bpf.ReclaimMapCgroupPaths], page: pageSize(), sampled: time.Now(),
	})
}

func (r *reclaimCounts) left() map[string]int64 {
	return map[string]int64{event.MemoryReclaim: r.leftOut.Load()}
}

func (r *reclaimCounts) sample() []kernelEvent {
	now := time.Now()
	interval := now.Sub(r.sampled).Round(time.Millisecond)
	r.sampled = now
	at := bootNow()
	var all []reclaimEvent
	r.counts.each(func(id uint64, now, before *bpf.ReclaimReclaim) bool {
		stalls := grownHistogram(now.Stalls.Count, now.Stalls.Total, before.Stalls.Count, before.Stalls.Total, &now.Stalls.Slots, &before.Stalls.Slots)
		if stalls.count == 0 {
			return false
		}
		if stalls.total >= leastStall {
			all = append(all, reclaimEvent{
				base: base{at: at, who: processInfo{cgroup: cgroupOf(r.paths, id)}}, stalls: stalls,
				freed: (now.Pages - before.Pages) * r.page, interval: interval,
			})
		}
		return true
	})
	slices.SortFunc(all, func(a, b reclaimEvent) int {
		return cmp.Or(cmp.Compare(b.stalls.total, a.stalls.total), cmp.Compare(a.who.cgroup, b.who.cgroup))
	})
	return bounded(all, maxReclaims, &r.leftOut)
}

// bounded are the first events of a sample; the others are counted.
func bounded[E kernelEvent](all []E, most int, leftOut *atomic.Int64) []kernelEvent {
	if n := len(all) - most; n > 0 {
		leftOut.Add(int64(n))
		all = all[:most]
	}
	out := make([]kernelEvent, len(all))
	for i, ev := range all {
		out[i] = ev
	}
	return out
}

// forkCounts reads how many processes began, and judges each cgroup.
type forkCounts struct {
	counts  counters[uint64, bpf.ForksForkCount]
	paths   *ebpf.Map
	rates   map[uint64]*forkRate
	sampled time.Time
	leftOut atomic.Int64
}

func countForks(k *kernel, p *runningProgram) {
	c := p.collection
	k.samplers = append(k.samplers, &forkCounts{
		counts: newCounters[uint64, bpf.ForksForkCount](c.Maps[bpf.ForksMapForks]),
		paths:  c.Maps[bpf.ForksMapCgroupPaths], rates: map[uint64]*forkRate{}, sampled: time.Now(),
	})
}

func (f *forkCounts) left() map[string]int64 {
	return map[string]int64{event.ProcessForks: f.leftOut.Load()}
}

func (f *forkCounts) sample() []kernelEvent {
	now := time.Now()
	interval := now.Sub(f.sampled).Round(time.Millisecond)
	f.sampled = now
	at := bootNow()
	var storms, all []forksEvent
	seen := map[uint64]bool{}
	f.counts.each(func(id uint64, now, before *bpf.ForksForkCount) bool {
		ev := forksEvent{
			base:      base{at: at, who: processInfo{cgroup: cgroupOf(f.paths, id)}},
			processes: now.Processes - before.Processes, threads: now.Threads - before.Threads, interval: interval,
		}
		if ev.processes+ev.threads == 0 {
			return false
		}
		seen[id] = true
		all = append(all, ev)
		if f.judge(id, &ev); ev.isStorm {
			storms = append(storms, ev)
		}
		return true
	})
	f.rest(seen)
	slices.SortFunc(all, func(a, b forksEvent) int {
		return cmp.Or(cmp.Compare(b.processes+b.threads, a.processes+a.threads), cmp.Compare(a.who.cgroup, b.who.cgroup))
	})
	return append(bounded(storms, maxForks, &f.leftOut), bounded(all, maxForks, &f.leftOut)...)
}

func (f *forkCounts) judge(id uint64, ev *forksEvent) {
	rate := f.rates[id]
	if rate == nil {
		if len(f.rates) >= maxForkRates {
			return
		}
		rate = &forkRate{}
		f.rates[id] = rate
	}
	rate.idle = 0
	ev.usual, ev.isStorm = rate.judge(ev.rate())
}

// rest tells the cgroups in which nothing began.
func (f *forkCounts) rest(seen map[uint64]bool) {
	for id, rate := range f.rates {
		if seen[id] {
			continue
		}
		rate.judge(0)
		if rate.idle++; rate.idle >= forgetDevice {
			delete(f.rates, id)
		}
	}
}
