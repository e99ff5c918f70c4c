package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

// changed notes what was done, before the cause, to the one to whom that happened.
func (h *Hypothesis) changed(o *detect.Occurrence) {
	for i := range h.Pattern.Changes {
		c := &h.Pattern.Changes[i]
		if o.Name != c.Event || o.Time > h.Cause.Time || o.Time < h.Cause.Time-int64(c.Within) || !pattern.Holds(c.Where, o.Detail) {
			continue
		}
		if _, _, ok := h.relate(c.Relation, o); ok {
			h.changes[i] = max(h.changes[i], o.Time)
		}
	}
}

// doneBefore says what was done before the cause, oldest first: a sentence, "" for nothing.
func (h *Hypothesis) doneBefore(v *pattern.Values) string {
	indices := make([]int, 0, len(h.changes))
	for i := range h.changes {
		indices = append(indices, i)
	}
	slices.SortFunc(indices, func(a, b int) int { return cmp.Or(cmp.Compare(h.changes[a], h.changes[b]), cmp.Compare(a, b)) })
	texts := make([]string, len(indices))
	for n, i := range indices {
		texts[n] = h.Pattern.Changes[i].TextFor(v) + " " + ago(h.Cause.Time-h.changes[i])
	}
	if len(texts) == 0 {
		return ""
	}
	return "Before that: " + strings.Join(texts, ", ") + "."
}

// ago writes a time before the cause for people.
func ago(ns int64) string {
	d := time.Duration(ns)
	if d >= time.Minute {
		return d.Round(time.Second).String() + " earlier"
	}
	return fmt.Sprintf("%.3g s earlier", d.Seconds())
}
