//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

const (
	// maxRunQueues and maxThrottled bound the records of one sample.
	maxRunQueues = 64
	maxThrottled = 128
	// maxWaiting bounds the cgroups whose usual wait is known.
	maxWaiting = 4096
)

// Kinds of counts that scheduler.h defines.
const (
	kindRunQueue  = bpf.ProcessRecordKind(bpf.SchedulerSchedulerKindTAPIO_RUN_QUEUE)
	kindThrottled = bpf.ProcessRecordKind(bpf.SchedulerSchedulerKindTAPIO_THROTTLED)
)

// Kernels without what these programs read.
var (
	errNoSchedInfo = errors.New("this kernel does not note how long tasks wait; it was built without CONFIG_SCHED_INFO (SCHEDSTATS or TASK_DELAY_ACCT)")
	errNoBandwidth = errors.New("this kernel has no CPU quotas; it was built without CONFIG_CFS_BANDWIDTH")
)

func schedulerPrograms() []program {
	return []program{
		{name: bpf.SchedulerProgRunQueue, load: bpf.LoadScheduler, attached: countWaits, configure: func(_ *ebpf.CollectionSpec, f *features) error {
			if !f.hasSchedInfo {
				return errNoSchedInfo
			}
			return nil
		}},
		{name: bpf.SchedulerProgCpuThrottled, load: bpf.LoadScheduler, attached: countThrottling, configure: func(_ *ebpf.CollectionSpec, f *features) error {
			if !f.hasBandwidth {
				return errNoBandwidth
			}
			return nil
		}},
	}
}

// waitCounts reads how long tasks waited for a processor, and judges each cgroup.
type waitCounts struct {
	counts  counters[uint64, bpf.SchedulerHistogram]
	paths   *ebpf.Map
	judges  map[uint64]*waiting
	sampled time.Time
	leftOut atomic.Int64
}

func countWaits(k *kernel, p *runningProgram) {
	c := p.collection
	k.samplers = append(k.samplers, &waitCounts{
		counts: newCounters[uint64, bpf.SchedulerHistogram](c.Maps[bpf.SchedulerMapWaits]),
		paths:  c.Maps[bpf.SchedulerMapCgroupPaths], judges: map[uint64]*waiting{}, sampled: time.Now(),
	})
}

func (w *waitCounts) left() map[string]int64 {
	return map[string]int64{event.CPURunQueue: w.leftOut.Load()}
}

func (w *waitCounts) sample() []kernelEvent {
	now := time.Now()
	interval := now.Sub(w.sampled).Round(time.Millisecond)
	w.sampled = now
	at := bootNow()
	var starved, all []runQueueEvent
	seen := map[uint64]bool{}
	w.counts.each(func(id uint64, now, before *bpf.SchedulerHistogram) bool {
		waits := grownHistogram(now.Count, now.Total, before.Count, before.Total, &now.Slots, &before.Slots)
		if waits.count == 0 {
			return false
		}
		seen[id] = true
		ev := runQueueEvent{base: base{at: at, who: processInfo{cgroup: cgroupOf(w.paths, id)}}, waits: waits, interval: interval}
		all = append(all, ev)
		if w.judge(id, &ev); ev.isStarved {
			starved = append(starved, ev)
		}
		return true
	})
	for id, judge := range w.judges {
		if !seen[id] {
			judge.rest()
			if judge.idle++; judge.idle >= forgetDevice {
				delete(w.judges, id)
			}
		}
	}
	slices.SortFunc(all, func(a, b runQueueEvent) int {
		return cmp.Or(cmp.Compare(b.waits.total, a.waits.total), cmp.Compare(a.who.cgroup, b.who.cgroup))
	})
	return append(bounded(starved, maxRunQueues, &w.leftOut), bounded(all, maxRunQueues, &w.leftOut)...)
}

func (w *waitCounts) judge(id uint64, ev *runQueueEvent) {
	judge := w.judges[id]
	if judge == nil {
		if len(w.judges) >= maxWaiting {
			return
		}
		judge = &waiting{}
		w.judges[id] = judge
	}
	judge.idle = 0
	judge.judge(ev)
}

// throttlingCounts reads what the kernel counts of quotas. An iterator copies it to
// a map at each sample.
type throttlingCounts struct {
	link    link.Link
	copied  *ebpf.Map
	paths   *ebpf.Map
	known   map[uint64]bpf.SchedulerThrottling // at the sample before
	sampled time.Time
	leftOut atomic.Int64
}

func countThrottling(k *kernel, p *runningProgram) {
	c := p.collection
	t := &throttlingCounts{link: p.link, copied: c.Maps[bpf.SchedulerMapThrottlings], paths: c.Maps[bpf.SchedulerMapCgroupPaths]}
	t.sample() // what was before
	k.samplers = append(k.samplers, t)
}

func (t *throttlingCounts) left() map[string]int64 {
	return map[string]int64{event.CPUThrottled: t.leftOut.Load()}
}

func (t *throttlingCounts) sample() []kernelEvent {
	for id := range t.known {
		_ = t.copied.Delete(id) // gone already is as good
	}
	if err := iterate(t.link); err != nil {
		return nil // nothing is lost: the next sample counts from the one before
	}
	now := time.Now()
	interval := now.Sub(t.sampled).Round(time.Millisecond)
	t.sampled = now
	at := bootNow()
	current := map[uint64]bpf.SchedulerThrottling{}
	var all []throttledEvent
	var id uint64
	var value bpf.SchedulerThrottling
	for entries := t.copied.Iterate(); entries.Next(&id, &value); {
		current[id] = value
		before, ok := t.known[id]
		if !ok || value.Throttled == before.Throttled {
			continue // new: how long it counts nobody knows
		}
		quota := cgroupOf(t.paths, id)
		ev := throttledEvent{
			base: base{at: at, who: processInfo{cgroup: cgroupOfTasks(quota, cgroupOf(t.paths, value.Tasks))}},
			// The kernel's counts have 32 bits.
			periods: uint64(uint32(value.Periods - before.Periods)), throttled: uint64(uint32(value.Throttled - before.Throttled)),
			stopped: time.Duration(value.Time - before.Time), quota: time.Duration(value.Quota), period: time.Duration(value.Period), interval: interval,
		}
		if ev.who.cgroup != quota {
			ev.cgroup = quota
		}
		all = append(all, ev)
	}
	t.known = current
	slices.SortFunc(all, func(a, b throttledEvent) int {
		return cmp.Or(cmp.Compare(b.stopped, a.stopped), cmp.Compare(a.who.cgroup, b.who.cgroup))
	})
	return bounded(all, maxThrottled, &t.leftOut)
}
