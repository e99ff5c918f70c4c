package systemdreceiver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/boot"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/job"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/unit"
)

var epoch = time.Date(2026, 11, 23, 22, 0, 0, 0, time.UTC)

// one returns the only record, and its unit.
func one(t *testing.T, logs plog.Logs) (plog.LogRecord, string) {
	t.Helper()
	require.Equal(t, 1, logs.LogRecordCount())
	rl := logs.ResourceLogs().At(0)
	host, _ := rl.Resource().Attributes().Get("host.name")
	assert.Equal(t, "node-7", host.Str())
	name, _ := rl.Resource().Attributes().AsRaw()["systemd.unit.name"].(string)
	return rl.ScopeLogs().At(0).LogRecords().At(0), name
}

func failing() unit.Unit {
	u := *unit.New("kubelet.service")
	u.ActiveState, u.SubState, u.Result, u.InvocationID = "failed", "failed", "oom-kill", "ab01"
	u.ExecMainPID, u.ExecMainStart, u.ExecMainExit = 42, epoch.Add(-time.Minute), epoch
	u.ExecMainCode, u.ExecMainStatus = unit.CodeDumped, 9
	u.NRestarts, u.MemoryMax, u.MemoryPeak, u.TasksMax, u.ControlGroup = 3, 1<<20, 1<<19, 7, "/system.slice/kubelet.service"
	return u
}

func TestFailureTellsWhatExplainsIt(t *testing.T) {
	t.Parallel()
	e := newTestUnits(t, nil, nil).encoder
	seen := epoch.Add(time.Second)
	record, name := one(t, e.units([]unit.Event{{Kind: unit.OOMKilled, At: epoch, Unit: failing(), Snapshot: true}}, seen))
	assert.Equal(t, "kubelet.service", name)
	assert.Equal(t, "tapio.systemd.unit.oom_killed", record.EventName())
	assert.Equal(t, plog.SeverityNumberFatal, record.SeverityNumber(), "it is critical")
	assert.Equal(t, epoch, record.Timestamp().AsTime())
	assert.Equal(t, seen, record.ObservedTimestamp().AsTime())
	assert.Equal(t, map[string]any{
		"systemd.unit.active_state": "failed", "systemd.unit.state": "failed", "error.type": "oom-kill", "tapio.systemd.unit.result": "oom-kill",
		"tapio.systemd.invocation_id": "ab01", "process.pid": int64(42), "process.creation.time": "2026-11-23T21:59:00Z",
		"tapio.process.exit.signal": int64(9), "tapio.process.exit.signal_name": "SIGKILL", "tapio.process.exit.core_dumped": true,
		"process.linux.cgroup": "/system.slice/kubelet.service", "tapio.systemd.unit.should_run": true,
		"tapio.systemd.unit.restarts": int64(3),
		"tapio.memory.peak":           int64(1 << 19), "tapio.memory.limit": int64(1 << 20), "tapio.systemd.tasks.max": int64(7),
		"tapio.systemd.snapshot": true,
	}, record.Attributes().AsRaw())
}

// Only what is wrong with a critical unit is told louder.
func TestCriticalUnitThatIsWell(t *testing.T) {
	t.Parallel()
	e := newTestUnits(t, nil, nil).encoder
	u := *unit.New("kubelet.service")
	u.ActiveState, u.SubState = "active", "running"
	record, _ := one(t, e.units([]unit.Event{{Kind: unit.Activated, At: epoch, Unit: u}}, epoch))
	assert.Equal(t, plog.SeverityNumberInfo, record.SeverityNumber())
}

func TestEveryKindHasItsEvent(t *testing.T) {
	t.Parallel()
	e := newTestUnits(t, nil, nil).encoder
	u := failing()
	u.Name, u.ReloadResult = "app.service", "exit-code"
	for _, tt := range []struct {
		event    unit.Event
		name     string
		severity plog.SeverityNumber
		body     string
	}{
		{unit.Event{Kind: unit.Failed}, "unit.failed", plog.SeverityNumberError, "app.service failed: result oom-kill, its main process was ended by SIGKILL"},
		{unit.Event{Kind: unit.Watchdog}, "unit.watchdog", plog.SeverityNumberError, "app.service was ended because it did not report within WatchdogSec"},
		{unit.Event{Kind: unit.StartLimitHit}, "unit.start_limit_hit", plog.SeverityNumberError, "app.service was started too often and is not started again: result oom-kill, its main process was ended by SIGKILL"},
		{unit.Event{Kind: unit.Restarting, Count: 4, Since: epoch}, "unit.restarting", plog.SeverityNumberWarn, "app.service is restarted by systemd, 4 times since 2026-11-23 22:00:00 UTC: result oom-kill, its main process was ended by SIGKILL"},
		{unit.Event{Kind: unit.Activated}, "unit.activated", plog.SeverityNumberInfo, "app.service is active"},
		{unit.Event{Kind: unit.Deactivated}, "unit.deactivated", plog.SeverityNumberInfo, "app.service is inactive"},
		{unit.Event{Kind: unit.Reloaded}, "unit.reloaded", plog.SeverityNumberInfo, "app.service has read its configuration again"},
		{unit.Event{Kind: unit.ReloadFailed}, "unit.reload_failed", plog.SeverityNumberError, "app.service could not read its configuration again: result exit-code"},
		{unit.Event{Kind: unit.Skipped}, "unit.skipped", plog.SeverityNumberInfo, "app.service was not started: a condition is not met"},
		{unit.Event{Kind: unit.Skipped, IsExec: true, Unmet: unit.Condition{Type: "ExecCondition", Parameter: "/bin/false"}}, "unit.skipped", plog.SeverityNumberInfo, "app.service was not started: condition ExecCondition=/bin/false is not met"},
		{unit.Event{Kind: unit.Skipped, IsAssert: true, Unmet: unit.Condition{Type: "AssertPathExists", Parameter: "/x"}}, "unit.skipped", plog.SeverityNumberError, "app.service was not started: assertion AssertPathExists=/x is not met"},
	} {
		tt.event.Unit, tt.event.At = u, epoch
		record, _ := one(t, e.units([]unit.Event{tt.event}, epoch))
		assert.Equal(t, "tapio.systemd."+tt.name, record.EventName())
		assert.Equal(t, tt.severity, record.SeverityNumber(), tt.name)
		assert.Equal(t, tt.body, record.Body().Str())
	}
	for _, tt := range []struct {
		logs plog.Logs
		name string
	}{
		{e.started("252", 3, []string{"x"}, epoch), "started"},
		{e.busLost("absent", epoch), "bus.lost"},
		{e.busRecovered(epoch, epoch.Add(time.Second)), "bus.recovered"},
		{e.reloaded(epoch), "manager.reloaded"},
		{e.reexecuted(epoch), "manager.reexecuted"},
		{e.job(&job.Job{Result: "timeout", Ended: epoch}, nil), "job.timed_out"},
		{e.job(&job.Job{Result: "dependency", Ended: epoch}, []string{"b.service"}), "unit.dependency_failed"},
	} {
		record, _ := one(t, tt.logs)
		assert.Equal(t, "tapio.systemd."+tt.name, record.EventName())
	}
	assert.Zero(t, e.job(&job.Job{Result: "done"}, nil).LogRecordCount())
	e.builder = metadata.NewLogsBuilder(metadata.LogsBuilderConfig{}, newTestUnits(t, nil, nil).r.set)
	assert.Zero(t, e.units([]unit.Event{{Kind: unit.Failed, Unit: u}}, epoch).LogRecordCount(), "disabled")
}

func TestReason(t *testing.T) {
	t.Parallel()
	for want, u := range map[string]unit.Unit{
		"its main process exited with code 3":                    {Result: "exit-code", ExecMainExit: epoch, ExecMainCode: unit.CodeExited, ExecMainStatus: 3},
		"result protocol, its main process exited with code 0":   {Result: "protocol", ExecMainExit: epoch, ExecMainCode: unit.CodeExited},
		"result signal, its main process was ended by SIGSEGV":   {Result: "signal", ExecMainExit: epoch, ExecMainCode: unit.CodeKilled, ExecMainStatus: 11},
		"result signal, its main process was ended by signal 40": {Result: "signal", ExecMainExit: epoch, ExecMainCode: unit.CodeKilled, ExecMainStatus: 40},
		"result resources": {Result: "resources"},
		"result exit-code, the process of its ExecStartPre exited with code 42": {Result: "exit-code", Failed: []unit.Process{{Setting: "ExecStartPre", PID: 7, Exit: epoch, Code: unit.CodeExited, Status: 42}}},
		"result timeout, the process of its ExecMount was ended by SIGTERM":     {Result: "timeout", Failed: []unit.Process{{Setting: "ExecMount", PID: 7, Exit: epoch, Code: unit.CodeKilled, Status: 15}}},
	} {
		assert.Equal(t, want, reason(&u))
	}
	assert.Equal(t, "abc", cut("abc", 3))
	assert.Equal(t, "ab", cut("abü", 3))
}

// A job that failed says why, as far as that is known of its unit.
func TestReasonOfAJob(t *testing.T) {
	t.Parallel()
	ran := &unit.Unit{Result: "exit-code", StateChange: epoch, ExecMainExit: epoch, ExecMainCode: unit.CodeExited, ExecMainStatus: 3}
	before := &unit.Unit{Result: "exit-code", ExecMainExit: epoch, ExecMainCode: unit.CodeExited, ExecMainStatus: 3}
	for want, c := range map[string]struct {
		job     job.Job
		unit    *unit.Unit
		limited bool
	}{
		"its main process exited with code 3":        {job.Job{Type: "start", Result: "failed"}, ran, false},
		"it was started too often (StartLimitBurst)": {job.Job{Type: "restart", Result: "failed"}, ran, true},
		"systemd refused to start it":                {job.Job{Type: "start", Result: "failed"}, before, false},
		"job result failed":                          {job.Job{Type: "start", Result: "failed"}, nil, false},
		"job result invalid":                         {job.Job{Type: "start", Result: "invalid"}, ran, true},
		"the job did not end within JobTimeoutSec":   {job.Job{Type: "start", Result: "timeout"}, nil, false},
		"a unit that it requires failed":             {job.Job{Type: "start", Result: "dependency"}, before, false},
		"result signal, its main process was ended by SIGKILL": {
			job.Job{Type: "stop", Result: "failed"}, &unit.Unit{Result: "signal", ExecMainExit: epoch, ExecMainCode: unit.CodeKilled, ExecMainStatus: 9}, true,
		},
	} {
		assert.Equal(t, want, failureText(&c.job, c.unit, c.limited))
	}
}

func TestSpansOfJobs(t *testing.T) {
	t.Parallel()
	s := &spanEncoder{host: &hostInfo{name: "node-7"}, seed: "one"}
	at := func(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }
	all := ptrace.NewTraces()
	s.job(all, &job.Job{
		ID: 1, Anchor: 1, Unit: "a.service", Type: "start", Queued: at(0), Ended: at(100), Result: "done", After: []uint32{2},
		Moved: job.Moves{InactiveExit: at(60), ActiveEnter: at(99)},
	})
	s.job(all, &job.Job{
		ID: 2, Anchor: 1, Parent: 1, Unit: "b.service", Type: "stop", Queued: at(5), Ended: at(50), Result: "failed", Reason: "why",
		Moved: job.Moves{ActiveExit: at(1)},
	})
	s.job(all, &job.Job{
		ID: 3, Anchor: 3, Unit: "c.service", Queued: at(0), Ended: at(90), InBoot: true, Snapshot: true,
		Moved: job.Moves{InactiveExit: at(10), ActiveEnter: at(20)},
	})
	span := func(i int) ptrace.Span { return all.ResourceSpans().At(i).ScopeSpans().At(0).Spans().At(0) }
	a, b, c := span(0), span(1), span(2)

	assert.Equal(t, map[string]any{
		"service.name": "a.service", "service.namespace": "systemd", "systemd.unit.name": "a.service", "host.name": "node-7",
	}, all.ResourceSpans().At(0).Resource().Attributes().AsRaw())
	assert.Equal(t, "start a.service", a.Name())
	assert.Equal(t, a.TraceID(), b.TraceID())
	assert.Equal(t, a.SpanID(), b.ParentSpanID())
	assert.Equal(t, b.SpanID(), a.Links().At(0).SpanID())
	assert.Equal(t, map[string]any{
		"tapio.systemd.job.id": int64(1), "tapio.systemd.job.type": "start", "tapio.systemd.job.result": "done", "tapio.systemd.job.queued_duration": 0.06,
	}, a.Attributes().AsRaw())
	assert.Equal(t, at(60), a.Events().At(0).Timestamp().AsTime(), "systemd's own time")
	assert.Equal(t, ptrace.StatusCodeUnset, a.Status().Code())
	assert.Equal(t, ptrace.StatusCodeError, b.Status().Code())
	assert.Equal(t, "why", b.Status().Message())
	assert.Equal(t, at(5), b.Events().At(0).Timestamp().AsTime(), "not before it was queued")
	assert.Equal(t, "job c.service", c.Name())
	assert.Equal(t, s.phaseID(boot.Userspace), c.ParentSpanID())
	assert.Equal(t, at(20), c.EndTimestamp().AsTime(), "it ended unseen; its unit says when")
	assert.Zero(t, c.Events().Len())

	again := ptrace.NewTraces()
	s.job(again, &job.Job{ID: 1, Anchor: 1, Unit: "a.service"})
	same := again.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
	assert.Equal(t, a.SpanID(), same.SpanID(), "one job, one id")
	s.seed = "another boot"
	s.job(again, &job.Job{ID: 1, Anchor: 1, Unit: "a.service"})
	assert.NotEqual(t, a.TraceID(), again.ResourceSpans().At(1).ScopeSpans().At(0).Spans().At(0).TraceID())
}

func TestTraceOfTheBoot(t *testing.T) {
	t.Parallel()
	s := &spanEncoder{host: &hostInfo{name: "node-7"}, seed: "one"}
	b, ok := boot.Read(map[string]any{
		"UserspaceTimestampMonotonic": uint64(1_000_000), "FinishTimestamp": uint64(epoch.UnixMicro()), "FinishTimestampMonotonic": uint64(9_000_000),
	})
	require.True(t, ok)
	traces := s.boot(&b, []boot.Activation{
		{Unit: "a.service", Start: epoch.Add(-2 * time.Second), End: epoch.Add(-time.Second), Failed: true},
		{Unit: "b.service", Start: epoch, End: epoch, WaitedFor: "a.service"},
		{Unit: "told.service", Start: epoch, End: epoch},
		{Unit: "c.service", Start: epoch, End: epoch, WaitedFor: "told.service"},
	}, map[string]uint32{"told.service": 9})
	spans := map[string]ptrace.Span{}
	for _, rs := range traces.ResourceSpans().All() {
		for _, span := range rs.ScopeSpans().At(0).Spans().All() {
			spans[span.Name()] = span
			assert.Equal(t, s.traceID(idBoot, 0), span.TraceID())
		}
	}
	require.Len(t, spans, 5)
	assert.True(t, spans["boot"].ParentSpanID().IsEmpty())
	assert.Equal(t, spans["boot"].SpanID(), spans["userspace"].ParentSpanID())
	assert.Equal(t, spans["userspace"].SpanID(), spans["start a.service"].ParentSpanID())
	assert.Equal(t, ptrace.StatusCodeError, spans["start a.service"].Status().Code())
	assert.Equal(t, spans["start a.service"].SpanID(), spans["start b.service"].Links().At(0).SpanID())
	assert.Equal(t, s.spanID(idJob, 9), spans["start c.service"].Links().At(0).SpanID())
}
