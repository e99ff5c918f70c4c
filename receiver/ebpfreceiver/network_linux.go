//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

// maxPairs bounds the records of one sample; those that carried most are sent.
const maxPairs = 128

// Kinds of records that network.h defines.
const (
	kindListen      = bpf.ProcessRecordKind(bpf.NetworkNetworkKindTAPIO_LISTEN)
	kindReset       = bpf.ProcessRecordKind(bpf.NetworkNetworkKindTAPIO_RESET)
	kindRetransmit  = bpf.ProcessRecordKind(bpf.NetworkNetworkKindTAPIO_RETRANSMIT)
	kindOverflow    = bpf.ProcessRecordKind(bpf.NetworkNetworkKindTAPIO_OVERFLOW)
	kindConnections = bpf.ProcessRecordKind(bpf.NetworkNetworkKindTAPIO_CONNECTIONS)
)

// networkMaps are what the programs of the object have in common.
var networkMaps = []string{bpf.NetworkMapConnections, bpf.NetworkMapListeners, bpf.NetworkMapAddresses, bpf.NetworkMapPairs, bpf.NetworkMapPaths}

// networkPrograms are in the order in which they must run: what looks at the
// sockets that are there comes after what sees new ones, so that none is missed.
func networkPrograms() []program {
	all := []program{
		{name: bpf.NetworkProgTcpConnect, attached: countConnections},
		{name: bpf.NetworkProgTcpListeners, attached: runOnce},
		{name: bpf.NetworkProgTcpConnections, attached: runOnce},
		{name: bpf.NetworkProgTcpBytes, iterates: bpf.NetworkMapConnections, attached: runAtSamples},
		{name: bpf.NetworkProgTcpOverflow, iterates: bpf.NetworkMapListeners, attached: runAtSamples},
		{name: bpf.NetworkProgTcpResetReceived},
		{name: bpf.NetworkProgTcpResetSent, configure: func(spec *ebpf.CollectionSpec, f *features) error {
			return spec.Variables[bpf.NetworkVarResetHasReason].Set(len(f.resetReasons) > 0)
		}},
		{name: bpf.NetworkProgTcpRetransmit, configure: func(spec *ebpf.CollectionSpec, f *features) error {
			return spec.Variables[bpf.NetworkVarRetransmitHasError].Set(f.retransmitHasError)
		}},
	}
	for i := range all {
		all[i].load, all[i].sharesMaps = bpf.LoadNetwork, networkMaps
	}
	return all
}

func decodeListen(r *bpf.NetworkListenRecord, known *knownProcesses) kernelEvent {
	return listenEvent{
		base:   networkBase(r.Header.Time, &r.Process, &r.Cgroup, known),
		socket: decodeEndpoints(&r.Socket), ends: r.Ends != 0, isExisting: r.Existing != 0, backlog: r.Backlog,
	}
}

func decodeReset(r *bpf.NetworkResetRecord, known *knownProcesses) kernelEvent {
	return resetEvent{
		base:   networkBase(r.Header.Time, &r.Process, &r.Cgroup, known),
		socket: decodeEndpoints(&r.Socket), isReceived: r.Received != 0, state: tcpState(r.State), reasonNumber: r.Reason,
	}
}

func decodeRetransmit(r *bpf.NetworkRetransmitRecord, known *knownProcesses) kernelEvent {
	return retransmitEvent{
		base:   networkBase(r.Header.Time, &r.Process, &r.Cgroup, known),
		socket: decodeEndpoints(&r.Socket), state: tcpState(r.State), count: r.Count, total: r.Total,
		rtt: time.Duration(r.Rtt) * time.Microsecond,
	}
}

func decodeOverflow(r *bpf.NetworkOverflowRecord, known *knownProcesses) kernelEvent {
	return overflowEvent{
		base:   networkBase(r.Header.Time, &r.Process, &r.Cgroup, known),
		socket: decodeEndpoints(&r.Socket), dropped: r.Dropped, queue: r.Queue, limit: r.Limit,
	}
}

func networkBase(at uint64, p *bpf.NetworkProcessId, cgroup *bpf.NetworkCgroupPath, known *knownProcesses) base {
	return base{at, known.process((*bpf.ProcessProcessId)(p), (*bpf.ProcessCgroupPath)(cgroup))}
}

func decodeEndpoints(e *bpf.NetworkEndpoints) endpoints {
	return endpoints{local: mapped(e.Local, e.LocalPort), peer: mapped(e.Peer, e.PeerPort), netns: e.Netns}
}

// mapped is an address of which the kernel program made an IPv6 one.
func mapped(ip [16]byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(ip).Unmap(), port)
}

// runOnce runs an iterator when it is attached. What it finds is in the ring buffer.
func runOnce(k *kernel, p *runningProgram) {
	if err := iterate(p.link); err != nil {
		k.failures = append(k.failures, failure{program: p.name, reason: explain(err)})
	}
}

// iterate runs an iterator once over all that there is.
func iterate(l link.Link) error {
	it, ok := l.(*link.Iter)
	if !ok {
		return fmt.Errorf("%T is no iterator", l)
	}
	reader, err := it.Open()
	if err != nil {
		return fmt.Errorf("open iterator: %w", err)
	}
	defer reader.Close()
	_, err = io.Copy(io.Discard, reader)
	return err
}

// iteration is an iterator that runs at each sample and sends or counts in the kernel.
type iteration struct{ link link.Link }

func runAtSamples(k *kernel, p *runningProgram) {
	// Before the counts are read to which this adds.
	k.samplers = slices.Insert(k.samplers, 0, sampler(iteration{p.link}))
}

func (i iteration) sample() []kernelEvent {
	_ = iterate(i.link) // nothing is lost: the next sample counts from where this one did
	return nil
}

func (iteration) left() map[string]int64 { return nil }

// pairCounts reads what connections carry.
type pairCounts struct {
	counts  counters[bpf.NetworkPairKey, bpf.NetworkPair]
	paths   *ebpf.Map
	sampled time.Time
	leftOut atomic.Int64
}

func countConnections(k *kernel, p *runningProgram) {
	c := p.collection
	k.samplers = append(k.samplers, &pairCounts{
		counts: newCounters[bpf.NetworkPairKey, bpf.NetworkPair](c.Maps[bpf.NetworkMapPairs]),
		paths:  c.Maps[bpf.NetworkMapPaths], sampled: time.Now(),
	})
}

func (p *pairCounts) left() map[string]int64 {
	return map[string]int64{event.TCPConnections: p.leftOut.Load()}
}

func (p *pairCounts) sample() []kernelEvent {
	now := time.Now()
	interval := now.Sub(p.sampled).Round(time.Millisecond)
	p.sampled = now
	at := bootNow()
	var grown []connectionsEvent
	p.counts.each(func(key bpf.NetworkPairKey, now, before *bpf.NetworkPair) bool {
		if !isGrown(now, before) {
			return false
		}
		ev := p.growth(&key, now, before)
		ev.at, ev.interval = at, interval
		grown = append(grown, ev)
		return true
	})
	slices.SortFunc(grown, func(a, b connectionsEvent) int {
		return cmp.Or(cmp.Compare(b.sent+b.received, a.sent+a.received), cmp.Compare(b.opened, a.opened),
			a.socket.peer.Compare(b.socket.peer), a.socket.local.Compare(b.socket.local))
	})
	return bounded(grown, maxPairs, &p.leftOut)
}

func isGrown(now, before *bpf.NetworkPair) bool {
	return now.Opened != before.Opened || now.Closed != before.Closed || now.Sent != before.Sent ||
		now.Received != before.Received || now.Retransmits != before.Retransmits
}

func (p *pairCounts) growth(key *bpf.NetworkPairKey, now, before *bpf.NetworkPair) connectionsEvent {
	var cgroup bpf.NetworkCgroupPath
	if p.paths.Lookup(now.Process.CgroupId, &cgroup) != nil {
		cgroup.Partial = 1
	}
	ev := connectionsEvent{
		base:     networkBase(0, &now.Process, &cgroup, nil),
		socket:   endpoints{local: mapped(key.Local, 0), peer: mapped(key.Peer, key.Port), netns: key.Netns},
		isServer: key.Incoming != 0,
		opened:   now.Opened - before.Opened, closed: now.Closed - before.Closed,
		sent: now.Sent - before.Sent, received: now.Received - before.Received,
		retransmits: now.Retransmits - before.Retransmits,
	}
	if n := now.Rtts - before.Rtts; n > 0 {
		ev.rtt = time.Duration((now.Rtt-before.Rtt)/n) * time.Microsecond
	}
	if ev.isServer {
		ev.socket.local, ev.socket.peer = mapped(key.Local, key.Port), mapped(key.Peer, 0)
	} else if ev.opened > 0 {
		ev.connect = time.Duration((now.ConnectTime - before.ConnectTime) / ev.opened)
	}
	return ev
}
