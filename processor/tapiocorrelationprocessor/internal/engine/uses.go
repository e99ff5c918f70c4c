package engine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

// uses say for how long a named event is of use.
type uses struct {
	least  int64
	byName map[string][]use
}

// use is that one pattern may look at such an event for so long.
type use struct {
	where []pattern.Condition
	keep  int64
}

// newUses lists what patterns use events for. A pattern looks back as far as its cause may
// be from the first effect, or an effect from the cause.
func newUses(window time.Duration, patterns []*pattern.Pattern) uses {
	u := uses{least: int64(max(window, maxGrace)), byName: map[string][]use{}}
	for _, p := range patterns {
		keep := max(p.Cause.Within, p.Cause.Before)
		for i := range p.Effects {
			keep = max(keep, p.Effects[i].Within)
		}
		if int64(keep) <= u.least {
			continue
		}
		add := func(name string, where []pattern.Condition) {
			u.byName[name] = append(u.byName[name], use{where, int64(keep)})
		}
		add(p.Cause.Event, p.Cause.Where)
		for _, name := range p.Cause.Or {
			add(name, p.Cause.Where)
		}
		for i := range p.Effects {
			add(p.Effects[i].Event, fixed(p.Effects[i].Where))
		}
		for i := range p.Until {
			add(p.Until[i].Event, fixed(p.Until[i].Where))
		}
		if p.StartsOver.Event != "" {
			add(p.StartsOver.Event, p.StartsOver.Where)
			add(p.StartsOver.Stopped, nil)
		}
		for i := range p.Changes {
			add(p.Changes[i].Event, p.Changes[i].Where)
		}
	}
	return u
}

// fixed are the conditions that do not depend on what the cause says.
func fixed(where []pattern.Condition) (out []pattern.Condition) {
	for i := range where {
		if where[i].HoldsCause+where[i].IsCause == "" {
			out = append(out, where[i])
		}
	}
	return out
}

// until is when an event is of no use any more.
func (u *uses) until(o *detect.Occurrence) int64 {
	keep := u.least
	for i := range u.byName[o.Name] {
		if x := &u.byName[o.Name][i]; x.keep > keep && pattern.Holds(x.where, o.Detail) {
			keep = x.keep
		}
	}
	return o.Time + keep
}

// shortEvery is the least time between two log lines about events that are forgotten early.
const shortEvery = 10 * time.Minute

// sayShort logs that more events come than can be kept.
func (e *Engine) sayShort(now int64) {
	short := e.occurrences.Short(now, e.options.Window)
	if len(short) == 0 || e.shortSaid != 0 && now-e.shortSaid < int64(shortEvery) {
		return
	}
	e.shortSaid = now
	names := make([]string, len(short))
	for i, s := range short {
		names[i] = fmt.Sprintf("%s (the last %s, %d forgotten)", s.Name, s.Reach.Round(time.Second), s.Evicted)
	}
	e.options.Logger.Warn("More events come than are kept, so that what those that are forgotten caused, or followed from, is not explained by them; raise limits::details",
		zap.String("events", strings.Join(names, ", ")), zap.Int("kept_of_each", e.options.MaxDetails/occurrenceShare), zap.Int("limits::details", e.options.MaxDetails))
}

// missingEvents says which events that can be causes are forgotten before the window is over.
func (e *Engine) missingEvents() (out []string) {
	for _, s := range e.occurrences.Short(e.now(), e.options.Window) {
		if !slices.ContainsFunc(e.options.Patterns, func(p *pattern.Pattern) bool { return p.Cause.Is(s.Name) }) {
			continue
		}
		out = append(out, fmt.Sprintf("Of the events %s only those of the last %s are remembered, since more come than limits::details lets be kept: an earlier one that may be the cause is not considered.",
			s.Name, s.Reach.Round(time.Second)))
	}
	return out[:min(len(out), maxShortSaid)]
}

// maxShortSaid bounds what a finding says of that.
const maxShortSaid = 3
