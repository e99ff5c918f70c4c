package engine

import (
	"slices"
	"strings"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// unresolved returns a hypothesis that a call failed because its caller could not
// look up the name that it called, nil when no event says so.
func (e *Engine) unresolved(t explain.Target, origin detect.HurtSpan) *explain.Hypothesis {
	for _, p := range e.options.Patterns {
		if p.Cause.Scope != pattern.ScopeName {
			continue
		}
		known := e.occurrences.Named(p.Cause.Event)
		for i := len(known) - 1; i >= 0; i-- {
			if explain.Matches(p, known[i]) && e.asked(p, known[i], t, origin) {
				return e.hypothesis(p, known[i], t.Address)
			}
		}
	}
	return nil
}

// unresolvedIn tells whether an event is why requests wait that failed in the same way.
func (e *Engine) unresolvedIn(p *pattern.Pattern, o *detect.Occurrence, g *group) bool {
	return p.Cause.Scope == pattern.ScopeName && slices.ContainsFunc(g.requests, func(r *detect.Request) bool {
		target, origin := explain.TargetOf(e.graph, r)
		return e.asked(p, o, target, origin)
	})
}

// asked tells whether an event says that the caller of a failed call could not look
// up the name that it called. A call that was refused, broken or answered had got
// an address.
func (e *Engine) asked(p *pattern.Pattern, o *detect.Occurrence, t explain.Target, origin detect.HurtSpan) bool {
	if origin.Kind != record.SpanClient || origin.HTTPStatus != 0 ||
		origin.Failure == record.FailureRefused || origin.Failure == record.FailureBroken {
		return false
	}
	if origin.End < o.Time-int64(p.Cause.Before)-explain.Slack || origin.End > o.Time+int64(p.Cause.Within) {
		return false
	}
	_, isCaller := e.graph.Concerns(o.Subject, origin.Subject)
	return (isCaller || e.ofOneUnit(o.Subject, origin.Subject)) && e.isName(t.Address, o)
}

// ofOneUnit tells whether two entities are parts of one unit of systemd: a process as the
// kernel numbers it, and the same one as it numbers itself in a namespace of its own.
func (e *Engine) ofOneUnit(a, b record.EntityID) bool {
	unit := e.graph.UnitOf(a)
	return unit != 0 && unit == e.graph.UnitOf(b)
}

// isName tells whether an address has the name that an event is about.
func (e *Engine) isName(address record.EntityID, o *detect.Occurrence) bool {
	a, ok := e.graph.Entity(address)
	question, _ := o.Detail.Attr(event.KeyDNSQuestion).(string)
	return ok && sameName(a.Address, question)
}

// sameName tells whether a question is for a name that was called: for that name, or
// for it in a domain that the resolver searches.
func sameName(called, question string) bool {
	called = strings.ToLower(strings.TrimSuffix(called, "."))
	question = strings.ToLower(strings.TrimSuffix(question, "."))
	return called != "" && (question == called || strings.HasPrefix(question, called+"."))
}

// calledInVain tells whether an incident that spans tell of is about calls by the
// name that an event is about.
func (e *Engine) calledInVain(h *explain.Hypothesis, o *detect.Occurrence) bool {
	if h.Cause.Event == pattern.CallRefused || h.Caller() != e.graph.ServiceName(o.Subject) {
		return false
	}
	return slices.ContainsFunc(h.Addresses(), func(a record.EntityID) bool { return e.isName(a, o) })
}
