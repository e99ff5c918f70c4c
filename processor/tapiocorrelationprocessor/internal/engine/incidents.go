package engine

import (
	"slices"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/incident"
)

// open makes an incident of a hypothesis, or goes on with the one that the same
// cause made before. It returns nil when there are too many incidents.
func (e *Engine) open(h *explain.Hypothesis) *open {
	i := incident.New(e.graph, h, e.incidentOptions())
	i.Keep(e.processor)
	for n, old := range e.resolved {
		if old.ID() == i.ID() {
			return e.reopen(n)
		}
	}
	if len(e.incidents) >= e.options.MaxIncidents {
		e.Counters.IncidentsDropped.Add(1)
		return nil
	}
	e.rounds(h)
	o := &open{Incident: i}
	e.incidents = append(e.incidents, o)
	e.absorbGroups(o)
	return o
}

func (e *Engine) incidentOptions() incident.Options {
	return incident.Options{
		Weights: e.options.Weights, ValueAttribute: e.options.Impact.ValueAttribute, MaxTraces: e.options.MaxTraces,
	}
}

// retire keeps a resolved incident for the time that its cause is remembered.
func (e *Engine) retire(o *open) {
	if !o.Emitted() {
		return
	}
	if len(e.resolved) >= e.options.MaxIncidents {
		e.resolved = slices.Delete(e.resolved, 0, 1)
	}
	e.resolved = append(e.resolved, o)
}

func (e *Engine) forgetResolved(before int64) {
	e.resolved = slices.DeleteFunc(e.resolved, func(o *open) bool { return o.Hypothesis.LastEffect < before })
}

// rounds takes what is known already of a cause that happened again and again as further
// rounds of it: events come at once, but spans in batches. Of a pattern that knows when its
// cause is over, what came since may be another one.
func (e *Engine) rounds(h *explain.Hypothesis) {
	if h.Cause.Occurrence == nil || len(h.Pattern.Until) > 0 || h.Pattern.StartsOver.Event != "" {
		return
	}
	for _, o := range e.occurrences.Of(h.Cause.Entity) {
		if o.Time > h.Cause.Time && explain.Matches(h.Pattern, o) && h.Same(h.Pattern, o) && !h.Completes(o) && e.main(o, h, h.Pattern) {
			h.Repeat(o)
		}
	}
}

// reopen goes on with a resolved incident.
func (e *Engine) reopen(n int) *open {
	old := e.resolved[n]
	old.Reopen()
	old.since = e.now()
	e.resolved = slices.Delete(e.resolved, n, n+1)
	e.incidents = append(e.incidents, old)
	return old
}
