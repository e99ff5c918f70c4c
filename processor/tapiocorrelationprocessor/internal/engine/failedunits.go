package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// maxUnits bounds the units of which it is known whether they failed.
	maxUnits = 10_000
	// maxNamed bounds the failed units that a finding names.
	maxNamed = 5
)

// unitState is whether a unit is failed, when that was told last, and since when it is or,
// where it is well again, from when until when it was; 0 for never. That it is well is
// remembered for a while: events of it can come in another order.
type unitState struct {
	failed           bool
	at, since, until int64
}

// unitSlack is how long before or after the beginning of an incident a unit can have been failed
// to be named though it is well again, and how long it must have been to fail anew: it is
// restarted meanwhile.
const unitSlack = int64(10 * time.Second)

// unitState notes what an event, however old, says of a unit's state.
func (e *Engine) unitState(name string, unit record.EntityID, at int64) {
	var s unitState
	switch name {
	case event.SystemdUnitFailed, event.SystemdUnitOOMKilled, event.SystemdUnitStartLimitHit, event.SystemdUnitWatchdog:
		s.failed = true
	case event.SystemdUnitActivated, event.SystemdUnitDeactivated, event.SystemdUnitRunning:
	default:
		return
	}
	known, ok := e.units[unit]
	switch {
	case at < known.at:
		return
	case !ok && len(e.units) >= maxUnits:
		e.Counters.HostsDropped.Add(1)
		return
	}
	s.at, s.since, s.until = at, known.since, known.until
	switch {
	case known.failed && !s.failed:
		s.until = at
	case s.failed && !known.failed && (s.since == 0 || at-s.until >= unitSlack): // else of several failures the first
		s.since = at
	}
	e.units[unit] = s
}

// failedUnits names a host and its units that are failed, and since when, or were when
// something began: those first that failed the nearest to that; "" for none.
func (e *Engine) failedUnits(host record.EntityID, began int64) string {
	var failed []record.EntityID
	for id, s := range e.units {
		then := s.since > 0 && s.since <= began+unitSlack && s.until >= began-unitSlack
		if (s.failed || then) && host != 0 && e.graph.PlaceOf(id).Host == host {
			failed = append(failed, id)
		}
	}
	away := func(id record.EntityID) int64 {
		d := e.units[id].since - began
		return max(d, -d)
	}
	slices.SortFunc(failed, func(a, b record.EntityID) int {
		return cmp.Or(cmp.Compare(away(a), away(b)), cmp.Compare(a, b))
	})
	var words []string
	for i, id := range failed {
		if i == maxNamed {
			words = append(words, fmt.Sprintf("and %d more", len(failed)-i))
			break
		}
		x, _ := e.graph.Entity(id)
		words = append(words, x.Name+" "+e.units[id].words())
	}
	if len(words) == 0 {
		return ""
	}
	return fmt.Sprintf("on %s: %s", explain.Words(e.graph, host), strings.Join(words, ", "))
}

// words say from when to when a unit was failed.
func (s unitState) words() string {
	at := func(t int64) string { return record.UTC(t).Format("2006-01-02 15:04:05") }
	if s.failed {
		return fmt.Sprintf("since %s UTC", at(s.since))
	}
	return fmt.Sprintf("from %s to %s UTC", at(s.since), at(s.until))
}

// keepUnits makes the topology remember the units that are failed, and forgets those that
// are well for longer than events are late.
func (e *Engine) keepUnits(now int64) {
	for id, s := range e.units {
		switch {
		case !e.graph.Known(id), !s.failed && s.at < now-int64(e.options.Window):
			delete(e.units, id)
		case s.failed:
			e.graph.Touch(now, id)
		}
	}
	e.Counters.UnitsHeld.Store(int64(len(e.units)))
}
