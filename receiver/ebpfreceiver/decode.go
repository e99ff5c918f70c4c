//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unsafe"

	"github.com/yairfalse/tapio/bpf"
)

// headerSize is how far a record must reach for its kind to be read.
const headerSize = 16

// Address families and socket states, from <linux/socket.h> and <linux/net.h>.
const (
	familyIPv4          = 2
	familyIPv6          = 10
	socketIsUnconnected = 1
)

var errShortRecord = errors.New("record is too short")

// decode reads one record of the ring buffer. The error says what is wrong with
// its bytes; nothing of raw is kept.
func decode(raw []byte, known *knownProcesses) (kernelEvent, error) {
	if len(raw) < headerSize {
		return nil, fmt.Errorf("%w: %d bytes, want %d", errShortRecord, len(raw), headerSize)
	}
	switch kind := bpf.ProcessRecordKind(binary.NativeEndian.Uint32(raw[8:])); kind {
	case bpf.ProcessRecordKindTAPIO_EXEC:
		return decodeSent(raw, known, decodeExec)
	case bpf.ProcessRecordKindTAPIO_EXIT:
		return decodeSent(raw, known, decodeExit)
	case bpf.ProcessRecordKindTAPIO_SIGNAL:
		return decodeAs(raw, known, decodeSignal)
	case bpf.ProcessRecordKindTAPIO_SYSCALL:
		return decodeSent(raw, known, decodeSyscall)
	case bpf.ProcessRecordKindTAPIO_OOM:
		return decodeAs(raw, known, decodeOOM)
	case bpf.ProcessRecordKindTAPIO_CONNECT:
		return decodeSent(raw, known, decodeConnect)
	case kindListen:
		return decodeAs(raw, known, decodeListen)
	case kindUDPListen:
		return decodeAs(raw, known, decodeUDPListen)
	case kindReset:
		return decodeAs(raw, known, decodeReset)
	case kindRetransmit:
		return decodeAs(raw, known, decodeRetransmit)
	case kindOverflow:
		return decodeAs(raw, known, decodeOverflow)
	case kindBlockError:
		return decodeAs(raw, known, decodeBlockError)
	case kindHTTPProcess:
		return decodeAs(raw, known, decodeHTTPProcess)
	case kindHTTPExchange:
		return decodeAs(raw, known, decodeExchange)
	default:
		return nil, fmt.Errorf("record has the unknown kind %d", kind)
	}
}

// decodeAs reads the bytes as the type that bpf2go made of the C struct: same machine,
// same layout.
func decodeAs[R any](raw []byte, known *knownProcesses, read func(*R, *knownProcesses) kernelEvent) (kernelEvent, error) {
	size := int(unsafe.Sizeof(*new(R)))
	if len(raw) < size {
		return nil, fmt.Errorf("%w: %d bytes, want %d", errShortRecord, len(raw), size)
	}
	rec := (*R)(unsafe.Pointer(unsafe.SliceData(raw))) // its members are numbers and bytes
	return withTrace(read(rec, known), raw[size:]), nil
}

// tail is what is behind the fixed part of a record of which only the bytes that are
// used are sent.
type tail struct {
	cgroup cgroupNames
	// more is what is behind the names.
	more []byte
}

// tailSize is that of a tail without its bytes.
const tailSize = int(unsafe.Sizeof(bpf.HTTPTraceContext{}) + unsafe.Offsetof(bpf.ProcessCgroupPath{}.Names))

// decodeSent reads a record that has a struct record_tail of bpf/send.h behind it.
func decodeSent[R any](raw []byte, known *knownProcesses, read func(*R, tail, *knownProcesses) kernelEvent) (kernelEvent, error) {
	size := int(unsafe.Sizeof(*new(R)))
	if len(raw) < size+tailSize {
		return nil, fmt.Errorf("%w: %d bytes, want %d", errShortRecord, len(raw), size+tailSize)
	}
	rec := (*R)(unsafe.Pointer(unsafe.SliceData(raw))) // its members are numbers and bytes
	end := raw[size+tailSize:]
	n := binary.NativeEndian.Uint32(raw[size+tailSize-8:])
	if uint64(n) > uint64(len(end)) {
		return nil, fmt.Errorf("%w: %d bytes of names, want %d", errShortRecord, len(end), n)
	}
	t := tail{cgroup: cgroupNames{names: end[:n], partial: bpf.ProcessPathPart(binary.NativeEndian.Uint32(raw[size+tailSize-4:]))}, more: end[n:]}
	ev := read(rec, t, known)
	if ev == nil {
		return nil, fmt.Errorf("%w: %d bytes behind the names", errShortRecord, len(t.more))
	}
	return withTrace(ev, raw[size:]), nil
}

// decodeExec returns nil when bytes are missing.
func decodeExec(r *bpf.ProcessExecRecord, t tail, known *knownProcesses) kernelEvent {
	if uint64(len(t.more)) < uint64(r.InterpLen)+uint64(r.ArgsLen)+uint64(r.EnvironmentLen) {
		return nil
	}
	e := execEvent{
		base: base{r.Header.Time, known.processIn(&r.Process, t.cgroup)},
		path: cutText(t.more[:r.InterpLen], r.InterpRest != 0),
	}
	args, rest := t.more[r.InterpLen:][:r.ArgsLen], t.more[r.InterpLen+r.ArgsLen:]
	if e.isServiceKnown = r.EnvironmentWhole != 0; e.isServiceKnown {
		e.service = parseEnviron(rest[:r.EnvironmentLen])
	}
	e.isCut = int(r.ArgsTotal) > len(args)
	for arg := range bytes.SplitSeq(bytes.TrimSuffix(args, []byte{0}), []byte{0}) {
		e.args = append(e.args, strings.ToValidUTF8(string(arg), "\uFFFD"))
	}
	return e
}

func decodeExit(r *bpf.ProcessExitRecord, t tail, known *knownProcesses) kernelEvent {
	return exitEvent{
		base:   base{r.Header.Time, known.processIn(&r.Process, t.cgroup)},
		status: uint32(r.Code),
		isCopy: r.IsCopy != 0,
	}
}

func decodeSignal(r *bpf.ProcessSignalRecord, known *knownProcesses) kernelEvent {
	return signalEvent{
		base:   base{r.Header.Time, known.process(&r.Process, &r.Cgroup)},
		number: r.Signal,
		sender: known.process(&r.Sender, &r.SenderCgroup),
	}
}

func decodeSyscall(r *bpf.SyscallsSyscallRecord, t tail, known *knownProcesses) kernelEvent {
	return syscallEvent{
		base:  base{r.Header.Time, known.processIn((*bpf.ProcessProcessId)(&r.Process), t.cgroup)},
		calls: []failedCall{{syscallName(r.Number), errnoName(r.Error)}},
	}
}

func decodeOOM(r *bpf.MemoryOomRecord, known *knownProcesses) kernelEvent {
	e := oomEvent{
		base:     base{r.Header.Time, known.process((*bpf.ProcessProcessId)(&r.Process), (*bpf.ProcessCgroupPath)(&r.Cgroup))},
		rss:      r.Rss,
		limit:    r.Limit,
		usage:    r.Usage,
		peak:     r.Peak,
		scoreAdj: r.ScoreAdj,
		trigger:  known.process((*bpf.ProcessProcessId)(&r.Trigger), (*bpf.ProcessCgroupPath)(&r.TriggerCgroup)),
	}
	switch bpf.MemoryContainerFate(r.Fate) {
	case bpf.MemoryContainerFateTAPIO_FATE_ENDS:
		e.fate = containerEnds
	case bpf.MemoryContainerFateTAPIO_FATE_LIVES:
		e.fate = containerLives
	}
	if e.limit != 0 {
		e.limitCgroup = path((*bpf.ProcessCgroupPath)(&r.LimitCgroup))
	}
	return e
}

func decodeConnect(r *bpf.NetworkConnectRecord, t tail, known *knownProcesses) kernelEvent {
	return connectEvent{
		base:    base{r.Header.Time, known.processIn((*bpf.ProcessProcessId)(&r.Process), t.cgroup)},
		begun:   r.Begun,
		local:   address(r.Family, r.Local, r.LocalPort),
		peer:    address(r.Family, r.Peer, r.PeerPort),
		netns:   r.Netns,
		errno:   r.Error,
		isLocal: r.Error == 0 && r.SocketState == socketIsUnconnected,
	}
}

// maxKnownProcesses bounds knownProcesses, which then begins anew: with names of usual
// length half a megabyte.
const maxKnownProcesses = 1024

// knownProcesses remembers what records say of processes, so that not each of a storm
// makes the same text again. It is not safe for concurrent use.
type knownProcesses struct {
	known map[bpf.ProcessProcessId]knownProcess
	// last is whom the record before was about: nearly always the next one is too.
	last   bpf.ProcessProcessId
	lastIn knownProcess
}

// knownProcess is a process in a cgroup, as read and as it was in the record.
type knownProcess struct {
	info    processInfo
	names   string
	partial bpf.ProcessPathPart
}

func (k *knownProcess) isIn(cgroup cgroupNames) bool {
	return k.partial == cgroup.partial && k.names == string(cgroup.names)
}

// process reads who a record is about.
func (k *knownProcesses) process(p *bpf.ProcessProcessId, cgroup *bpf.ProcessCgroupPath) processInfo {
	return k.processIn(p, namesOf(cgroup))
}

func (k *knownProcesses) processIn(p *bpf.ProcessProcessId, cgroup cgroupNames) processInfo {
	if k == nil || p.Start == 0 {
		return decodeProcess(p, cgroup)
	}
	if k.last == *p && k.lastIn.isIn(cgroup) {
		return k.lastIn.info
	}
	known, ok := k.known[*p]
	if !ok || !known.isIn(cgroup) {
		if k.known == nil || len(k.known) >= maxKnownProcesses {
			k.known = map[bpf.ProcessProcessId]knownProcess{}
		}
		known = knownProcess{info: decodeProcess(p, cgroup), names: string(cgroup.names), partial: cgroup.partial}
		k.known[*p] = known
	}
	k.last, k.lastIn = *p, known
	return known.info
}

// cgroupNames are the names of a path from the leaf up, each with its NUL.
type cgroupNames struct {
	names   []byte
	partial bpf.ProcessPathPart
}

// namesOf is the part of a path that is there.
func namesOf(p *bpf.ProcessCgroupPath) cgroupNames {
	return cgroupNames{p.Names[:min(int(p.Len), len(p.Names))], bpf.ProcessPathPart(p.Partial)}
}

func decodeProcess(p *bpf.ProcessProcessId, cgroup cgroupNames) processInfo {
	if p.Start == 0 {
		return processInfo{}
	}
	return processInfo{
		started:    p.Start,
		pid:        p.Pid,
		vpid:       p.Vpid,
		parent:     p.Parent,
		comm:       text(p.Comm[:]),
		executable: cutText(p.Exe[:], p.ExeRest != 0),
		cgroup:     cgroup.path(),
	}
}

func path(p *bpf.ProcessCgroupPath) string { return namesOf(p).path() }

// path is the path with these names. One that did not fit ends with "/..." in place of
// what is missing at its leaf; it is empty when it is not known.
func (c cgroupNames) path() string {
	if c.partial == bpf.ProcessPathPartTAPIO_PATH_UNKNOWN {
		return ""
	}
	names := bytes.Split(bytes.TrimSuffix(c.names, []byte{0}), []byte{0})
	if c.partial == bpf.ProcessPathPartTAPIO_PATH_TOP_CUT {
		names = names[1:]
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.Write(names[i])
	}
	if c.partial != bpf.ProcessPathPartTAPIO_PATH_WHOLE {
		b.WriteString("/...")
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

// text reads up to the first NUL.
func text(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return strings.ToValidUTF8(string(b), "\uFFFD")
}

// cutText ends with "..." in place of what did not fit.
func cutText(b []byte, isCut bool) string {
	s := text(b)
	if isCut {
		s += "..."
	}
	return s
}

// address is the zero AddrPort for a family that is not IP. An IPv4 address in
// IPv6 form becomes an IPv4 address: that is what went over the network.
func address(family uint16, ip [16]byte, port uint16) netip.AddrPort {
	switch family {
	case familyIPv4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[:4])), port)
	case familyIPv6:
		return netip.AddrPortFrom(netip.AddrFrom16(ip).Unmap(), port)
	default:
		return netip.AddrPort{}
	}
}
