package ebpfreceiver

import (
	"strconv"

	"github.com/yairfalse/tapio/internal/event"
)

// The numbers in this file are those of Linux on amd64 and arm64
// (include/uapi/asm-generic/{signal,errno,errno-base}.h), wherever the code is built.

var signalNames = map[int]string{
	1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS",
	8: "SIGFPE", 9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE",
	14: "SIGALRM", 15: "SIGTERM", 16: "SIGSTKFLT", 17: "SIGCHLD", 18: "SIGCONT", 19: "SIGSTOP",
	20: "SIGTSTP", 21: "SIGTTIN", 22: "SIGTTOU", 23: "SIGURG", 24: "SIGXCPU", 25: "SIGXFSZ",
	26: "SIGVTALRM", 27: "SIGPROF", 28: "SIGWINCH", 29: "SIGIO", 30: "SIGPWR", 31: "SIGSYS",
}

// Real-time signals have the names of kill -l: the lower half counts from the first of
// glibc, SIGRTMIN, up, the upper half from the last down. The kernel has two more before
// the first, which C libraries keep for themselves.
const (
	firstRealTimeSignal  = 34
	middleRealTimeSignal = 49
	lastRealTimeSignal   = 64
)

// signalName is the name of a signal's number, such as SIGKILL.
func signalName(number int) string {
	if name, ok := signalNames[number]; ok {
		return name
	}
	switch {
	case number == firstRealTimeSignal:
		return "SIGRTMIN"
	case number == lastRealTimeSignal:
		return "SIGRTMAX"
	case number > firstRealTimeSignal && number <= middleRealTimeSignal:
		return "SIGRTMIN+" + strconv.Itoa(number-firstRealTimeSignal)
	case number > middleRealTimeSignal && number < lastRealTimeSignal:
		return "SIGRTMAX-" + strconv.Itoa(lastRealTimeSignal-number)
	}
	return "signal " + strconv.Itoa(number)
}

// isRequestToEnd tells the signals by which people and service managers ask a
// process to end from those that mean a fault.
func isRequestToEnd(signal int) bool {
	switch signalNames[signal] {
	case "SIGHUP", "SIGINT", "SIGPIPE", "SIGTERM":
		return true
	default:
		return false
	}
}

var connectErrors = map[int32]string{
	1:   "operation_not_permitted", // EPERM
	13:  "permission_denied",       // EACCES
	71:  "protocol_error",          // EPROTO
	92:  "protocol_unreachable",    // ENOPROTOOPT
	100: "network_down",            // ENETDOWN
	101: event.ErrorNetworkUnreachable,
	103: event.ErrorConnectionAborted, // ECONNABORTED
	104: event.ErrorConnectionReset,
	105: "no_buffer_space", // ENOBUFS
	110: event.ErrorConnectionTimedOut,
	111: event.ErrorConnectionRefused,
	112: "host_down", // EHOSTDOWN
	113: event.ErrorHostUnreachable,
}

// isAborted says that the application itself gave up while it waited.
func (e connectEvent) isAborted() bool { return e.errno == 0 && !e.isLocal }

// errorType is the error.type of a failed connect.
func (e connectEvent) errorType() string {
	switch {
	case e.isLocal:
		return event.ErrorLocal
	case e.isAborted():
		return event.ErrorConnectionAborted
	}
	if name, ok := connectErrors[e.errno]; ok {
		return name
	}
	return "errno_" + strconv.Itoa(int(e.errno))
}
