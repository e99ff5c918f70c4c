package systemdreceiver

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/boot"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/job"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/unit"
)

const (
	// managerService is the service of the boot and its phases.
	managerService = "systemd"
	// serviceNamespace keeps units apart from what applications call themselves.
	serviceNamespace = "systemd"
)

// spanEncoder makes spans of jobs and of the boot. All ids follow from seed and
// the number of the job, so that a job has one span id however often it is
// told, and a collector that was restarted goes on with the same trace.
type spanEncoder struct {
	host    *hostInfo
	version string
	// seed identifies one run of systemd: host and start of userspace.
	seed string
}

func (s *spanEncoder) hash(kind string, n uint32) [sha256.Size]byte {
	var number [4]byte
	binary.BigEndian.PutUint32(number[:], n)
	return sha256.Sum256(append([]byte(s.seed+"\x00"+kind+"\x00"), number[:]...))
}

func (s *spanEncoder) traceID(kind string, n uint32) (id pcommon.TraceID) {
	h := s.hash(kind, n)
	copy(id[:], h[:16])
	return id
}

func (s *spanEncoder) spanID(kind string, n uint32) (id pcommon.SpanID) {
	h := s.hash(kind, n)
	copy(id[:], h[16:24])
	return id
}

// Kinds of what has an id.
const (
	idJob   = "job"
	idBoot  = "boot"
	idPhase = "phase"
	idUnit  = "unit" // followed by its name
)

// trace starts the resource of a service, to append spans to.
func (s *spanEncoder) trace(all ptrace.Traces, service string) ptrace.SpanSlice {
	rs := all.ResourceSpans().AppendEmpty()
	attrs := rs.Resource().Attributes()
	attrs.PutStr(event.KeyServiceName, service)
	attrs.PutStr(event.KeyServiceNamespace, serviceNamespace)
	s.host.describe(attrs)
	if service != managerService {
		attrs.PutStr(event.KeySystemdUnit, service)
	}
	scope := rs.ScopeSpans().AppendEmpty()
	scope.Scope().SetName(metadata.ScopeName)
	scope.Scope().SetVersion(s.version)
	return scope.Spans()
}

// job makes the span of a job that has ended.
func (s *spanEncoder) job(all ptrace.Traces, j *job.Job) {
	span := s.trace(all, j.Unit).AppendEmpty()
	span.SetName(spanName(j.Type, j.Unit))
	span.SetKind(ptrace.SpanKindInternal)
	span.SetTraceID(s.traceID(idJob, j.Anchor))
	span.SetSpanID(s.spanID(idJob, j.ID))
	switch {
	case j.Parent != 0:
		span.SetParentSpanID(s.spanID(idJob, j.Parent))
	case j.InBoot:
		span.SetParentSpanID(s.phaseID(boot.Userspace))
	}
	if j.InBoot {
		span.SetTraceID(s.traceID(idBoot, 0))
	}
	start, running, end := times(j)
	span.SetStartTimestamp(pcommon.NewTimestampFromTime(start))
	span.SetEndTimestamp(pcommon.NewTimestampFromTime(end))
	for _, id := range j.After {
		link := span.Links().AppendEmpty()
		link.SetTraceID(span.TraceID())
		link.SetSpanID(s.spanID(idJob, id))
		link.Attributes().PutStr(keyRelation, "after")
	}
	attrs := span.Attributes()
	attrs.PutInt(keyJobID, int64(j.ID))
	putText(attrs, keyJobType, j.Type)
	putText(attrs, keyJobResult, j.Result)
	if j.Snapshot {
		attrs.PutBool(keySnapshot, true)
	}
	if !running.IsZero() {
		attrs.PutDouble(keyJobQueued, running.Sub(start).Seconds())
		began := span.Events().AppendEmpty()
		began.SetName("running")
		began.SetTimestamp(pcommon.NewTimestampFromTime(running))
	}
	if j.IsFailed() {
		attrs.PutStr(event.KeyErrorType, j.Result)
		span.Status().SetCode(ptrace.StatusCodeError)
		span.Status().SetMessage(j.Reason)
	}
}

// Keys of spans; those that events have too are declared in metadata.yaml.
const (
	keyJobID     = "tapio.systemd.job.id"
	keyJobType   = "tapio.systemd.job.type"
	keyJobResult = "tapio.systemd.job.result"
	keyJobQueued = "tapio.systemd.job.queued_duration"
	keyRelation  = "tapio.systemd.relation"
	keySnapshot  = "tapio.systemd.snapshot"
)

// slack is by how much a job can seem to have been queued before its unit moved:
// the signal of the job comes a little after its begin.
const slack = time.Second

// times are when a job was queued, when it began to run (zero when it never
// did), and when it ended. The unit's own timestamps are exact; those of the
// job are when its signals came.
func times(j *job.Job) (queued, running, ended time.Time) {
	queued, running, ended = j.Queued, j.Running, j.Ended
	begin, end := j.Moved.InactiveExit, j.Moved.ActiveEnter
	if j.Type == "stop" {
		begin, end = j.Moved.ActiveExit, j.Moved.InactiveEnter
	}
	if (j.Type == "start" || j.Type == "stop") && within(begin, queued.Add(-slack), ended) {
		running = begin
	}
	if j.Result == "" && within(end, queued, ended) {
		ended = end
	}
	if running.Before(queued) && !running.IsZero() {
		running = queued // it was queued before, and the signal came late
	}
	return queued, running, ended
}

func within(t, from, to time.Time) bool { return !t.IsZero() && !t.Before(from) && !t.After(to) }

// failureText says in words why a job failed; limited is that its unit was not let run.
func failureText(j *job.Job, u *unit.Unit, limited bool) string {
	switch j.Result {
	case "timeout":
		return "the job did not end within JobTimeoutSec"
	case "dependency":
		return "a unit that it requires failed"
	case "assert":
		return "an assertion is not met"
	case "failed":
		switch {
		case limited && (j.Type == "start" || j.Type == "restart"):
			return "it was started too often (StartLimitBurst)"
		case j.Type == "start" && u != nil && j.IsStill(u.StateChange):
			return "systemd refused to start it"
		}
		if u != nil && u.Result != "" && u.Result != "success" {
			return reason(u)
		}
	}
	return "job result " + j.Result
}

func spanName(kind, of string) string {
	if kind == "" {
		kind = "job"
	}
	return kind + " " + of
}

// boot makes the trace of a boot: the boot, its phases, and under userspace the
// start of each unit.
// Units in jobs, by the number of their job, were told while they were started.
func (s *spanEncoder) boot(b *boot.Boot, units []boot.Activation, jobs map[string]uint32) ptrace.Traces {
	all := ptrace.NewTraces()
	trace := s.traceID(idBoot, 0)
	spans := s.trace(all, managerService)
	add := func(spans ptrace.SpanSlice, name string, id, parent pcommon.SpanID, start, end time.Time) ptrace.Span {
		span := spans.AppendEmpty()
		span.SetName(name)
		span.SetKind(ptrace.SpanKindInternal)
		span.SetTraceID(trace)
		span.SetSpanID(id)
		span.SetParentSpanID(parent)
		span.SetStartTimestamp(pcommon.NewTimestampFromTime(start))
		span.SetEndTimestamp(pcommon.NewTimestampFromTime(end))
		return span
	}
	root := s.spanID(idBoot, 0)
	add(spans, "boot", root, pcommon.SpanID{}, b.Start(), b.End())
	for _, p := range b.Phases {
		add(spans, p.Name, s.phaseID(p.Name), root, p.Start, p.End)
	}
	spanOf := func(name string) pcommon.SpanID {
		if id, ok := jobs[name]; ok {
			return s.spanID(idJob, id)
		}
		return s.spanID(idUnit+name, 0)
	}
	for _, a := range units {
		if _, told := jobs[a.Unit]; told {
			continue
		}
		span := add(s.trace(all, a.Unit), spanName("start", a.Unit), spanOf(a.Unit), s.phaseID(boot.Userspace), a.Start, a.End)
		if a.WaitedFor != "" {
			link := span.Links().AppendEmpty()
			link.SetTraceID(trace)
			link.SetSpanID(spanOf(a.WaitedFor))
			link.Attributes().PutStr(keyRelation, "after")
		}
		if a.Failed {
			span.Status().SetCode(ptrace.StatusCodeError)
			span.Status().SetMessage(fmt.Sprintf("%s failed", a.Unit))
		}
	}
	return all
}

func (s *spanEncoder) phaseID(name string) pcommon.SpanID { return s.spanID(idPhase+name, 0) }

func putText(attrs pcommon.Map, key, value string) {
	if value != "" {
		attrs.PutStr(key, value)
	}
}
