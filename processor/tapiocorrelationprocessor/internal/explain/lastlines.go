package explain

import (
	"fmt"
	"slices"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/tail"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

const (
	// saidWithin is how long before an end a line can have been written to say why: longer
	// than most timeouts of what hangs, and shown with its time.
	saidWithin = int64(time.Minute)
	// saidAfter is how much later than the end a line can seem to be: a log daemon gives it
	// the time at which it read it.
	saidAfter = int64(2 * time.Second)
	// newest is how many of the last lines are quoted whatever they are.
	newest = 2
)

// ends are the events that say that a process, a run of a unit or a container ended: its
// last lines may say why.
var ends = []string{
	event.SystemdUnitFailed, event.SystemdUnitOOMKilled, event.SystemdUnitStartLimitHit, event.SystemdUnitWatchdog,
	event.SystemdUnitRestarting, event.SystemdUnitDeactivated, event.ProcessExit, event.OOMKill,
	event.K8sContainerTerminated, event.K8sContainerWaiting,
}

// Ends tells whether the cause is the end of somebody who can have said why.
func (h *Hypothesis) Ends() bool {
	return h.Cause.Occurrence != nil && slices.Contains(ends, h.Cause.Event)
}

// Quote takes what the one to whom the cause happened wrote last before it, and tells
// whether that is more than before.
func (h *Hypothesis) Quote(t *tail.Tails) bool {
	if !h.Ends() {
		return false
	}
	lines := h.pick(h.written(t))
	if len(lines) < len(h.LastLines) || slices.Equal(lines, h.LastLines) {
		return false
	}
	h.LastLines = lines
	return true
}

// written returns what the one to whom the cause happened wrote, the oldest first, by the
// identities that it shares with log records.
func (h *Hypothesis) written(t *tail.Tails) (lines []tail.Line) {
	o := h.Cause.Occurrence
	x, _ := h.graph.Entity(o.Subject)
	text := func(key string) string {
		if s, ok := o.Detail.Attr(key).(string); ok {
			return s
		}
		s, _ := x.Attributes[key].(string)
		return s
	}
	switch x.Kind {
	case topology.KindUnit:
		if run := tail.PartOf(text(event.KeySystemdInvocation)); run != 0 {
			lines = t.Of(x.ID, run)
		}
		return lines
	case topology.KindProcess:
		lines = append(t.Of(x.ID, 0), h.printed(t, &x)...)
		if instance := tail.PartOf(text(event.KeyServiceInstanceID)); instance != 0 && x.Service != 0 {
			lines = append(lines, t.Of(x.Service, instance)...)
		}
		if x.Container == 0 || x.VPID != firstPID {
			return lines
		}
	}
	place := h.graph.PlaceOf(x.ID)
	lines = append(lines, t.Of(place.Container, 0)...)
	if c, ok := h.graph.Entity(place.Container); ok && text(event.KeyContainerName) == "" {
		x.Attributes = c.Attributes
	}
	if name := tail.PartOf(text(event.KeyContainerName)); name != 0 {
		lines = append(lines, t.Of(place.Pod, name)...)
	}
	return ofRun(lines, o.Detail)
}

// firstPID is the process of a container that it ends with.
const firstPID = 1

// printed returns what a process printed as a part of its unit.
func (h *Hypothesis) printed(t *tail.Tails, x *topology.Snapshot) []tail.Line {
	if u, ok := h.graph.Entity(x.Workload); !ok || u.Kind != topology.KindUnit || x.PID == 0 {
		return nil
	}
	return slices.DeleteFunc(t.ByPID(x.Workload, x.PID), func(l tail.Line) bool { return l.Time < x.Created })
}

// ofRun leaves out the lines of other runs of a container than the one that ended: an event
// has the count of restarts before or after that one's end.
func ofRun(lines []tail.Line, d *record.Detail) []tail.Line {
	restarts, ok := d.Attr(event.KeyContainerRestart).(int64)
	if !ok {
		return lines
	}
	return slices.DeleteFunc(lines, func(l tail.Line) bool { return l.Restart >= 0 && l.Restart != restarts && l.Restart != restarts-1 })
}

// pick chooses what to quote: the last lines and, before them, rather warnings than others.
// What was said several times is said once.
func (h *Hypothesis) pick(lines []tail.Line) (out []finding.LogLine) {
	end := h.Cause.Time
	lines = slices.DeleteFunc(lines, func(l tail.Line) bool { return l.Time < end-saidWithin || l.Time > end+saidAfter })
	slices.SortFunc(lines, tail.Line.Compare)
	said := map[string]bool{}
	var chosen []int
	take := func(most int, wanted func(*tail.Line) bool) {
		for i := len(lines) - 1; i >= 0 && len(chosen) < most; i-- {
			if l := &lines[i]; !said[l.Text] && wanted(l) {
				said[l.Text] = true
				chosen = append(chosen, i)
			}
		}
	}
	all := func(*tail.Line) bool { return true }
	take(newest, all)
	take(finding.MaxLastLines, (*tail.Line).Loud)
	take(finding.MaxLastLines, all)
	slices.Sort(chosen)
	for _, i := range chosen {
		l := &lines[i]
		out = append(out, finding.LogLine{Time: record.UTC(l.Time), Severity: int(l.Severity), Text: l.Text})
	}
	return out
}

// unsaid says that nobody received what the one that ended said, "" when somebody did.
func (h *Hypothesis) unsaid() string {
	if !h.Ends() || len(h.LastLines) > 0 {
		return ""
	}
	who, where := Words(h.graph, h.Cause.Occurrence.Subject), ""
	switch x, _ := h.graph.Entity(h.Cause.Occurrence.Subject); {
	case x.Kind == topology.KindUnit:
		who, where = x.Name, fmt.Sprintf("; see `journalctl -u %s`", x.Name)
	case x.Pod != 0 || x.Kind == topology.KindPod:
		where = "; see `kubectl logs --previous`"
	}
	return fmt.Sprintf("What %s logged before it ended: no log record of it was received%s.", who, where)
}
