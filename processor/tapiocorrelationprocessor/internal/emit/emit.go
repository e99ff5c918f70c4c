// Package emit writes findings as OTLP: a log record for every revision, a trace
// of its own that draws the chain, and in some of the traces that were hurt a
// span that names the cause.
package emit

import (
	"crypto/sha256"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// Names of the spans of a finding's trace and of the span in hurt traces.
const (
	// SpanIncident is the root span: from the cause to its detection.
	SpanIncident = "tapio.incident"
	// SpanResolved closes the trace.
	SpanResolved = "tapio.incident.resolved"
	// SpanCause is the span in a hurt trace.
	SpanCause = "tapio.cause"
)

// fallbackService is the service.name of spans of entities without a service.
const fallbackService = "tapio"

// Log writes one revision as a log record.
func Log(f *finding.Finding, observed time.Time) (plog.Logs, error) {
	ld := plog.NewLogs()
	err := f.ToLog(ld.ResourceLogs().AppendEmpty(), observed)
	return ld, err
}

// Emitted remembers what of a finding's trace has left: backends do not replace
// spans, so each leaves once.
type Emitted struct {
	opened, resolved bool
	links            map[string]bool
	traces           int
}

// Already returns what has left of a finding that another engine wrote, up to maxHurt
// spans in hurt traces.
func Already(f *finding.Finding, maxHurt int) Emitted {
	e := Emitted{opened: true, links: map[string]bool{}, traces: min(len(f.HurtTraces), maxHurt)}
	for i := range f.Chain {
		e.links[f.Chain[i].Key] = true
	}
	return e
}

// Traces writes the spans that are new with this revision: the root span with
// the first, a span for each new link, a span in each further hurt trace up to
// maxHurt, and a closing span with the last. It returns empty Traces when there
// is nothing new.
func (e *Emitted) Traces(f *finding.Finding, maxHurt int) ptrace.Traces {
	td := ptrace.NewTraces()
	if !e.opened {
		e.opened = true
		rootSpan(td, f)
	}
	if e.links == nil {
		e.links = map[string]bool{}
	}
	for i := range f.Chain {
		if l := &f.Chain[i]; !e.links[l.Key] {
			e.links[l.Key] = true
			linkSpan(td, f, l)
		}
	}
	for ; e.traces < min(len(f.HurtTraces), maxHurt); e.traces++ {
		causeSpan(td, f, f.HurtTraces[e.traces])
	}
	if f.ResolvedAt != nil && !e.resolved {
		e.resolved = true
		closingSpan(td, f)
	}
	return td
}

// SpanID derives the id of a link's span, so that every revision and every
// gateway gives it the same one. The root span has the key "".
func SpanID(id finding.ID, key string) pcommon.SpanID {
	h := sha256.New()
	h.Write(id[:])
	h.Write([]byte(key))
	var s pcommon.SpanID
	copy(s[:], h.Sum(nil))
	if s.IsEmpty() {
		s[0] = 1
	}
	return s
}

// add appends a span under the service.name of an entity.
func add(td ptrace.Traces, e finding.Entity, name string, trace pcommon.TraceID, id pcommon.SpanID, start, end time.Time) ptrace.Span {
	rs := td.ResourceSpans().AppendEmpty()
	_ = rs.Resource().Attributes().FromRaw(e.Attributes) // scalars only: cannot fail
	if _, ok := rs.Resource().Attributes().Get(event.KeyServiceName); !ok {
		service := fallbackService
		if e.Kind == "address" || e.Kind == "host" {
			service = e.Name
		}
		rs.Resource().Attributes().PutStr(event.KeyServiceName, service)
	}
	ss := rs.ScopeSpans().AppendEmpty()
	ss.Scope().SetName(event.FindingScope)
	s := ss.Spans().AppendEmpty()
	s.SetName(name)
	s.SetKind(ptrace.SpanKindInternal)
	s.SetTraceID(trace)
	s.SetSpanID(id)
	if end.Before(start) {
		end = start
	}
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(start))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(end))
	return s
}

// describe puts on a span what every span of a finding carries.
func describe(s ptrace.Span, f *finding.Finding) {
	a := s.Attributes()
	a.PutStr(finding.KeyID, f.ID.String())
	a.PutStr(finding.KeyPattern, f.Pattern)
	a.PutStr(finding.KeyTitle, f.Title)
	a.PutDouble(finding.KeyConfidence, f.Confidence.Score)
	a.PutStr(finding.KeyCauseEvent, f.RootCause.Event)
	a.PutStr(finding.KeyCauseSentence, f.RootCause.Description)
}

func rootSpan(td ptrace.Traces, f *finding.Finding) {
	s := add(td, f.RootCause.Entity, SpanIncident, pcommon.TraceID(f.ID), SpanID(f.ID, ""), f.StartedAt, f.DetectedAt)
	describe(s, f)
	s.Attributes().PutStr(finding.KeyState, string(f.State))
	s.Status().SetCode(ptrace.StatusCodeError)
	s.Status().SetMessage(f.Title)
	linkToTraces(s, f)
}

// maxSpanLinks bounds the span links of the root, impact and closing spans.
const maxSpanLinks = 20

func linkToTraces(s ptrace.Span, f *finding.Finding) {
	for _, t := range f.HurtTraces[:min(len(f.HurtTraces), maxSpanLinks)] {
		trace, span, ok := ids(t)
		if !ok {
			continue
		}
		l := s.Links().AppendEmpty()
		l.SetTraceID(trace)
		l.SetSpanID(span)
	}
}

func linkSpan(td ptrace.Traces, f *finding.Finding, l *finding.Link) {
	s := add(td, l.Entity, l.Title, pcommon.TraceID(f.ID), SpanID(f.ID, l.Key), l.Time, l.Last)
	s.SetParentSpanID(SpanID(f.ID, l.Parent)) // the cause's parent is "", the root span
	a := s.Attributes()
	a.PutStr(finding.KeyID, f.ID.String())
	a.PutStr("tapio.link.layer", string(l.Layer))
	a.PutStr("tapio.link.event", l.Event)
	a.PutStr("tapio.link.detail", l.Detail)
	a.PutInt("tapio.link.count", l.Count)
	a.PutStr("tapio.link.linked_by", string(l.LinkedBy))
	a.PutStr("tapio.link.linked_on", l.LinkedOn)
	if l.Parent == "" {
		s.Status().SetCode(ptrace.StatusCodeError)
		s.Status().SetMessage(f.Title)
	}
	if l.Layer == finding.LayerBusiness {
		// The root span leaves with the cause, often before a request is known to be
		// hurt: this is the first span that can name them.
		linkToTraces(s, f)
	}
}

func closingSpan(td ptrace.Traces, f *finding.Finding) {
	s := add(td, f.RootCause.Entity, SpanResolved, pcommon.TraceID(f.ID), SpanID(f.ID, SpanResolved), f.UpdatedAt, *f.ResolvedAt)
	s.SetParentSpanID(SpanID(f.ID, ""))
	describe(s, f)
	a := s.Attributes()
	a.PutStr(finding.KeyState, string(f.State))
	a.PutInt(finding.KeyFailedRequests, f.Impact.FailedRequests)
	a.PutInt(finding.KeySlowRequests, f.Impact.SlowRequests)
	linkToTraces(s, f)
}

// causeSpan says in a hurt trace, below the span that failed first, why.
func causeSpan(td ptrace.Traces, f *finding.Finding, t finding.HurtTrace) {
	trace, failed, ok := ids(t)
	if !ok {
		return
	}
	s := add(td, f.RootCause.Entity, SpanCause+": "+f.Title, trace, SpanID(f.ID, t.TraceID), f.StartedAt, f.DetectedAt)
	s.SetParentSpanID(failed)
	describe(s, f)
	s.Status().SetCode(ptrace.StatusCodeError)
	s.Status().SetMessage(f.RootCause.Description)
	l := s.Links().AppendEmpty()
	l.SetTraceID(pcommon.TraceID(f.ID))
	l.SetSpanID(SpanID(f.ID, ""))
}

// ids reads the ids of a hurt trace; both are hexadecimal and of full length.
func ids(t finding.HurtTrace) (trace pcommon.TraceID, span pcommon.SpanID, ok bool) {
	if unhex(trace[:], t.TraceID) && unhex(span[:], t.SpanID) {
		return trace, span, true
	}
	return trace, span, false
}
