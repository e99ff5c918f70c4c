package unit

import "time"

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
	"ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPre", "ExecStopPost",
	"ExecMount", "ExecUnmount", "ExecRemount", "ExecActivate", "ExecDeactivate",
}

// failed takes the processes of a setting that have ended and failed, of an array of
// (path, arguments, ignored, started, monotonic, ended, monotonic, pid, code, status).
func (u *Unit) failed(setting string, v any) {
	rows, ok := v.([][]any)
	if !ok {
		return
	}
	var others []Process // a copy: units that were copied share the slice
	for _, p := range u.Failed {
		if p.Setting != setting {
			others = append(others, p)
		}
	}
	u.Failed = others
	for _, row := range rows {
		if len(row) != 10 {
			continue
		}
		ignored, _ := row[2].(bool)
		ended, _ := number(row[5])
		pid, _ := number(row[7])
		code, _ := number(row[8])
		status, _ := number(row[9])
		if exit := Time(ended); !ignored && !exit.IsZero() && (code != CodeExited || status != 0) {
			u.Failed = append(u.Failed, Process{Setting: setting, PID: int64(pid), Exit: exit, Code: int64(code), Status: int64(status)})
		}
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
	main := !u.ExecMainExit.IsZero() && (u.ExecMainCode != CodeExited || u.ExecMainStatus != 0)
	if first.Setting == "" || main && !u.ExecMainExit.Before(u.InactiveExit) && !u.ExecMainExit.After(first.Exit) {
		return Process{}, false
	}
	return first, true
}
