package systemdreceiver

import (
	"fmt"
	"math/bits"
	"reflect"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/journal"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadata"
)

// Message ids that systemd gives to what it logs, from its sd-messages.h.
const (
	messageUnitFailed      = "d9b373ed55a64feb8242e02dbe79a49c"
	messageUnitStartFailed = "be02cf6855d2428ba40df7e9d022f03d"
	messageUnitRestart     = "5eb03494b6584870a536b337290809b3"
	messageUnitOOM         = "fe6faa94e7774663a0da52717891d8ef"
	messageUnitOomd        = "d989611b15e44c9dbf31e3c81256e4ed"
	messageSpawnFailed     = "641257651c1b4ec9a8624d7a40a9e1e7"
	messageCoredump        = "fc2e22bc6ee647b6b90729ab34a250b1"
	messageTimeChange      = "c7a787079b354eaaa9e77b371893cd27"
	messageStartupFinished = "b07a249cd024414a82dd00cd181378ff"
	// messageContainerStarted is what a systemd in a container, or one of a user, logs
	// in place of messageStartupFinished.
	messageContainerStarted = "eed00a68ffd84e31882105fd973abdd1"
	messageShutdown         = "98268866d1d54a499c4e98921d93bc40"
	messageSleepStart       = "6bbd95ee977941e497c48be27c254128"
	messageSleepStop        = "8811e6df2a8e40f58a94cea26f8ebf14"
	messageJournalDropped   = "a596d6fe7bfa4994828e72309e95d61e"
	messageJournalMissed    = "e9bf28e6e834481bb6f48f548ad13606"
)

// journalEvent is what a known entry is.
type journalEvent struct {
	name     string
	severity plog.SeverityNumber
	// ofUnit says that the bus tells the same fact.
	ofUnit bool
	// attributes adds what belongs to the event; nil for nothing.
	attributes func(e *journal.Entry, to pcommon.Map)
}

// byMessageID returns the event that systemd marked an entry as. Who wrote the
// entry is checked by its caller.
func byMessageID(e *entry) (journalEvent, bool) {
	switch e.messageID {
	case messageUnitFailed:
		return unitFailed(e.Get("UNIT_RESULT"))
	case messageUnitStartFailed:
		return startFailed(e.Get("JOB_RESULT"))
	case messageUnitRestart:
		return restarting(e.Get("N_RESTARTS"))
	case messageSpawnFailed:
		// What could not be executed is told twice: why, and at which step.
		if !strings.Contains(e.message, "Failed at step ") {
			return journalEvent{}, false
		}
	}
	ev, ok := knownMessages[e.messageID]
	return ev, ok
}

// knownMessages are those that are always the same event.
var knownMessages = map[string]journalEvent{
	messageUnitOOM: {
		name: event.SystemdProcessOOMKilled, severity: plog.SeverityNumberError,
		attributes: func(_ *journal.Entry, to pcommon.Map) { to.PutStr(event.KeyErrorType, "oom-kill") },
	},
	messageUnitOomd: {
		name: event.SystemdProcessOOMKilled, severity: plog.SeverityNumberError,
		attributes: func(_ *journal.Entry, to pcommon.Map) { to.PutStr(event.KeyErrorType, "systemd-oomd") },
	},
	messageSpawnFailed: {
		name: event.SystemdExecFailed, severity: plog.SeverityNumberError,
		attributes: func(e *journal.Entry, to pcommon.Map) {
			putValid(to, event.KeyProcessExecutablePath, e.Get("EXECUTABLE"))
			if n, err := strconv.Atoi(e.Get("ERRNO")); err == nil {
				to.PutStr(event.KeyErrorType, errnoName(n))
			}
		},
	},
	messageCoredump: {
		name: event.ProcessCoreDumped, severity: plog.SeverityNumberError,
		attributes: func(e *journal.Entry, to pcommon.Map) {
			putDigits(to, event.KeyProcessPID, e.Get("COREDUMP_PID"))
			putValid(to, event.KeyProcessComm, e.Get("COREDUMP_COMM"))
			putValid(to, event.KeyProcessExecutablePath, e.Get("COREDUMP_EXE"))
			putValid(to, event.KeyProcessCgroup, e.Get("COREDUMP_CGROUP"))
			putDigits(to, event.KeyExitSignal, e.Get("COREDUMP_SIGNAL"))
			putValid(to, event.KeyExitSignalName, e.Get("COREDUMP_SIGNAL_NAME"))
		},
	},
	messageTimeChange: {
		name: event.SystemTimeChanged, severity: plog.SeverityNumberWarn,
		attributes: func(e *journal.Entry, to pcommon.Map) { putDigits(to, keyRealtime, e.Get("REALTIME")) },
	},
	messageStartupFinished:  booted,
	messageContainerStarted: booted,
	messageShutdown:         {name: event.SystemShutdown, severity: plog.SeverityNumberWarn, ofUnit: true},
	messageSleepStart:       {name: event.SystemSuspended, severity: plog.SeverityNumberInfo},
	messageSleepStop:        {name: event.SystemResumed, severity: plog.SeverityNumberInfo},
	messageJournalDropped: {
		name: event.JournalSuppressed, severity: plog.SeverityNumberWarn,
		attributes: func(e *journal.Entry, to pcommon.Map) { putDigits(to, keyMessages, e.Get("N_DROPPED")) },
	},
	messageJournalMissed: {name: event.JournalMissed, severity: plog.SeverityNumberWarn},
}

var booted = journalEvent{
	name: event.SystemBooted, severity: plog.SeverityNumberInfo,
	attributes: func(e *journal.Entry, to pcommon.Map) {
		putSeconds(to, keyBootKernel, e.Get("KERNEL_USEC"))
		putSeconds(to, keyBootInitrd, e.Get("INITRD_USEC"))
		putSeconds(to, keyBootUserspace, e.Get("USERSPACE_USEC"))
	},
}

// unitFailed is the event that the bus would give for the same result.
func unitFailed(result string) (journalEvent, bool) {
	ev := journalEvent{name: event.SystemdUnitFailed, severity: plog.SeverityNumberError, ofUnit: true}
	switch result {
	case "oom-kill":
		ev.name = event.SystemdUnitOOMKilled
	case "start-limit-hit":
		ev.name = event.SystemdUnitStartLimitHit
	case "watchdog":
		ev.name = event.SystemdUnitWatchdog
	}
	ev.attributes = func(e *journal.Entry, to pcommon.Map) {
		putValid(to, event.KeyErrorType, result)
		putValid(to, keyResult, result)
		putValid(to, event.KeySystemdInvocation, e.Get("INVOCATION_ID"))
	}
	return ev, true
}

// startFailed leaves out results for which there is an entry of the unit itself.
func startFailed(result string) (journalEvent, bool) {
	ev := journalEvent{severity: plog.SeverityNumberError, ofUnit: true}
	switch result {
	case "dependency":
		ev.name = event.SystemdUnitDependencyFailed
	case "timeout":
		ev.name = event.SystemdJobTimedOut
	default:
		return journalEvent{}, false
	}
	ev.attributes = func(e *journal.Entry, to pcommon.Map) {
		putValid(to, event.KeyErrorType, result)
		putDigits(to, keyJobID, e.Get("JOB_ID"))
		putValid(to, keyJobType, e.Get("JOB_TYPE"))
	}
	return ev, true
}

// restarting tells a loop at 1, 2, 4, 8, ... restarts, as the units do.
func restarting(count string) (journalEvent, bool) {
	n, err := strconv.ParseUint(count, 10, 32)
	if err != nil || bits.OnesCount64(n) != 1 {
		return journalEvent{}, false
	}
	return journalEvent{
		name: event.SystemdUnitRestarting, severity: plog.SeverityNumberWarn, ofUnit: true,
		attributes: func(e *journal.Entry, to pcommon.Map) {
			to.PutInt(keyRestarts, int64(n))
			putValid(to, event.KeySystemdInvocation, e.Get("INVOCATION_ID"))
		},
	}, true
}

// enabledEvents returns the names of all events that metadata.yaml declares, and
// whether each is enabled. The generated builder has a method for each event,
// which rules that are data cannot call.
func enabledEvents(cfg *metadata.EventsConfig) map[string]bool {
	enabled := map[string]bool{}
	v := reflect.ValueOf(cfg).Elem()
	for i := range v.NumField() {
		if c, ok := v.Field(i).Interface().(metadata.EventConfig); ok {
			enabled[v.Type().Field(i).Tag.Get("mapstructure")] = c.Enabled
		}
	}
	return enabled
}

// putText puts a text that is there.
func putValid(to pcommon.Map, key, value string) {
	if value != "" {
		to.PutStr(key, valid(value))
	}
}

// putDigits puts a number that is one.
func putDigits(to pcommon.Map, key, value string) {
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		to.PutInt(key, n)
	}
}

// putSeconds puts µs as seconds.
func putSeconds(to pcommon.Map, key, micros string) {
	if n, err := strconv.ParseUint(micros, 10, 63); err == nil {
		to.PutDouble(key, float64(n)/1e6)
	}
}

// errnoNames are the errors with which execve(2) and what systemd does before it
// fail, numbered as on all architectures of Linux that run systemd.
var errnoNames = map[int]string{
	1: "EPERM", 2: "ENOENT", 5: "EIO", 7: "E2BIG", 8: "ENOEXEC", 11: "EAGAIN", 12: "ENOMEM", 13: "EACCES", 20: "ENOTDIR",
	21: "EISDIR", 22: "EINVAL", 23: "ENFILE", 24: "EMFILE", 26: "ETXTBSY", 28: "ENOSPC", 30: "EROFS", 40: "ELOOP",
}

// errnoName is the name of an error number where it is known, else its number.
func errnoName(n int) string {
	if name, ok := errnoNames[n]; ok {
		return name
	}
	return fmt.Sprintf("errno_%d", n)
}
