package ebpfreceiver

import (
	"cmp"
	"slices"
	"time"

	"github.com/yairfalse/tapio/internal/event"
)

// growthEvent: a process holds more and more memory.
type growthEvent struct {
	base
	steadyGrowth
	rss uint64
	// limit of the memory cgroup that is nearest to its own, usage what is charged to
	// it and limitCgroup its path; limit 0 when there is none.
	limit, usage uint64
	limitCgroup  string
	// left is the time to the limit at this slope, 0 when there is none.
	left time.Duration
}

func (growthEvent) name() string   { return event.MemoryGrowth }
func (growthEvent) isUrgent() bool { return true }

// isNear tells whether there is little time left.
func (e growthEvent) isNear() bool { return e.left > 0 && e.left <= soon }

const (
	// growthSamples is how many samples of a process are kept, evenly over the window, where
	// that has so many; growthMin how few are judged.
	growthSamples = 30
	growthMin     = 10
	// growthBytes and growthShare are the least growth: allocators and caches breathe.
	growthBytes = 16 << 20
	growthShare = 0.05
	// risingPairs is the least share of pairs of samples of which the later is higher.
	risingPairs = 0.8
	// partShare is the least part of the growth in each half: a jump, and what has
	// levelled off, are no leak.
	partShare = 0.25
	// nearLimit is the share of the limit from which a process is judged that is
	// younger than the window; below, what starts up looks like a leak.
	nearLimit = 0.7
	// soon is the time to the limit that makes a warning of it.
	soon = time.Hour
)

// memorySample is how much a process held.
type memorySample struct {
	at  uint64 // CLOCK_BOOTTIME in nanoseconds
	rss uint64
}

// steadyGrowth is what samples of a process show.
type steadyGrowth struct {
	// by is the growth from the first third of the samples to the last, in bytes;
	// slope bytes a second; over how long.
	by    uint64
	slope float64
	over  time.Duration
}

// growing tells whether a process grows steadily: the median of each third of the
// samples is above the one before, neither in one jump nor levelling off, and of
// nearly all pairs of samples the later is higher, as with neither the saw teeth of a
// garbage collector nor noise. The slope is that of Theil and Sen, the median of those
// of all pairs.
func growing(samples []memorySample) (steadyGrowth, bool) {
	n := len(samples)
	if n < growthMin {
		return steadyGrowth{}, false
	}
	first, middle, last := medianRSS(samples[:n/3]), medianRSS(samples[n/3:n-n/3]), medianRSS(samples[n-n/3:])
	by := last - first
	if by < growthBytes || by < growthShare*first || middle-first < partShare*by || last-middle < partShare*by {
		return steadyGrowth{}, false
	}
	var slopes []float64
	rising := 0
	for i, a := range samples {
		for _, b := range samples[i+1:] {
			if b.at <= a.at {
				continue // a clock that stood still
			}
			if b.rss > a.rss {
				rising++
			}
			slopes = append(slopes, (float64(b.rss)-float64(a.rss))/(float64(b.at-a.at)/float64(time.Second)))
		}
	}
	if float64(rising) < risingPairs*float64(n*(n-1)/2) {
		return steadyGrowth{}, false
	}
	slices.Sort(slopes)
	return steadyGrowth{by: uint64(by), slope: slopes[len(slopes)/2], over: time.Duration(samples[n-1].at - samples[0].at)}, true
}

func medianRSS(samples []memorySample) float64 {
	all := make([]uint64, len(samples))
	for i, s := range samples {
		all[i] = s.rss
	}
	slices.Sort(all)
	return float64(all[len(all)/2])
}

// memoryKey tells processes apart.
type memoryKey struct {
	started uint64
	pid     uint32
}

// processMemory is what is known of a process.
type processMemory struct {
	samples []memorySample
	told    uint64
	seen    bool
}

// memoryReading is one process as the kernel sees it.
type memoryReading struct {
	who          processInfo
	rss          uint64
	limit, usage uint64
	limitCgroup  string
}

// maxGrowing bounds the processes that are watched; the biggest are.
const maxGrowing = 256

// growthWatch watches the memory of processes.
type growthWatch struct {
	window time.Duration
	// enough is how many samples are kept, and judged where the limit is not near.
	enough int
	known  map[memoryKey]*processMemory
	// leftOut counts processes that were not watched, by sample.
	leftOut int64
}

// newGrowthWatch watches over a window of at least growthMin intervals between samples.
func newGrowthWatch(window, interval time.Duration) *growthWatch {
	enough := min(max(int(window/interval), growthMin), growthSamples)
	return &growthWatch{window: window, enough: enough, known: map[memoryKey]*processMemory{}}
}

// sample takes what all processes hold at a time, and returns those that grow.
func (w *growthWatch) sample(now uint64, readings []memoryReading) (out []growthEvent) {
	if n := len(readings) - maxGrowing; n > 0 {
		slices.SortFunc(readings, func(a, b memoryReading) int { return cmp.Compare(b.rss, a.rss) })
		readings = readings[:maxGrowing]
		w.leftOut += int64(n)
	}
	for i := range readings {
		if ev, ok := w.take(now, &readings[i]); ok {
			out = append(out, ev)
		}
	}
	for key, p := range w.known { // who ended, shrank or is among the biggest no longer
		if !p.seen {
			delete(w.known, key)
		}
		p.seen = false
	}
	return out
}

// take notes what one process holds.
func (w *growthWatch) take(now uint64, r *memoryReading) (growthEvent, bool) {
	key := memoryKey{r.who.started, r.who.pid}
	p := w.known[key]
	if p == nil {
		p = &processMemory{}
		w.known[key] = p
	}
	p.seen = true
	if n := len(p.samples); n > 0 && (now <= p.samples[n-1].at || now-p.samples[n-1].at < uint64(w.window/growthSamples)*9/10) {
		return growthEvent{}, false // enough of this time are there
	}
	p.samples = append(p.samples, memorySample{now, r.rss})
	if n := len(p.samples) - w.enough; n > 0 {
		p.samples = slices.Delete(p.samples, 0, n)
	}
	if p.told != 0 && now-p.told < uint64(w.window) {
		return growthEvent{}, false
	}
	ev, ok := w.judge(p.samples, r)
	if ok {
		p.told = now
		ev.at = now
	}
	return ev, ok
}

// judge decides by the samples of a process, the last of which is now.
func (w *growthWatch) judge(samples []memorySample, r *memoryReading) (growthEvent, bool) {
	near := r.limit > 0 && float64(r.usage) >= nearLimit*float64(r.limit)
	if !near {
		// A process that has just begun fills its caches.
		samples = slices.DeleteFunc(slices.Clone(samples), func(s memorySample) bool { return s.at < r.who.started+uint64(w.window) })
		if len(samples) < w.enough {
			return growthEvent{}, false
		}
	}
	g, ok := growing(samples)
	if !ok {
		return growthEvent{}, false
	}
	ev := growthEvent{base: base{who: r.who}, steadyGrowth: g, rss: r.rss, limit: r.limit, usage: r.usage, limitCgroup: r.limitCgroup}
	if r.limit > r.usage {
		if seconds := float64(r.limit-r.usage) / g.slope; seconds < maxLeft.Seconds() {
			ev.left = max(time.Duration(seconds*float64(time.Second)), time.Second)
		}
	}
	if near && !ev.isNear() {
		return growthEvent{}, false
	}
	return ev, true
}

// maxLeft is the longest time to a limit that is told: beyond nobody knows.
const maxLeft = 7 * 24 * time.Hour
