package engine

import (
	"fmt"
	"strings"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// wellSeconds is in how many seconds a call must have succeeded, at least, to show that
// something listens again.
const wellSeconds = 5

// wellAgain looks whether calls of the addresses at which nothing listened succeed again:
// all of them, since the last that failed, and for long enough.
func (e *Engine) wellAgain(o *open) {
	h := o.Hypothesis
	if h.Cause.Occurrence != nil || h.Cause.Event != pattern.CallRefused || o.Resolved() {
		return
	}
	before := h.OverSince()
	if before == 0 || h.LastCall() > before {
		h.WellAgain(e.wellSince(h))
	}
	if h.OverSince() != before {
		o.Dirty = true
	}
}

// wellSince returns since when all calls succeed again, 0 where that is not shown.
func (e *Engine) wellSince(h *explain.Hypothesis) (since int64) {
	for _, address := range h.CalledInVain() {
		first, last, n := e.answered.Since(e.witness(address), h.LastCall())
		if n < wellSeconds || last-first < h.Proof() {
			return 0
		}
		since = max(since, first)
	}
	return since
}

// witness is whose answers say that something listens at an address: its own or, where
// calls that succeed name another one, as SDKs do that know then which was dialled, those of
// who answers there.
func (e *Engine) witness(address record.EntityID) record.EntityID {
	if e.answered.Any(address) {
		return address
	}
	return e.graph.Owner(address, e.latest())
}

// whyOver says in a sentence why a cause is over.
func (e *Engine) whyOver(h *explain.Hypothesis) string {
	if by := h.EndedBy(); by != "" {
		return by + " says that it is over."
	}
	var where []string
	for _, address := range h.CalledInVain() {
		_, _, n := e.answered.Since(e.witness(address), h.OverSince()-1)
		where = append(where, fmt.Sprintf("%s (in %d seconds since)", explain.Words(e.graph, address), n))
	}
	return fmt.Sprintf("Calls succeed again since %s, and none was refused: %s.", pattern.Clock(h.OverSince()), strings.Join(where, ", "))
}
