package ebpfreceiver

import (
	"time"

	"github.com/yairfalse/tapio/internal/cgroup"
	"github.com/yairfalse/tapio/internal/event"
)

// runQueueEvent counts how long the tasks of a cgroup waited for a processor.
type runQueueEvent struct {
	base
	waits    histogram
	interval time.Duration
	// usual is the 90th percentile that is usual; isStarved says that they wait much
	// longer for a while.
	usual     time.Duration
	isStarved bool
}

func (e runQueueEvent) name() string {
	if e.isStarved {
		return event.CPUStarved
	}
	return event.CPURunQueue
}

func (e runQueueEvent) isUrgent() bool { return e.isStarved }

// share is the waited time by the time that went by: how many tasks waited on average.
func (e runQueueEvent) share() float64 {
	if e.interval <= 0 {
		return 0
	}
	return float64(e.waits.total) / float64(e.interval)
}

const (
	// fewSwitches is less than one can judge a cgroup by. Of short samples those of
	// gatherWaits are judged together, when each has less.
	fewSwitches = 50
	gatherWaits = 10 * time.Second
	// starvedShare is how many tasks must wait on average: one that wakes up now and
	// then and waits hurts nobody much.
	starvedShare = 0.5
)

// longWait: a time slice is about 3 ms, so that 10 ms are the wait behind several.
var longWait = threshold{floor: float64(10 * time.Millisecond / time.Microsecond), factor: 4}

// waiting judges a cgroup by its own past.
type waiting struct {
	percentile baseline // 90th, in microseconds
	idle       int
	// few are waits that were not judged yet, over how long.
	few  histogram
	over time.Duration
}

// rest tells that nothing waited.
func (w *waiting) rest() {
	w.percentile.skip()
	w.few, w.over = histogram{}, 0
}

// judge sets whether the tasks of a cgroup starve, and by which waits that was judged.
func (w *waiting) judge(ev *runQueueEvent) {
	w.few.add(&ev.waits)
	w.over += ev.interval
	if w.few.count < fewSwitches && w.over+ev.interval <= gatherWaits {
		return
	}
	ev.waits, ev.interval = w.few, w.over
	w.few, w.over = histogram{}, 0
	if ev.waits.count < fewSwitches {
		w.percentile.skip()
		return
	}
	p90 := microseconds(ev.waits.quantile(0.9))
	if ev.share() < starvedShare {
		w.percentile.skip()
		w.percentile.learn(p90)
		return
	}
	usual, isStarved := w.percentile.judge(p90, longWait)
	ev.usual, ev.isStarved = time.Duration(usual*float64(time.Microsecond)), isStarved
}

// throttledEvent: a cgroup used up its CPU quota.
type throttledEvent struct {
	base
	// periods is how many periods the cgroup wanted to run in, throttled in how many of
	// them it had to stop; stopped is for how long, in the sum of all CPUs.
	periods, throttled uint64
	stopped            time.Duration
	// quota is CPU time in each period.
	quota, period time.Duration
	interval      time.Duration
	// judgedOver is the least time over which it is judged.
	judgedOver time.Duration
	// cgroup is the path of the quota, where its tasks are known by another one.
	cgroup string
}

// cgroupOfTasks is the path by which the tasks of a quota are known in other events.
// Where the hierarchies differ that is the one that tells more: container, pod, unit.
func cgroupOfTasks(quota, tasks string) string {
	none := cgroup.Identity{}
	if tasks == "" || tasks == "/" || (cgroup.Parse(tasks) == none && cgroup.Parse(quota) != none) {
		return quota
	}
	return tasks
}

func (throttledEvent) name() string     { return event.CPUThrottled }
func (e throttledEvent) isUrgent() bool { return e.matters() }

// throttledMatters is the part of its periods in which a cgroup must be stopped to be
// a warning: below, it is a burst now and then that ends early.
const throttledMatters = 0.25

// share is the part of the periods in which it was stopped.
func (e throttledEvent) share() float64 {
	if e.periods == 0 {
		return 0
	}
	return float64(e.throttled) / float64(e.periods)
}

// matters: it is stopped in many of its periods, and runs in many.
func (e throttledEvent) matters() bool {
	return e.share() >= throttledMatters && float64(e.throttled)*float64(e.period) >= throttledMatters/2*float64(max(e.interval, e.judgedOver))
}
