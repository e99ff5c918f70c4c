package topology

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// linkerSlots is the size of the linker's table (a power of two): spans of one
// call arrive within seconds, and a pair that is missed is seen with the next
// request.
const linkerSlots = 1 << 15

// linker pairs a client span with the server span that is its child, whichever
// comes first. It is a direct-mapped table: bounded, without garbage, and lossy.
type linker struct {
	mu    *sync.Mutex
	slots []half
}

// half is one side of a call that waits for the other.
type half struct {
	span    uint64 // id of the client span
	subject record.EntityID
	service record.EntityID
	peers   [2]record.EntityID
	server  bool // the side that is here
}

// told is half a call and when it ended.
type told struct {
	half
	at int64
}

// call is both halves: which service called which, and who answered at which addresses.
type call struct {
	caller, callee, answered record.EntityID
	peers                    [2]record.EntityID
	at                       int64
}

func newLinker() linker { return linker{mu: new(sync.Mutex), slots: make([]half, linkerSlots)} }

func clientHalf(span record.SpanID, subject Ref, peers [2]record.EntityID, at int64) told {
	return told{half{span: number(span), subject: subject.Subject, service: subject.Service, peers: peers}, at}
}

func serverHalf(parent record.SpanID, subject Ref, at int64) told {
	return told{half{span: number(parent), subject: subject.Subject, service: subject.Service, server: true}, at}
}

// Client tells the graph of a client span: who called, and which addresses: the
// one that was dialled and the one that was asked for, 0 where unknown.
func (g *Graph) Client(span record.SpanID, subject Ref, peers [2]record.EntityID, at int64) {
	g.called(g.linker.pair([]told{clientHalf(span, subject, peers, at)}, nil))
}

// Server tells the graph of a server span: whose it is, and its parent.
func (g *Graph) Server(parent record.SpanID, subject Ref, at int64) {
	if parent != (record.SpanID{}) {
		g.called(g.linker.pair([]told{serverHalf(parent, subject, at)}, nil))
	}
}

// pair appends the calls of which the other half was here to calls; the others wait.
func (l *linker) pair(halves []told, calls []call) []call {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range halves {
		h := &halves[i]
		slot := &l.slots[h.span&(linkerSlots-1)]
		if slot.span != h.span || slot.server == h.server {
			*slot = h.half
			continue
		}
		client, server := slot, &h.half
		if slot.server {
			client, server = server, client
		}
		calls = append(calls, call{client.service, server.service, server.subject, client.peers, h.at})
	}
	return calls
}

// called notes calls and who answered.
func (g *Graph) called(calls []call) {
	if len(calls) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range calls {
		c := &calls[i]
		for _, peer := range c.peers {
			g.owned(peer, c.answered, c.at)
		}
		g.calledBy(c.caller, c.callee, c.at)
	}
}

// number is a span id whose low bits choose a slot: SDKs draw ids at random.
func number(s record.SpanID) uint64 { return binary.BigEndian.Uint64(s[:]) }

// nth returns the n-th smallest of times (from 1).
func nth(times []int64, n int) int64 {
	slices.Sort(times)
	return times[min(n, len(times))-1]
}
