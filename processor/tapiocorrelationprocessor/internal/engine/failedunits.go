package engine

import (
	"fmt"
	"slices"
	"strings"

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

// unitState is whether a unit is failed, and since when. That it is well is remembered for
// a while: events of it can come in another order.
type unitState struct {
	failed bool
	at     int64
}

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
	case at < known.at, s.failed && known.failed: // since the first of several failures
		return
	case !ok && len(e.units) >= maxUnits:
		e.Counters.HostsDropped.Add(1)
		return
	}
	s.at = at
	e.units[unit] = s
}

// failedUnits names a host and its units that are failed, and since when, the last first;
// "" for none.
func (e *Engine) failedUnits(host record.EntityID) string {
	var failed []record.EntityID
	for id, s := range e.units {
		if s.failed && host != 0 && e.graph.PlaceOf(id).Host == host {
			failed = append(failed, id)
		}
	}
	slices.SortFunc(failed, func(a, b record.EntityID) int {
		if x, y := e.units[a].at, e.units[b].at; x != y {
			return int(max(min(y-x, 1), -1))
		}
		return int(a) - int(b)
	})
	var words []string
	for i, id := range failed {
		if i == maxNamed {
			words = append(words, fmt.Sprintf("and %d more", len(failed)-i))
			break
		}
		x, _ := e.graph.Entity(id)
		words = append(words, fmt.Sprintf("%s since %s UTC", x.Name, record.UTC(e.units[id].at).Format("2006-01-02 15:04:05")))
	}
	if len(words) == 0 {
		return ""
	}
	return fmt.Sprintf("on %s: %s", explain.Words(e.graph, host), strings.Join(words, ", "))
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
