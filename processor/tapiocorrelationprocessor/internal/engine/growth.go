package engine

import (
	"slices"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// growthEnds is how many of its own windows a process must not have grown in, for a
// warning of it to be taken back: the kernel's receiver tells growth once in a window.
const growthEnds = 2.5

// grown is a warning that the growth of a process opened.
type grown struct {
	*open
	until int64 // when it is taken back, unless the process is seen to grow again
}

// growthWindow is how long after a process was seen to grow its warning is taken back,
// in ns.
func growthWindow(o *detect.Occurrence) int64 {
	window, _ := o.Detail.Attr(event.KeyInterval).(float64)
	return int64(growthEnds * window * float64(time.Second))
}

// growing makes a warning of an incident that a process's growth opened or goes on
// with: it has not reached its limit yet.
func (e *Engine) growing(o *detect.Occurrence) {
	until := o.Time + growthWindow(o)
	for i := range e.grows {
		g := &e.grows[i]
		if _, same := e.graph.Concerns(o.Subject, g.Hypothesis.Cause.Occurrence.Subject); same && g.Predicted() {
			g.until = until
			g.Hypothesis.Cause.Attributes = fullAt(o)
			g.Dirty = true
			return
		}
	}
	for _, i := range e.incidents {
		if i.Hypothesis.Cause.Occurrence == o && !i.Emitted() {
			i.Predict()
			i.Hypothesis.Cause.Attributes = fullAt(o)
			e.grows = append(e.grows, grown{i, until})
		}
	}
}

// fullAt returns what is known of a growth, with the time of day at which the limit is
// reached: how long it takes is true only when it is said.
func fullAt(o *detect.Occurrence) []record.Attr {
	seconds, _ := o.Detail.Attr(event.KeyMemoryTimeToLimit).(float64)
	at := record.UTC(o.Time + int64(seconds*float64(time.Second))).Format("15:04 MST")
	return append(slices.Clone(o.Detail.Attrs), record.Attr{Key: event.KeyMetricLimitAt, Value: at})
}

// reached confirms the warnings of a process that the kernel kills for want of memory.
func (e *Engine) reached(o *detect.Occurrence) {
	e.endGrowth(func(g *grown) bool {
		_, same := e.graph.Concerns(o.Subject, g.Hypothesis.Cause.Occurrence.Subject)
		if same {
			g.Confirm(o.Time)
		}
		return same
	})
}

// withdrawGrowth takes back the warnings of processes that grow no more.
func (e *Engine) withdrawGrowth(now int64) {
	e.endGrowth(func(g *grown) bool {
		if now <= g.until {
			return false
		}
		g.Withdraw(now, "The process has not grown any more.")
		return true
	})
}

// endGrowth forgets the warnings that are over, or have become something else.
func (e *Engine) endGrowth(isOver func(*grown) bool) {
	kept := e.grows[:0]
	for i := range e.grows {
		if g := e.grows[i]; g.Predicted() && !g.Resolved() && !isOver(&g) {
			kept = append(kept, g)
		}
	}
	e.grows = kept
}
