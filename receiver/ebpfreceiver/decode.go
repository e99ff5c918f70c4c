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
		return decodeAs(raw, known, decodeExec)
	case bpf.ProcessRecordKindTAPIO_EXIT:
		return decodeAs(raw, known, decodeExit)
	case bpf.ProcessRecordKindTAPIO_SIGNAL:
		return decodeAs(raw, known, decodeSignal)
	case bpf.ProcessRecordKindTAPIO_SYSCALL:
		return decodeAs(raw, known, decodeSyscall)
	case bpf.ProcessRecordKindTAPIO_OOM:
		return decodeAs(raw, known, decodeOOM)
	case bpf.ProcessRecordKindTAPIO_CONNECT:
		return decodeAs(raw, known, decodeConnect)
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

func decodeExec(r *bpf.ProcessExecRecord, known *knownProcesses) kernelEvent {
	e := execEvent{
		base: base{r.Header.Time, known.process(&r.Process, &r.Cgroup)},
		path: text(r.Interp[:]),
	}
	args := r.Args[:min(int(r.ArgsLen), len(r.Args))]
	e.isCut = int(r.ArgsTotal) > len(args)
	for arg := range bytes.SplitSeq(bytes.TrimSuffix(args, []byte{0}), []byte{0}) {
		e.args = append(e.args, strings.ToValidUTF8(string(arg), "\uFFFD"))
	}
	return e
}

func decodeExit(r *bpf.ProcessExitRecord, known *knownProcesses) kernelEvent {
	return exitEvent{
		base:   base{r.Header.Time, known.process(&r.Process, &r.Cgroup)},
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

func decodeSyscall(r *bpf.SyscallsSyscallRecord, known *knownProcesses) kernelEvent {
	return syscallEvent{
		base:  base{r.Header.Time, known.process((*bpf.ProcessProcessId)(&r.Process), (*bpf.ProcessCgroupPath)(&r.Cgroup))},
		call:  syscallName(r.Number),
		errno: errnoName(r.Error),
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

func decodeConnect(r *bpf.NetworkConnectRecord, known *knownProcesses) kernelEvent {
	return connectEvent{
		base:    base{r.Header.Time, known.process((*bpf.ProcessProcessId)(&r.Process), (*bpf.ProcessCgroupPath)(&r.Cgroup))},
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
}

// knownProcess is a process in a cgroup, as read and as it was in the record.
type knownProcess struct {
	info    processInfo
	names   string
	partial uint32
}

// process reads who a record is about.
func (k *knownProcesses) process(p *bpf.ProcessProcessId, cgroup *bpf.ProcessCgroupPath) processInfo {
	if k == nil || p.Start == 0 {
		return decodeProcess(p, cgroup)
	}
	names := namesOf(cgroup)
	if known, ok := k.known[*p]; ok && known.partial == cgroup.Partial && known.names == string(names) {
		return known.info
	}
	if k.known == nil || len(k.known) >= maxKnownProcesses {
		k.known = map[bpf.ProcessProcessId]knownProcess{}
	}
	info := decodeProcess(p, cgroup)
	k.known[*p] = knownProcess{info: info, names: string(names), partial: cgroup.Partial}
	return info
}

// namesOf is the part of a path that is there.
func namesOf(p *bpf.ProcessCgroupPath) []byte { return p.Names[:min(int(p.Len), len(p.Names))] }

func decodeProcess(p *bpf.ProcessProcessId, cgroup *bpf.ProcessCgroupPath) processInfo {
	if p.Start == 0 {
		return processInfo{}
	}
	return processInfo{
		started:    p.Start,
		pid:        p.Pid,
		vpid:       p.Vpid,
		parent:     p.Parent,
		comm:       text(p.Comm[:]),
		executable: text(p.Exe[:]),
		cgroup:     path(cgroup),
	}
}

// path turns names from the leaf up, each with its NUL, into a path. One that
// did not fit ends with "/..." in place of what is missing at its leaf; it is
// empty when it is not known.
func path(p *bpf.ProcessCgroupPath) string {
	part := bpf.ProcessPathPart(p.Partial)
	if part == bpf.ProcessPathPartTAPIO_PATH_UNKNOWN {
		return ""
	}
	names := bytes.Split(bytes.TrimSuffix(namesOf(p), []byte{0}), []byte{0})
	if part == bpf.ProcessPathPartTAPIO_PATH_TOP_CUT {
		names = names[1:]
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.Write(names[i])
	}
	if part != bpf.ProcessPathPartTAPIO_PATH_WHOLE {
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
