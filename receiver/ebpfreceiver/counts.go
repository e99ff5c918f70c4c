package ebpfreceiver

import (
	"time"

	"github.com/yairfalse/tapio/internal/event"
)

// reclaimEvent: tasks of a cgroup had to free memory before they got some.
type reclaimEvent struct {
	base
	// stalls is how long they took, freed how many bytes they freed.
	stalls   histogram
	freed    uint64
	interval time.Duration
	// judgedOver is the least time over which it is judged.
	judgedOver time.Duration
}

func (reclaimEvent) name() string     { return event.MemoryReclaim }
func (e reclaimEvent) isUrgent() bool { return e.matters() }

// reclaimMatters is the part of the time that stalls must take, of one task all the
// time or of several in sum, to be a warning: reading files at full speed in a full
// cgroup takes a few per cent.
const reclaimMatters = 0.1

// share is the stalled time by the time that went by; above 1 several tasks stalled.
func (e reclaimEvent) share() float64 {
	if e.interval <= 0 {
		return 0
	}
	return float64(e.stalls.total) / float64(e.interval)
}

// matters tells whether somebody waits for memory.
func (e reclaimEvent) matters() bool {
	over := max(e.interval, e.judgedOver)
	return over > 0 && float64(e.stalls.total) >= reclaimMatters*float64(over)
}

// forksEvent counts the processes and threads that began in a cgroup.
type forksEvent struct {
	base
	processes, threads uint64
	interval           time.Duration
	// usual is how many processes usually begin in a second, below 0 when that is not
	// known; isStorm says that there are many more for a while.
	usual   float64
	isStorm bool
}

func (e forksEvent) name() string {
	if e.isStorm {
		return event.ProcessForkStorm
	}
	return event.ProcessForks
}

func (e forksEvent) isUrgent() bool { return e.isStorm }

// rate is processes a second.
func (e forksEvent) rate() float64 { return float64(e.processes) / e.interval.Seconds() }

// manyForks: fewer than 50 a second cost next to nothing, and a shell script that
// runs now and then begins a few times as many as before.
var manyForks = threshold{floor: 50, factor: 8}

// endlessForks a second are a storm whatever is usual of the cgroup.
const endlessForks = 2000

// forkRate judges a cgroup by its own past.
type forkRate struct {
	rate baseline
	// endless is how many intervals in a row had too many, idle how many had none.
	endless, idle int
}

// judge takes the processes a second of an interval. What is usual is below 0 until it
// is known.
func (f *forkRate) judge(rate float64) (usual float64, isStorm bool) {
	if rate >= endlessForks {
		f.endless++
	} else {
		f.endless = 0
	}
	_, _, isKnown := f.rate.usual()
	if usual, isStorm = f.rate.judge(rate, manyForks); !isKnown {
		usual = -1
	}
	return usual, isStorm || f.endless >= alarmAfter
}
