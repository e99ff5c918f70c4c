package operation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/machine"
)

// ServiceName is the service.name of the spans: the container network of a host.
const ServiceName = "cni"

// Encoder makes traces and log records of operations.
type Encoder struct {
	Host machine.Info
	// Scope and Version are the instrumentation scope.
	Scope, Version string
	// Wall turns nanoseconds of CLOCK_BOOTTIME into a time of day.
	Wall func(uint64) time.Time
}

// Traces has one trace for each operation that is over: a span for the operation, below it one
// for each call of the runtime, below these what the plugins called.
func (e *Encoder) Traces(operations []*Operation) ptrace.Traces {
	traces := ptrace.NewTraces()
	over := slices.DeleteFunc(slices.Clone(operations), func(o *Operation) bool { return !o.IsOver() })
	if len(over) == 0 {
		return traces
	}
	rs := traces.ResourceSpans().AppendEmpty()
	put(rs.Resource().Attributes(), event.KeyServiceName, ServiceName)
	e.Host.Describe(rs.Resource().Attributes())
	ss := rs.ScopeSpans().AppendEmpty()
	ss.Scope().SetName(e.Scope)
	ss.Scope().SetVersion(e.Version)
	for _, o := range over {
		e.operation(ss.Spans(), o)
	}
	return traces
}

func (e *Encoder) operation(spans ptrace.SpanSlice, o *Operation) {
	r := o.Request()
	s := spans.AppendEmpty()
	trace := e.traceID(o)
	root := spanID(trace, "operation", ID{})
	s.SetTraceID(trace)
	s.SetSpanID(root)
	s.SetName("cni " + r.Command)
	s.SetKind(ptrace.SpanKindInternal)
	e.times(s, o.Start(), o.End())
	putRequest(s.Attributes(), r)
	putPod(s.Attributes(), r)
	put(s.Attributes(), event.KeyCNINetwork, o.Network())
	if failed := o.Failed(); failed != nil {
		putFailure(s, failed.Origin())
		put(s.Attributes(), event.KeyCNIPlugin, failed.Origin().Plugin)
	} else if c := o.Running(); c != nil {
		putUnfinished(s, o)
		put(s.Attributes(), event.KeyCNIPlugin, c.Plugin)
	}
	for _, c := range o.Calls {
		e.call(spans, o, c, trace, root)
	}
}

func (e *Encoder) call(spans ptrace.SpanSlice, o *Operation, c *Call, trace pcommon.TraceID, parent pcommon.SpanID) {
	s := spans.AppendEmpty()
	s.SetTraceID(trace)
	id := spanID(trace, "call", c.ID)
	s.SetSpanID(id)
	s.SetParentSpanID(parent)
	s.SetName(c.Plugin + " " + c.Command)
	s.SetKind(ptrace.SpanKindInternal)
	end := c.End
	if end == 0 {
		end = max(o.End(), c.Start)
	}
	e.times(s, c.Start, end)
	attrs := s.Attributes()
	putRequest(attrs, c.Request)
	putPod(attrs, c.Request)
	put(attrs, event.KeyCNINetwork, c.Network)
	put(attrs, event.KeyCNIPlugin, c.Plugin)
	put(attrs, event.KeyProcessExecutablePath, c.Path)
	putPID(attrs, event.KeyProcessPID, c.PID)
	putPID(attrs, event.KeyProcessParentPID, c.Parent)
	if code, ok := c.ExitCode(); ok {
		attrs.PutInt(event.KeyProcessExitCode, int64(code))
	}
	switch {
	case c.HasFailed():
		putFailure(s, c)
	case c.End == 0:
		putUnfinished(s, o)
	}
	for _, child := range c.Children {
		e.call(spans, o, child, trace, id)
	}
}

// putFailure says on a span why it failed.
func putFailure(s ptrace.Span, c *Call) {
	s.Status().SetCode(ptrace.StatusCodeError)
	s.Status().SetMessage(c.Reason())
	putError(s.Attributes(), c)
}

// putUnfinished says on a span that its end is not known. Only what was waited for
// has failed.
func putUnfinished(s ptrace.Span, o *Operation) {
	s.Attributes().PutStr(event.KeyErrorType, event.ErrorNotFinished)
	if o.IsStuck {
		s.Status().SetCode(ptrace.StatusCodeError)
		s.Status().SetMessage(notFinished(o))
	}
}

// notFinished is for people, what is wrong with an operation that is stuck.
func notFinished(o *Operation) string {
	return fmt.Sprintf("no end of it was seen within %s", o.Duration().Round(time.Second))
}

func putError(attrs pcommon.Map, c *Call) {
	attrs.PutStr(event.KeyErrorType, c.ErrorType())
	if s := c.Signal(); s != 0 {
		attrs.PutInt(event.KeyExitSignal, int64(s))
	}
	if !c.HasFailure {
		return
	}
	if c.Failure.Code != 0 { // no code of the specification: not said, or cut off
		attrs.PutInt(event.KeyCNIErrorCode, int64(min(c.Failure.Code, 1<<62)))
	}
	put(attrs, event.KeyCNIErrorMessage, c.Failure.Message)
	put(attrs, event.KeyCNIErrorDetails, c.Failure.Details)
}

func putRequest(attrs pcommon.Map, r Request) {
	put(attrs, event.KeyCNICommand, r.Command)
	put(attrs, event.KeyCNINetns, r.Netns)
	put(attrs, event.KeyInterfaceName, r.Interface)
	if r.InfraContainerID != r.ContainerID {
		put(attrs, event.KeyCNIInfraContainerID, r.InfraContainerID)
	}
}

func putPod(attrs pcommon.Map, r Request) {
	put(attrs, event.KeyContainerID, r.ContainerID)
	put(attrs, event.KeyPodName, r.PodName)
	put(attrs, event.KeyNamespaceName, r.PodNamespace)
	put(attrs, event.KeyPodUID, r.PodUID)
}

// Failures has a log record for each operation that failed, at its end, and for each
// that is found to be stuck, under the resource of its pod.
func (e *Encoder) Failures(operations []*Operation, seen time.Time) plog.Logs {
	logs := plog.NewLogs()
	for _, o := range operations {
		switch failed := o.Failed(); {
		case !o.IsOver():
			e.stuck(e.record(logs, o, event.CNIOperation, seen), o)
		case failed != nil:
			e.failure(e.record(logs, o, event.CNIOperation, seen), o, failed.Origin())
		}
	}
	return logs
}

// Recoveries has a log record for each operation that was told to be stuck and
// succeeded after all.
func (e *Encoder) Recoveries(operations []*Operation, seen time.Time) plog.Logs {
	logs := plog.NewLogs()
	for _, o := range operations {
		if !o.IsStuck || !o.IsOver() || o.Outcome() != "ok" {
			continue
		}
		record := e.record(logs, o, event.CNIRecovered, seen)
		setSeverity(record, plog.SeverityNumberInfo)
		record.SetSpanID(spanID(e.traceID(o), "operation", ID{}))
		record.Attributes().PutStr(event.KeyCNIRecovered, event.CNIOperation)
		record.Body().SetStr(fmt.Sprintf("Over: %s succeeded after %s", subject(o), o.Duration().Round(time.Second)))
	}
	return logs
}

// record begins a log record about an operation.
func (e *Encoder) record(logs plog.Logs, o *Operation, name string, seen time.Time) plog.LogRecord {
	r := o.Request()
	rl := logs.ResourceLogs().AppendEmpty()
	e.Host.Describe(rl.Resource().Attributes())
	putPod(rl.Resource().Attributes(), r)
	sl := rl.ScopeLogs().AppendEmpty()
	sl.Scope().SetName(e.Scope)
	sl.Scope().SetVersion(e.Version)
	record := sl.LogRecords().AppendEmpty()
	record.SetEventName(name)
	record.SetTimestamp(pcommon.NewTimestampFromTime(e.Wall(o.End())))
	record.SetObservedTimestamp(pcommon.NewTimestampFromTime(seen))
	record.SetTraceID(e.traceID(o))
	attrs := record.Attributes()
	put(attrs, event.KeyCNINetns, r.Netns)
	put(attrs, event.KeyInterfaceName, r.Interface)
	put(attrs, event.KeyCNINetwork, o.Network())
	return record
}

func (e *Encoder) stuck(record plog.LogRecord, o *Operation) {
	c := o.Running()
	e.putOperation(record, o, c)
	record.Attributes().PutStr(event.KeyErrorType, event.ErrorNotFinished)
	record.Body().SetStr(subject(o) + " does not end: " + c.Plugin + ": " + notFinished(o))
}

func (e *Encoder) failure(record plog.LogRecord, o *Operation, origin *Call) {
	e.putOperation(record, o, origin)
	attrs := record.Attributes()
	if code, ok := origin.ExitCode(); ok {
		attrs.PutInt(event.KeyProcessExitCode, int64(code))
	}
	putError(attrs, origin)
	record.Body().SetStr(subject(o) + " failed: " + origin.Plugin + ": " + origin.Reason())
}

// putOperation says what was asked, and which plugin could not do it.
func (e *Encoder) putOperation(record plog.LogRecord, o *Operation, c *Call) {
	setSeverity(record, Severity(o.Request().Command))
	record.SetSpanID(spanID(record.TraceID(), "call", c.ID))
	attrs := record.Attributes()
	putRequest(attrs, o.Request())
	attrs.PutDouble(event.KeyCNIDuration, o.Duration().Seconds())
	put(attrs, event.KeyCNIPlugin, c.Plugin)
}

func setSeverity(record plog.LogRecord, severity plog.SeverityNumber) {
	record.SetSeverityNumber(severity)
	record.SetSeverityText(severity.String())
}

// Severity of a failed command: DEL, CHECK and GC are tried again. Without ADD no pod
// starts, without STATUS the node takes none, and what is not known may be one of
// these.
func Severity(command string) plog.SeverityNumber {
	switch command {
	case "DEL", "CHECK", "GC":
		return plog.SeverityNumberWarn
	}
	return plog.SeverityNumberError
}

// subject is for people: "Pod shop/payment-0: CNI ADD of eth0 in network cbr0".
func subject(o *Operation) string {
	r := o.Request()
	s := "CNI " + r.Command
	if r.Interface != "" {
		s += " of " + r.Interface
	}
	if n := o.Network(); n != "" {
		s += " in network " + n
	}
	switch {
	case r.PodName != "":
		s = "Pod " + r.PodNamespace + "/" + r.PodName + ": " + s
	case r.ContainerID != "":
		s = "Container " + r.ContainerID + ": " + s
	}
	return s
}

func (e *Encoder) times(s ptrace.Span, start, end uint64) {
	s.SetStartTimestamp(pcommon.NewTimestampFromTime(e.Wall(start)))
	s.SetEndTimestamp(pcommon.NewTimestampFromTime(e.Wall(end)))
}

// traceID is the same for the same operation whenever it is encoded.
func (e *Encoder) traceID(o *Operation) pcommon.TraceID {
	c := o.Calls[0]
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%d\x00%d\x00%d", e.Host.ID, e.Host.Name, c.ID.PID, c.ID.Start, c.Start)
	return pcommon.TraceID(h.Sum(nil)[:16])
}

func spanID(trace pcommon.TraceID, what string, id ID) pcommon.SpanID {
	h := sha256.New()
	h.Write(trace[:])
	h.Write([]byte(what))
	h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, id.PID), id.Start))
	return pcommon.SpanID(h.Sum(nil)[:8])
}

// put leaves out what is not known.
func put(attrs pcommon.Map, key, value string) {
	if value != "" {
		attrs.PutStr(key, value)
	}
}

func putPID(attrs pcommon.Map, key string, pid uint32) {
	if pid != 0 {
		attrs.PutInt(key, int64(pid))
	}
}
