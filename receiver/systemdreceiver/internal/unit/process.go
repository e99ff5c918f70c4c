package unit

import (
	"slices"
	"strings"
	"time"
)

// Process is a process of a unit beside its main one: of ExecStartPre, ExecReload,
// ExecStopPost, a mount, ...
type Process struct {
	// Setting is the one that names its command, such as ExecStartPre.
	Setting string
	PID     int64
	Exit    time.Time
	// Code and Status say how it ended, as ExecMainCode and ExecMainStatus do.
	Code, Status int64
}

// commands are the settings of all types of units that name commands.
var commands = []string{
	"ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPre", "ExecStopPost",
	"ExecMount", "ExecUnmount", "ExecRemount", "ExecActivate", "ExecDeactivate",
}

// commandRun is what systemd says of a command of a setting: of its last process, if any.
type commandRun struct {
	path    string
	ignored bool // its failure does not matter
	Process
}

// commandRuns reads an array of (path, arguments, ignored, started, monotonic, ended,
// monotonic, pid, code, status).
func commandRuns(setting string, v any) []commandRun {
	rows, _ := v.([][]any)
	var out []commandRun
	for _, row := range rows {
		if len(row) != 10 {
			continue
		}
		r := commandRun{Process: Process{Setting: setting}}
		r.path, _ = row[0].(string)
		r.ignored, _ = row[2].(bool)
		ended, _ := number(row[5])
		pid, _ := number(row[7])
		code, _ := number(row[8])
		status, _ := number(row[9])
		r.PID, r.Exit, r.Code, r.Status = int64(pid), Time(ended), int64(code), int64(status)
		out = append(out, r)
	}
	return out
}

// hasFailed tells whether a process has ended badly.
func (p *Process) hasFailed() bool {
	return !p.Exit.IsZero() && (p.Code != CodeExited || p.Status != 0)
}

// failed takes the processes of a setting that have ended and failed.
func (u *Unit) failed(setting string, v any) {
	if _, ok := v.([][]any); !ok {
		return
	}
	var others []Process // a copy: units that were copied share the slice
	for _, p := range u.Failed {
		if p.Setting != setting {
			others = append(others, p)
		}
	}
	u.Failed = others
	for _, r := range commandRuns(setting, v) {
		if !r.ignored && r.hasFailed() {
			u.Failed = append(u.Failed, r.Process)
		}
	}
}

// AddProcesses takes over from now, what systemd says of the same unit later, which
// processes failed beside the main one, which ends of that are good, and what kind of unit it
// is. The signals leave all that out.
func (u *Unit) AddProcesses(now *Unit) {
	u.Type, u.SuccessCodes, u.SuccessSignals = now.Type, now.SuccessCodes, now.SuccessSignals
	u.RemainAfterExit, u.TriggeredBy = now.RemainAfterExit, now.TriggeredBy
	if u.InvocationID == now.InvocationID {
		u.Failed = now.Failed
	}
}

// FailedProcess is the first process of this run that failed, when that is not the main
// one, else false. A reload that failed ends no run.
func (u *Unit) FailedProcess() (Process, bool) {
	var first Process
	for _, p := range u.Failed {
		if p.Setting == "ExecReload" || p.Exit.Before(u.InactiveExit) || p.PID == u.ExecMainPID {
			continue
		}
		if first.Setting == "" || p.Exit.Before(first.Exit) {
			first = p
		}
	}
	if first.Setting == "" || u.mainFailed() && !u.ExecMainExit.Before(u.InactiveExit) && !u.ExecMainExit.After(first.Exit) {
		return Process{}, false
	}
	return first, true
}

// Signals by which a service ends well that is no oneshot, as it does when it is stopped.
const (
	sigHUP  = 1
	sigINT  = 2
	sigPIPE = 13
	sigTERM = 15
)

// mainFailed tells whether the main process has ended badly (is_clean_exit in systemd's
// source; systemd.service(5), SuccessExitStatus).
func (u *Unit) mainFailed() bool {
	if u.ExecMainExit.IsZero() {
		return false
	}
	status := int32(u.ExecMainStatus)
	switch u.ExecMainCode {
	case CodeExited:
		return status != 0 && !slices.Contains(u.SuccessCodes, status)
	case CodeKilled:
		isStop := status == sigHUP || status == sigINT || status == sigPIPE || status == sigTERM
		return (u.Type == "oneshot" || !isStop) && !slices.Contains(u.SuccessSignals, status)
	}
	return true
}

// FailedAt is when the run failed: when the process ended that failed, if that is known,
// else the main one, if the run ended with it, else when systemd noticed.
func (u *Unit) FailedAt() time.Time {
	if p, ok := u.FailedProcess(); ok && !p.Exit.After(u.StateChange) {
		return p.Exit
	}
	if !u.ExecMainExit.IsZero() && !u.ExecMainExit.Before(u.ExecMainStart) && !u.ExecMainExit.After(u.StateChange) && !u.outlived() {
		return u.ExecMainExit
	}
	return u.StateChange
}

// outlived tells whether the unit was active after its main process had ended
// (RemainAfterExit). Of others systemd notices the end at once.
func (u *Unit) outlived() bool {
	return u.ActiveEnter.After(u.ExecMainExit) || u.ActiveExit.Sub(u.ExecMainExit) > settle
}

// IsMissed tells whether a unit that is failed should be active: nobody asked it to end, and it
// is critical or no task, which ends by itself. Of a service whose type is not known it is false.
func (u *Unit) IsMissed(critical bool) bool {
	return u.ActiveState == "failed" && !u.wasStopped() && (critical || !u.isTask())
}

// wasStopped tells whether the main process ended after systemd had begun to end the run, as it
// does when somebody stops the unit, or its time is up (RuntimeMaxSec).
func (u *Unit) wasStopped() bool {
	return !u.ExecMainStart.IsZero() && u.ActiveExit.After(u.ExecMainStart) && u.ExecMainExit.After(u.ActiveExit) && u.Result != "watchdog"
}

// isTask tells whether a unit is there to be done with: a service of Type=oneshot that does not
// remain active, or one that a timer starts.
func (u *Unit) isTask() bool {
	if !strings.HasSuffix(u.Name, ".service") {
		return false
	}
	return u.Type == "" || u.Type == "oneshot" && !u.RemainAfterExit ||
		slices.ContainsFunc(u.TriggeredBy, func(name string) bool { return strings.HasSuffix(name, ".timer") })
}
