package engine

import (
	"slices"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// keyFailedUnit names, at the end of a process, the unit of systemd whose failure tells
	// of it: the end is evidence, and no cause beside that.
	keyFailedUnit = "tapio.process.exit.failed_unit"

	// maxRestart is how long after the end of a run the next one begins, at most, for both to
	// be a restart.
	maxRestart = int64(10 * time.Second)
	// unitLasts is for how long a run must have been active to have been well, as in the
	// starts_over of the patterns of units.
	unitLasts = int64(10 * time.Second)
	// maxLoop is how long after a failure that systemd tells of further runs may fail of which
	// it tells no more, one after the other.
	maxLoop = int64(2 * time.Minute)
	// maxEnds bounds the ends of processes among which those of a unit are looked for.
	maxEnds = 4096
)

// tellsOfEnds marks the ends of processes of which a unit's failure, that has just been told,
// tells more.
func (e *Engine) tellsOfEnds(failure *detect.Occurrence) {
	if failure.Name != event.SystemdUnitFailed && failure.Name != event.SystemdUnitStartLimitHit || !e.names(failure) {
		return
	}
	for _, o := range e.occurrences.Of(failure.Subject) {
		if o.Name == event.ProcessExit && e.tellsOf(failure, o) {
			e.markEnd(o, failure.Subject)
		}
	}
	_, began := run(failure)
	if failure.Time-began > unitLasts {
		return
	}
	// Of a run that failed at its start, it may be known by the failure alone whose it was.
	ends := e.occurrences.Named(event.ProcessExit)
	for _, o := range slices.Backward(ends[max(0, len(ends)-maxEnds):]) {
		if o.Time < began-maxRestart {
			continue // they are in the order in which they came
		}
		if e.graph.UnitOf(o.Subject) == failure.Subject && e.tellsOf(failure, o) {
			e.markEnd(o, failure.Subject)
		}
	}
}

// toldByUnit marks the end of a process when a failure of its unit was told before.
func (e *Engine) toldByUnit(exit *detect.Occurrence) {
	unit := e.graph.UnitOf(exit.Subject)
	if unit == 0 {
		return
	}
	for _, name := range []string{event.SystemdUnitFailed, event.SystemdUnitStartLimitHit} {
		known := e.occurrences.Named(name)
		for _, failure := range known[max(0, len(known)-maxCompared):] {
			if failure.Subject == unit && e.names(failure) && e.tellsOf(failure, exit) {
				e.markEnd(exit, unit)
				return
			}
		}
	}
}

// names tells whether a pattern names the failure of a unit for itself: without, as where
// patterns are switched off, the end of its process is all that can be named.
func (e *Engine) names(failure *detect.Occurrence) bool {
	return slices.ContainsFunc(e.options.Patterns, func(p *pattern.Pattern) bool {
		return explain.Matches(p, failure) && (!p.Requires() || failure.Name == event.SystemdUnitStartLimitHit)
	})
}

func (e *Engine) markEnd(exit *detect.Occurrence, unit record.EntityID) {
	if x, ok := e.graph.Entity(unit); ok && exit.Detail.Attr(keyFailedUnit) == nil && len(exit.Detail.Attrs) < maxAttributes {
		exit.Detail.Attrs = append(exit.Detail.Attrs, record.Attr{Key: keyFailedUnit, Value: x.Name})
	}
}

// tellsOf tells whether the failure of a unit is more than the end of one of its processes:
// that was the run that failed, or a later one before it was well; or systemd ended the run
// before, to start this one.
func (e *Engine) tellsOf(failure, exit *detect.Occurrence) bool {
	process, ok := e.graph.Entity(exit.Subject)
	if !ok {
		return false
	}
	pid, began := run(failure)
	ofRun := pid != 0 && (pid == process.PID || pid == process.VPID) // systemd may be in a pid namespace of its own
	switch class := exit.Detail.Attr(keyExitClass); class {
	case exitError, exitFault, exitNotRun:
		if failure.Name != event.SystemdUnitFailed {
			return false
		}
		later := exit.Time > failure.Time && exit.Time <= failure.Time+maxLoop && !e.activeIn(failure.Subject, failure.Time, exit.Time)
		return later || ofRun && exit.Time >= began-int64(time.Second)
	case exitStopped, exitKilled:
		sender, _ := exit.Detail.Attr(event.KeySenderName).(string)
		if sender != "systemd" && (sender != "" || class == exitKilled) {
			return false // who sent it says more
		}
		if ofRun {
			return failure.Name == event.SystemdUnitFailed && failure.Detail.Attr(event.KeyErrorType) == "timeout"
		}
		return exit.Time <= began && exit.Time >= began-maxRestart && !e.activeIn(failure.Subject, began-int64(time.Second), failure.Time-unitLasts)
	}
	return false
}

// run returns the main process of the run of a unit that failed, 0 where none was started, and
// when that began or, where it is not known, failed.
func run(failure *detect.Occurrence) (pid, began int64) {
	if failure.Name != event.SystemdUnitFailed { // of a run that systemd refused to start
		return 0, failure.Time
	}
	pid, _ = failure.Detail.Attr(event.KeyProcessPID).(int64)
	text, _ := failure.Detail.Attr(event.KeyProcessCreationTime).(string)
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return pid, t.UnixNano()
	}
	return pid, failure.Time
}

// activeIn tells whether a unit was said to be active in a span of time.
func (e *Engine) activeIn(unit record.EntityID, from, to int64) bool {
	return slices.ContainsFunc(e.occurrences.Of(unit), func(o *detect.Occurrence) bool {
		return o.Name == event.SystemdUnitActivated && o.Subject == unit && o.Time >= from && o.Time <= to
	})
}
