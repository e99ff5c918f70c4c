package systemdreceiver

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/exitstatus"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/job"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/unit"
)

// maxStatusText bounds what a service says of itself.
const maxStatusText = 256

// encoder makes log records of events. It is not safe for concurrent use.
type encoder struct {
	builder *metadata.LogsBuilder
	host    *hostInfo
	cfg     *UnitsConfig
}

func newEncoder(cfg *Config, set receiver.Settings, host *hostInfo) *encoder {
	return &encoder{builder: metadata.NewLogsBuilder(cfg.LogsBuilderConfig, set), host: host, cfg: &cfg.Units}
}

// note is what is the same for all records: to which unit it belongs, "" for
// systemd itself, how bad it is, and a sentence for people.
type note struct {
	unit     string
	severity plog.SeverityNumber
	body     string
	at, seen time.Time
}

// units makes one record of each event that is enabled, in their order.
func (e *encoder) units(events []unit.Event, seen time.Time) plog.Logs {
	all := plog.NewLogs()
	for i := range events {
		n := e.record(&events[i])
		n.seen = seen
		e.finish(n).ResourceLogs().MoveAndAppendTo(all.ResourceLogs())
	}
	return all
}

// finish takes the one record that was recorded in the builder, with what the
// builder does not set. It is empty when the event is disabled.
func (e *encoder) finish(n note) plog.Logs {
	res := pcommon.NewResource()
	e.host.describe(res.Attributes())
	if n.unit != "" {
		res.Attributes().PutStr(event.KeySystemdUnit, n.unit)
	}
	logs := e.builder.Emit(metadata.WithLogsResource(res))
	for _, rl := range logs.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, record := range sl.LogRecords().All() {
				severity := e.severity(n.unit, n.severity)
				record.SetObservedTimestamp(pcommon.NewTimestampFromTime(n.seen))
				record.SetSeverityNumber(severity)
				record.SetSeverityText(severity.String())
				record.Body().SetStr(n.body)
			}
		}
	}
	return logs
}

// severity raises an error of a critical unit.
func (e *encoder) severity(of string, s plog.SeverityNumber) plog.SeverityNumber {
	if s == plog.SeverityNumberError && matches(e.cfg.Critical, of) {
		return severities[e.cfg.CriticalSeverity]
	}
	return s
}

// matches tells whether one of the globs matches; Validate has checked them.
func matches(globs []string, name string) bool {
	for _, glob := range globs {
		if ok, err := match(glob, name); ok && err == nil {
			return true
		}
	}
	return false
}

// match is path.Match in which a backslash is a plain character, as it is in the names of
// units and in systemd's own patterns.
func match(glob, name string) (bool, error) {
	return path.Match(strings.ReplaceAll(glob, `\`, `\\`), name)
}

// record records an event in the builder.
func (e *encoder) record(ev *unit.Event) note {
	u := &ev.Unit
	ctx, at := context.Background(), pcommon.NewTimestampFromTime(ev.At)
	n := note{unit: u.Name, severity: plog.SeverityNumberError, at: ev.At}
	var options []metadata.EventAttributeOption
	if ev.Snapshot {
		options = append(options, metadata.WithTapioSystemdSnapshotEventAttribute(true))
	}
	if ev.SampleAge > 0 {
		options = append(options, metadata.WithTapioSystemdSampleAgeEventAttribute(ev.SampleAge.Seconds()))
	}
	switch ev.Kind {
	case unit.Failed:
		e.builder.RecordTapioSystemdUnitFailedEvent(ctx, at, u.ActiveState, u.SubState, append(options, e.failureOptions(u)...)...)
		n.body = fmt.Sprintf("%s failed: %s", u.Name, reason(u))
	case unit.OOMKilled:
		e.builder.RecordTapioSystemdUnitOomKilledEvent(ctx, at, u.ActiveState, u.SubState, append(options, e.failureOptions(u)...)...)
		n.body = fmt.Sprintf("%s was ended because one of its processes was killed for want of memory", u.Name)
	case unit.Watchdog:
		e.builder.RecordTapioSystemdUnitWatchdogEvent(ctx, at, u.ActiveState, u.SubState, append(options, e.failureOptions(u)...)...)
		n.body = fmt.Sprintf("%s was ended because it did not report within WatchdogSec", u.Name)
	case unit.StartLimitHit:
		options = append(options, metadata.WithErrorTypeEventAttribute("start-limit-hit"),
			metadata.WithTapioSystemdUnitRestartsEventAttribute(int64(u.NRestarts)))
		if u.StartLimitBurst > 0 {
			options = append(options, metadata.WithTapioSystemdStartLimitBurstEventAttribute(int64(u.StartLimitBurst)),
				metadata.WithTapioSystemdStartLimitIntervalEventAttribute(u.StartLimitInterval.Seconds()))
		}
		e.builder.RecordTapioSystemdUnitStartLimitHitEvent(ctx, at, u.ActiveState, u.SubState, append(options, runOptions(u)...)...)
		n.body = fmt.Sprintf("%s was started too often and is not started again: %s", u.Name, reason(u))
	case unit.Restarting:
		options = append(options, metadata.WithTapioSystemdUnitRestartsEventAttribute(int64(u.NRestarts)))
		e.builder.RecordTapioSystemdUnitRestartingEvent(ctx, at, u.ActiveState, u.SubState, int64(ev.Count), clockText(ev.Since),
			append(options, append(errorOptions(u), runOptions(u)...)...)...)
		n.severity = plog.SeverityNumberWarn
		n.body = fmt.Sprintf("%s is restarted by systemd: %s", u.Name, reason(u))
		if ev.Count > 1 {
			n.body = fmt.Sprintf("%s is restarted by systemd, %d times since %s: %s", u.Name, ev.Count, ev.Since.UTC().Format("2006-01-02 15:04:05 UTC"), reason(u))
		}
	case unit.Activated:
		if u.NRestarts > 0 {
			options = append(options, metadata.WithTapioSystemdUnitRestartsEventAttribute(int64(u.NRestarts)))
		}
		e.builder.RecordTapioSystemdUnitActivatedEvent(ctx, at, u.ActiveState, u.SubState,
			append(options, append(identityOptions(u), cgroupOptions(u)...)...)...)
		n.severity, n.body = plog.SeverityNumberInfo, u.Name+" is active"
	case unit.Deactivated:
		n.severity, n.body = plog.SeverityNumberInfo, u.Name+" is inactive"
		if len(ev.Dependencies) > 0 {
			options = append(options, metadata.WithTapioSystemdDependenciesEventAttribute(anySlice(ev.Dependencies)))
			n.body += " because it requires " + strings.Join(ev.Dependencies, ", ")
		}
		e.builder.RecordTapioSystemdUnitDeactivatedEvent(ctx, at, u.ActiveState, u.SubState, append(options, append(identityOptions(u), exitOptions(u)...)...)...)
	case unit.Reloaded:
		e.builder.RecordTapioSystemdUnitReloadedEvent(ctx, at, u.ActiveState, u.SubState, identityOptions(u)...)
		n.severity, n.body = plog.SeverityNumberInfo, u.Name+" has read its configuration again"
	case unit.ReloadFailed:
		options = append(identityOptions(u), metadata.WithErrorTypeEventAttribute(u.ReloadResult))
		e.builder.RecordTapioSystemdUnitReloadFailedEvent(ctx, at, u.ActiveState, u.SubState, options...)
		n.body = fmt.Sprintf("%s could not read its configuration again: result %s", u.Name, u.ReloadResult)
	case unit.Skipped:
		return e.skipped(ev, n)
	default: // the tracker makes no other
		panic(fmt.Sprintf("event of unknown kind %d", ev.Kind))
	}
	return n
}

// running makes one record of each service that runs already.
func (e *encoder) running(services []*unit.Unit, at time.Time) plog.Logs {
	all := plog.NewLogs()
	for _, u := range services {
		e.builder.RecordTapioSystemdUnitRunningEvent(context.Background(), pcommon.NewTimestampFromTime(at), u.ActiveState, u.SubState,
			append(identityOptions(u), cgroupOptions(u)...)...)
		n := note{unit: u.Name, severity: plog.SeverityNumberInfo, body: u.Name + " is running", seen: at}
		e.finish(n).ResourceLogs().MoveAndAppendTo(all.ResourceLogs())
	}
	return all
}

func (e *encoder) skipped(ev *unit.Event, n note) note {
	what, unmet := "condition", "a condition"
	if ev.IsAssert {
		what = "assertion"
		unmet = "an assertion"
	} else {
		n.severity = plog.SeverityNumberInfo
	}
	if ev.IsExec {
		unmet = "an ExecCondition"
	}
	var options []metadata.EventAttributeOption
	if ev.Unmet.Type != "" {
		options = append(options, metadata.WithTapioSystemdConditionEventAttribute(ev.Unmet.String()))
		unmet = what + " " + ev.Unmet.String()
	}
	e.builder.RecordTapioSystemdUnitSkippedEvent(context.Background(), pcommon.NewTimestampFromTime(ev.At), options...)
	n.body = fmt.Sprintf("%s was not started: %s is not met", n.unit, unmet)
	return n
}

// reason says in words why a run ended.
func reason(u *unit.Unit) string {
	if p, ok := otherProcess(u); ok {
		if p.Code == unit.CodeExited {
			return fmt.Sprintf("result %s, the process of its %s exited with code %s", u.Result, p.Setting, exitstatus.Words(p.Status))
		}
		return fmt.Sprintf("result %s, the process of its %s was ended by %s", u.Result, p.Setting, signalName(p.Status))
	}
	switch {
	case u.ExecMainExit.IsZero():
		return "result " + u.Result
	case u.ExecMainCode == unit.CodeExited && u.Result == "exit-code":
		return "its main process exited with code " + exitstatus.Words(u.ExecMainStatus)
	case u.ExecMainCode == unit.CodeExited:
		return fmt.Sprintf("result %s, its main process exited with code %s", u.Result, exitstatus.Words(u.ExecMainStatus))
	case u.ExecMainCode == unit.CodeKilled || u.ExecMainCode == unit.CodeDumped:
		return fmt.Sprintf("result %s, its main process was ended by %s", u.Result, signalName(u.ExecMainStatus))
	}
	return "result " + u.Result
}

// otherProcess is the process that made the run fail, when it was not the main one.
func otherProcess(u *unit.Unit) (unit.Process, bool) {
	if u.Result == "" || u.Result == "success" {
		return unit.Process{}, false
	}
	return u.FailedProcess()
}

// failureOptions are all facts that can explain a failure.
func (e *encoder) failureOptions(u *unit.Unit) []metadata.EventAttributeOption {
	options := append(errorOptions(u), runOptions(u)...)
	options = append(options, cgroupOptions(u)...)
	options = append(options, metadata.WithTapioSystemdUnitRestartsEventAttribute(int64(u.NRestarts)))
	for _, o := range []struct {
		value uint64
		with  func(int64) metadata.EventAttributeOption
	}{
		{u.MemoryCurrent, metadata.WithTapioMemoryUsageEventAttribute},
		{u.MemoryPeak, metadata.WithTapioMemoryPeakEventAttribute},
		{u.MemoryMax, metadata.WithTapioMemoryLimitEventAttribute},
		{u.TasksCurrent, metadata.WithTapioSystemdTasksCurrentEventAttribute},
		{u.TasksMax, metadata.WithTapioSystemdTasksMaxEventAttribute},
	} {
		if o.value != unit.None {
			options = append(options, o.with(int64(o.value)))
		}
	}
	if u.IsMissed(matches(e.cfg.Critical, u.Name)) {
		options = append(options, metadata.WithTapioSystemdUnitShouldRunEventAttribute(true))
	}
	if u.StatusText != "" {
		options = append(options, metadata.WithTapioSystemdUnitStatusTextEventAttribute(cut(u.StatusText, maxStatusText)))
	}
	return options
}

func errorOptions(u *unit.Unit) []metadata.EventAttributeOption {
	if u.Result == "" || u.Result == "success" {
		return nil
	}
	return []metadata.EventAttributeOption{metadata.WithErrorTypeEventAttribute(u.Result)}
}

// runOptions say which run it was and how it ended.
func runOptions(u *unit.Unit) []metadata.EventAttributeOption {
	options := append(identityOptions(u), exitOptions(u)...)
	if u.Result != "" {
		options = append(options, metadata.WithTapioSystemdUnitResultEventAttribute(u.Result))
	}
	if u.ExecMainCode == unit.CodeDumped {
		options = append(options, metadata.WithTapioProcessExitCoreDumpedEventAttribute(true))
	}
	return options
}

// identityOptions say which run it was, and which process.
func identityOptions(u *unit.Unit) []metadata.EventAttributeOption {
	var options []metadata.EventAttributeOption
	if u.InvocationID != "" {
		options = append(options, metadata.WithTapioSystemdInvocationIDEventAttribute(u.InvocationID))
	}
	pid := u.MainPID
	if pid == 0 {
		pid = u.ExecMainPID
	}
	if pid != 0 && pid == u.ExecMainPID && !u.ExecMainStart.IsZero() {
		options = append(options, metadata.WithProcessPidEventAttribute(pid),
			metadata.WithProcessCreationTimeEventAttribute(clockText(u.ExecMainStart)))
	}
	return options
}

func exitOptions(u *unit.Unit) []metadata.EventAttributeOption {
	if p, ok := otherProcess(u); ok {
		return append(statusOptions(p.Code, p.Status), metadata.WithTapioSystemdUnitCommandEventAttribute(p.Setting))
	}
	if u.ExecMainExit.IsZero() {
		return nil
	}
	return statusOptions(u.ExecMainCode, u.ExecMainStatus)
}

func statusOptions(code, status int64) []metadata.EventAttributeOption {
	switch code {
	case unit.CodeExited:
		return []metadata.EventAttributeOption{metadata.WithProcessExitCodeEventAttribute(status)}
	case unit.CodeKilled, unit.CodeDumped:
		return []metadata.EventAttributeOption{
			metadata.WithTapioProcessExitSignalEventAttribute(status),
			metadata.WithTapioProcessExitSignalNameEventAttribute(signalName(status)),
		}
	}
	return nil
}

func cgroupOptions(u *unit.Unit) []metadata.EventAttributeOption {
	if u.ControlGroup == "" {
		return nil
	}
	return []metadata.EventAttributeOption{metadata.WithProcessLinuxCgroupEventAttribute(u.ControlGroup)}
}

// started makes the record that says what is watched.
func (e *encoder) started(version string, count int, unseen []string, at time.Time) plog.Logs {
	e.builder.RecordTapioSystemdStartedEvent(context.Background(), pcommon.NewTimestampFromTime(at), e.cfg.BusAddress, version, int64(count), anySlice(unseen))
	body := fmt.Sprintf("systemd %s of %s: %d units are watched", version, e.host.name, count)
	if len(unseen) > 0 {
		body += "; not seen: " + strings.Join(unseen, "; ")
	}
	return e.finish(note{severity: plog.SeverityNumberInfo, body: body, seen: at})
}

// busLost makes the record that nothing is seen any more.
func (e *encoder) busLost(kind string, at time.Time) plog.Logs {
	e.builder.RecordTapioSystemdBusLostEvent(context.Background(), pcommon.NewTimestampFromTime(at), e.cfg.BusAddress,
		metadata.WithErrorTypeEventAttribute(kind))
	return e.finish(note{severity: plog.SeverityNumberWarn, body: "systemd of " + e.host.name + " cannot be seen any more: " + kind, seen: at})
}

// busRecovered makes the record that systemd is seen again.
func (e *encoder) busRecovered(lost, at time.Time) plog.Logs {
	seconds := at.Sub(lost).Seconds()
	e.builder.RecordTapioSystemdBusRecoveredEvent(context.Background(), pcommon.NewTimestampFromTime(at), e.cfg.BusAddress, seconds)
	return e.finish(note{
		severity: plog.SeverityNumberInfo, seen: at,
		body: fmt.Sprintf("systemd of %s is seen again after %.1f s", e.host.name, seconds),
	})
}

// reloaded makes the record that systemd read all unit files again.
func (e *encoder) reloaded(at time.Time) plog.Logs {
	e.builder.RecordTapioSystemdManagerReloadedEvent(context.Background(), pcommon.NewTimestampFromTime(at))
	return e.finish(note{severity: plog.SeverityNumberInfo, body: "systemd of " + e.host.name + " has read all unit files again", seen: at})
}

// reexecuted makes the record that systemd executed itself again.
func (e *encoder) reexecuted(at time.Time) plog.Logs {
	e.builder.RecordTapioSystemdManagerReexecutedEvent(context.Background(), pcommon.NewTimestampFromTime(at))
	return e.finish(note{severity: plog.SeverityNumberInfo, body: "systemd of " + e.host.name + " has executed itself again", seen: at})
}

// shutdown makes the record that the machine goes down.
func (e *encoder) shutdown(kind string, at time.Time) plog.Logs {
	e.builder.RecordTapioSystemShutdownEvent(context.Background(), pcommon.NewTimestampFromTime(at),
		metadata.WithTapioSystemShutdownKindEventAttribute(kind))
	return e.finish(note{severity: plog.SeverityNumberWarn, body: e.host.name + " goes down: " + kind, seen: at})
}

// job makes the record of a job that timed out or whose dependency failed. It
// is empty for any other.
func (e *encoder) job(j *job.Job, dependencies []string) plog.Logs {
	ctx, at := context.Background(), pcommon.NewTimestampFromTime(j.Ended)
	options := []metadata.EventAttributeOption{metadata.WithErrorTypeEventAttribute(j.Result)}
	if j.Type != "" {
		options = append(options, metadata.WithTapioSystemdJobTypeEventAttribute(j.Type))
	}
	n := note{unit: j.Unit, severity: plog.SeverityNumberError, at: j.Ended, seen: j.Ended}
	switch j.Result {
	case "timeout":
		e.builder.RecordTapioSystemdJobTimedOutEvent(ctx, at, int64(j.ID), options...)
		n.body = fmt.Sprintf("the job to %s %s did not end within its JobTimeoutSec", verb(j.Type), j.Unit)
	case "dependency":
		n.body = j.Unit + " was not started because a unit that it requires failed"
		if len(dependencies) > 0 {
			list := make([]any, len(dependencies))
			for i, d := range dependencies {
				list[i] = d
			}
			options = append(options, metadata.WithTapioSystemdDependenciesEventAttribute(list))
			n.body += ": " + strings.Join(dependencies, ", ")
		}
		e.builder.RecordTapioSystemdUnitDependencyFailedEvent(ctx, at, int64(j.ID), options...)
	default:
		return plog.NewLogs()
	}
	return e.finish(n)
}

// verb is the type of a job in a sentence.
func verb(kind string) string {
	if kind == "" {
		return "change"
	}
	return kind
}

// anySlice is a list as the builder wants it.
func anySlice(texts []string) []any {
	list := make([]any, len(texts))
	for i, s := range texts {
		list[i] = s
	}
	return list
}

func clockText(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// cut shortens a text to n bytes without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
