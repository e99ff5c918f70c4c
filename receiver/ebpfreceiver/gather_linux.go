//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/yairfalse/tapio/bpf"
)

const (
	// maxGathered bounds the failures of one event, maxGroups how many events are
	// gathered at once.
	maxGathered = 64
	maxGroups   = 8
)

// errNoRoom says that next is to be called first.
var errNoRoom = errors.New("enough is gathered")

// failureGroups makes events of the records of failing calls. Those that follow each other
// and are about the same process become one event, which is queued and described once: a
// storm is nearly always of few processes. What each process did stays in order.
type failureGroups struct {
	// most bounds the failures of one event.
	most int
	// last is by CPU whom its last syscall_record was about: a syscall_again_record says
	// that it is about the same.
	last   []syscallEvent
	groups []failureGroup
	// begun are how many of groups are in use, taken how many of those next has returned.
	begun, taken int
}

// failureGroup is one event. Its memory is used again.
type failureGroup struct {
	event syscallEvent
	// calls are those of the event, as in records.
	calls []failedNumber
	again []failedAgain
}

// failedNumber is a system call that failed, and with which error.
type failedNumber struct{ number, err uint32 }

func newFailureGroups(most, cpus int) failureGroups {
	return failureGroups{most: min(most, maxGathered), last: make([]syscallEvent, cpus)}
}

// isFailure says that a record is one of a failing call.
func isFailure(raw []byte) bool {
	if len(raw) < headerSize {
		return false
	}
	kind := binary.NativeEndian.Uint32(raw[8:])
	return kind == uint32(bpf.ProcessRecordKindTAPIO_SYSCALL) || kind == uint32(bpf.SyscallsSyscallKindTAPIO_SYSCALL_AGAIN)
}

// add puts a record for which isFailure to the others. The error is errNoRoom or says what
// is wrong with its bytes.
func (g *failureGroups) add(raw []byte, known *knownProcesses) error {
	if binary.NativeEndian.Uint32(raw[8:]) == uint32(bpf.ProcessRecordKindTAPIO_SYSCALL) {
		return g.addFirst(raw, known)
	}
	if len(raw) < int(unsafe.Sizeof(bpf.SyscallsSyscallAgainRecord{})) {
		return fmt.Errorf("%w: %d bytes of a call that failed again", errShortRecord, len(raw))
	}
	rec := (*bpf.SyscallsSyscallAgainRecord)(unsafe.Pointer(unsafe.SliceData(raw))) // its members are numbers
	if int(rec.Cpu) >= len(g.last) || g.last[rec.Cpu].who.started == 0 {
		return fmt.Errorf("a call failed again, on CPU %d, of which there is no record", rec.Cpu)
	}
	return g.put(&g.last[rec.Cpu], rec.Header.Time, failedNumber{rec.Number, rec.Error})
}

func (g *failureGroups) addFirst(raw []byte, known *knownProcesses) error {
	ev, err := decode(raw, known)
	if err != nil {
		return err
	}
	first := ev.(syscallEvent) // by its kind
	rec := (*bpf.SyscallsSyscallRecord)(unsafe.Pointer(unsafe.SliceData(raw)))
	if int(rec.Header.Pad) < len(g.last) {
		g.last[rec.Header.Pad] = first
	}
	return g.put(&first, rec.Header.Time, failedNumber{rec.Number, rec.Error})
}

// put puts a failure of the same process and request as another one to the last group of
// that process, or begins one.
func (g *failureGroups) put(as *syscallEvent, at uint64, call failedNumber) error {
	if group := g.lastOf(as.who.started); group != nil && len(group.again) < g.most-1 && group.event.who == as.who && group.event.request == as.request {
		group.again = append(group.again, failedAgain{at, group.indexOf(call)})
		return nil
	}
	if g.begun == maxGroups {
		return errNoRoom
	}
	if g.begun == len(g.groups) {
		g.groups = append(g.groups, failureGroup{})
	}
	group := &g.groups[g.begun]
	g.begun++
	group.event = syscallEvent{base: base{at, as.who}, traced: as.traced}
	group.calls, group.again = group.calls[:0], group.again[:0]
	group.indexOf(call)
	return nil
}

// lastOf is the last group of a process: no failure of it may come before those there.
func (g *failureGroups) lastOf(started uint64) *failureGroup {
	for i := g.begun - 1; i >= 0; i-- {
		if group := &g.groups[i]; group.event.who.started == started {
			return group
		}
	}
	return nil
}

// indexOf is where a call is among those of the event, to which it is added.
func (g *failureGroup) indexOf(call failedNumber) int {
	if i := slices.Index(g.calls, call); i >= 0 {
		return i
	}
	g.calls = append(g.calls, call)
	g.event.calls = append(g.event.calls, failedCall{syscallName(call.number), errnoName(call.err)})
	return len(g.calls) - 1
}

func (g *failureGroups) hasNext() bool { return g.taken < g.begun }

// next returns the events in the order in which they began.
func (g *failureGroups) next() (syscallEvent, bool) {
	if !g.hasNext() {
		return syscallEvent{}, false
	}
	group := &g.groups[g.taken]
	ev := group.event
	ev.again = slices.Clone(group.again)
	group.event = syscallEvent{}
	if g.taken++; g.taken == g.begun {
		g.begun, g.taken = 0, 0
	}
	return ev, true
}
