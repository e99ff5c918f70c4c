package ebpfreceiver

import (
	"net/netip"
	"time"

	"github.com/yairfalse/tapio/internal/event"
)

// processInfo says who. Its zero value means that nobody knows.
type processInfo struct {
	// started is when the process began, in nanoseconds of CLOCK_BOOTTIME.
	started uint64
	// pid and parent are numbers of the collector's pid namespace, 0 when the
	// process has none there. vpid is the number in its own namespace, 0 when
	// that is the collector's.
	pid, vpid, parent uint32
	// comm is the name that the kernel keeps, at most 15 bytes; executable the
	// name of the file, its first 63 bytes and "..." when it is longer, empty when the
	// kernel had already let go of it.
	comm, executable string
	// cgroup is a path; empty when it is not known.
	cgroup string
}

// name is what people call the process.
func (p processInfo) name() string {
	switch {
	case p.executable != "":
		return p.executable
	case p.comm != "":
		return p.comm
	default:
		return "an unknown process"
	}
}

// kernelEvent is one thing that happened, as the kernel tells it.
type kernelEvent interface {
	// name is the EventName.
	name() string
	// time is when it happened, in nanoseconds of CLOCK_BOOTTIME.
	time() uint64
	// process is to whom.
	process() processInfo
	// isUrgent tells evidence of a failure from the daily round: it is handed on
	// at once, and kept longest when there is too much.
	isUrgent() bool
}

// base is what all events have.
type base struct {
	at  uint64
	who processInfo
}

func (b base) time() uint64         { return b.at }
func (b base) process() processInfo { return b.who }

type execEvent struct {
	base
	// path is what the kernel was asked to run; of a script, its interpreter. One of more
	// than 255 bytes ends with "...".
	path string
	// args are the arguments, or the first alone.
	args []string
	// isCut says that there were more or longer ones.
	isCut bool
	// service is what the environment says, if isServiceKnown: else it was too much for
	// the kernel program to look at.
	service        serviceName
	isServiceKnown bool
}

func (execEvent) name() string   { return event.ProcessExec }
func (execEvent) isUrgent() bool { return false }

type exitEvent struct {
	base
	traced
	// status is what wait(2) returns.
	status uint32
	// isCopy says that the process had its environment from its parent: it began by a
	// fork, and neither ran another program since.
	isCopy bool
}

// signal is the number of the signal that ended the process, 0 if none did.
func (e exitEvent) signal() int { return int(e.status & 0x7f) }

// isCoreDumped says that the kernel dumped the core.
func (e exitEvent) isCoreDumped() bool { return e.status&0x80 != 0 }

// code is what the process passed to exit(2), when no signal ended it.
func (e exitEvent) code() int { return int(e.status >> 8 & 0xff) }

func (exitEvent) name() string     { return event.ProcessExit }
func (e exitEvent) isUrgent() bool { return e.status != 0 }

type signalEvent struct {
	base
	// number is the signal's, sender who sent it; nobody when the kernel did.
	number uint32
	sender processInfo
}

func (signalEvent) name() string   { return event.ProcessSignal }
func (signalEvent) isUrgent() bool { return true }

// isKernels says that the kernel itself sent the signal.
func (e signalEvent) isKernels() bool { return e.sender.started == 0 }

type syscallEvent struct {
	base
	traced
	// calls are those that failed, each once: the first is that of the event itself.
	calls []failedCall
	// again are the failures of the same process that came next, on the same request and in
	// the same cgroup.
	again []failedAgain
}

// failedCall has names, such as openat and EMFILE.
type failedCall struct{ call, errno string }

// failedAgain is when it failed, and which of the calls of its event.
type failedAgain struct {
	at   uint64
	call int
}

// weight is how many records an event becomes.
func weight(ev kernelEvent) int {
	if s, ok := ev.(syscallEvent); ok {
		return 1 + len(s.again)
	}
	return 1
}

func (syscallEvent) name() string   { return event.SyscallFailed }
func (syscallEvent) isUrgent() bool { return true }

// syscallsEvent counts the failures of one call with one error in one cgroup.
type syscallsEvent struct {
	base
	call, errno string
	count       uint64
	interval    time.Duration
}

func (syscallsEvent) name() string   { return event.SyscallFailures }
func (syscallsEvent) isUrgent() bool { return false }

type oomEvent struct {
	base
	traced
	// rss of the victim, and limit, usage and peak of the memory cgroup that
	// was at its limit, in bytes. limit 0 means that none was.
	rss, limit, usage, peak uint64
	// limitCgroup is the path of that cgroup.
	limitCgroup string
	scoreAdj    int32
	// trigger is who asked for the memory that was not there; nobody when a thread
	// of the kernel did.
	trigger processInfo
	fate    containerFate
}

// containerFate is what becomes of the container of a process that is killed.
type containerFate int

const (
	// 0: it has no container, or one whose main process may be another.
	_ containerFate = iota
	// containerEnds: it was the first of the container, or all go together.
	containerEnds
	// containerLives: it was a child of another process of the container.
	containerLives
)

func (oomEvent) name() string   { return event.OOMKill }
func (oomEvent) isUrgent() bool { return true }

type connectEvent struct {
	base
	traced
	// begun is the time of connect(2), 0 when that was before our time.
	begun       uint64
	local, peer netip.AddrPort
	netns       uint32
	// errno is the error that the kernel noted at the socket, 0 for none.
	errno int32
	// isLocal says that connect(2) itself failed, before it sent anything.
	isLocal bool
}

func (connectEvent) name() string   { return event.TCPConnectFailed }
func (connectEvent) isUrgent() bool { return true }

// beginsOrEnds says that a process runs another program from then on, or none.
func beginsOrEnds(ev kernelEvent) bool {
	switch ev.(type) {
	case execEvent, exitEvent:
		return true
	}
	return false
}
