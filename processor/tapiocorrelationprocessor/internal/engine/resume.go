package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/emit"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/gauge"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/incident"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Resume goes on with the findings that this processor had left open when the collector
// stopped, and ends those that cannot be followed any more. From then on every revision
// carries what the next start needs. It needs Run, returns when it is done or ctx is,
// and is to be called once, before the first data.
func (e *Engine) Resume(ctx context.Context, processor string, left []*finding.Finding) (resumed, ended int) {
	e.onRun(ctx, func() { resumed, ended = e.goOn(processor, left) })
	return resumed, ended
}

func (e *Engine) goOn(processor string, left []*finding.Finding) (resumed, ended int) {
	e.processor = processor
	for _, f := range left {
		if incident.Whose(f) != processor {
			continue
		}
		why := e.resume(f)
		if why == "" {
			resumed++
			continue
		}
		ended++
		e.abandon(f, why)
	}
	return resumed, ended
}

// resume goes on with a finding; it says in a sentence why it cannot.
func (e *Engine) resume(f *finding.Finding) (whyNot string) {
	now := e.now()
	if away := time.Duration(now - f.UpdatedAt.UnixNano()); away > e.options.Retention {
		return fmt.Sprintf("The collector stopped while it was open, and started again %s after its last evidence, later than the retention of %s: whether it went on is not known.",
			away.Round(time.Second), e.options.Retention)
	}
	if len(e.incidents) >= e.options.MaxIncidents {
		return "The collector stopped while it was open, and follows fewer incidents now (limits::incidents)."
	}
	n := slices.IndexFunc(e.options.Patterns, func(p *pattern.Pattern) bool { return p.ID == f.Pattern })
	if n < 0 {
		return "The collector stopped while it was open, and does not know its pattern any more."
	}
	i, err := incident.Resume(e.graph, e.options.Patterns[n], f, e.incidentOptions(), now)
	if err != nil {
		return fmt.Sprintf("The collector stopped while it was open, and cannot follow it any more: %v.", err)
	}
	o := &open{Incident: i, emitted: emit.Already(f, e.options.MaxCauseSpans), revised: now, said: i.Hypothesis.LastEffect, since: now}
	o.told = o.gist(e.options.Weights)
	e.incidents = append(e.incidents, o)
	if ending := i.Hypothesis.Ending(); ending != nil {
		e.occurrences.Add(ending, e.uses.until(ending), e.under(ending)...) // or the cause would be there still
	}
	if c := i.Hypothesis.Cause.Occurrence; c != nil {
		e.occurrences.Add(c, e.uses.until(c), e.under(c)...) // delivered again, it is no other event
		if c.Name == event.MemoryGrowth && i.Predicted() {
			e.grows = append(e.grows, grown{o, now + growthWindow(c)})
		}
	}
	return ""
}

// abandon ends a finding that is not followed any more.
func (e *Engine) abandon(f *finding.Finding, why string) {
	last := *f
	last.Revision++
	last.Ending, last.Resume, last.State = why, "", finding.StateResolved
	at := f.UpdatedAt
	if f.State == finding.StatePredicted {
		last.State, at = finding.StateWithdrawn, record.UTC(e.now())
	}
	last.ResolvedAt = &at
	emitted := emit.Already(f, e.options.MaxCauseSpans)
	e.send(&last, &emitted)
}

// forgotten takes back a warning of a metric that was not repeated after a restart: the
// past of the metric begins anew, so that it takes a while to see a trend again.
func (e *Engine) forgotten(o *open, now int64) {
	since := o.Hypothesis.Resumed()
	if since == 0 || now-since <= int64(e.options.Retention) || o.Hypothesis.Cause.Event != event.MetricLimitPredicted {
		return
	}
	for _, known := range e.predicted {
		if known == o {
			return
		}
	}
	o.Withdraw(now, fmt.Sprintf("It was not predicted again in the %s since the collector started again.", e.options.Retention))
}

// confirmForgotten confirms warnings of the time before a restart when the kernel kills
// for want of memory.
func (e *Engine) confirmForgotten(kill *detect.Occurrence) {
	for _, o := range e.incidents {
		c := o.Hypothesis.Cause.Occurrence
		if !o.Predicted() || o.Hypothesis.Resumed() == 0 || c == nil || c.Name != event.MetricLimitPredicted {
			continue
		}
		class, _ := c.Detail.Attr(event.KeyMetricClass).(string)
		if _, same := e.graph.Concerns(kill.Subject, c.Subject); same && (class == gauge.ClassMemory.String() || class == gauge.ClassHeap.String()) {
			o.Confirm(kill.Time)
		}
	}
}

// whyQuiet says why an incident is over of which nothing more is seen.
func (e *Engine) whyQuiet(o *open) string {
	h := o.Hypothesis
	after := time.Duration(e.quiet(o))
	switch since := h.Resumed(); {
	case since > 0 && h.LastEffect <= since && h.Cause.Certainty > 0:
		return fmt.Sprintf("Nothing more of it was seen in the %s since the collector started again at %s, which forgot what is normal there: whether it is over is not known.", after, pattern.Clock(since))
	case since > 0 && h.LastEffect <= since:
		return fmt.Sprintf("Nothing of it was seen in the %s since the collector started again at %s; it may have ended while the collector was down.", after, pattern.Clock(since))
	case e.hasRecovered(o):
		return fmt.Sprintf("Visits to %s have been as before for %s.", e.graph.ServiceName(h.Cause.Entity), after)
	}
	return fmt.Sprintf("No further effect was seen for %s.", after)
}
