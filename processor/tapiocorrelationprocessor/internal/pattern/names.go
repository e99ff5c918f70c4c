package pattern

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/section"
)

// ownPrefix begins the names of Tapio's events; nobody else's begin with it.
const ownPrefix = "tapio."

// unnamed are events that there are and that neither a metadata.yaml nor a pattern of the
// library names.
var unnamed = []string{event.MetricCPUHigh, event.MetricMemoryNearLimit, event.MetricThreadsExhausted}

// Unknown says which events of a pattern begin with tapio. and do not exist, each error
// with the key. Of events of other senders nothing is known.
func Unknown(p *Pattern) error {
	library, err := Library()
	if err != nil {
		return err
	}
	known := slices.Concat(event.Documented, unnamed)
	for _, l := range library {
		l.events(func(_, name string) { known = append(known, name) })
	}
	slices.Sort(known)
	known = slices.Compact(known)
	var errs []error
	p.events(func(key, name string) {
		if !strings.HasPrefix(name, ownPrefix) || slices.Contains(known, name) {
			return
		}
		hint := "docs/events.md and docs/patterns.md list those that there are"
		if near := section.Nearest(name, known); near != "" {
			hint = fmt.Sprintf("do you mean %s?", near)
		}
		errs = append(errs, fmt.Errorf("%s: %q: there is no such event; %s", key, name, hint))
	})
	return errors.Join(errs...)
}

// Named returns the events that any of the patterns names.
func Named(patterns []*Pattern) map[string]bool {
	all := map[string]bool{}
	for _, p := range patterns {
		p.events(func(_, name string) { all[name] = true })
	}
	return all
}

// events calls do with each event that the pattern names, and its key.
func (p *Pattern) events(do func(key, name string)) {
	do("cause.event", p.Cause.Event)
	for i, name := range p.Cause.Or {
		do(fmt.Sprintf("cause.or[%d]", i), name)
	}
	for i := range p.Effects {
		do(fmt.Sprintf("effects[%d].event", i), p.Effects[i].Event)
	}
	for i := range p.Until {
		do(fmt.Sprintf("until[%d].event", i), p.Until[i].Event)
	}
	if p.StartsOver.Event != "" {
		do("starts_over.event", p.StartsOver.Event)
	}
	if p.StartsOver.Stopped != "" {
		do("starts_over.stopped", p.StartsOver.Stopped)
	}
	for i := range p.Changes {
		do(fmt.Sprintf("changes[%d].event", i), p.Changes[i].Event)
	}
}
