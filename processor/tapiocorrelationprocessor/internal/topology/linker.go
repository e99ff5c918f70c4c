package topology

import (
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
	span    record.SpanID // of the client span
	server  bool          // the side that is here
	subject record.EntityID
	service record.EntityID
	peers   [2]record.EntityID
}

func newLinker() linker { return linker{mu: new(sync.Mutex), slots: make([]half, linkerSlots)} }

// Client tells the graph of a client span: who called, and which addresses: the
// one that was dialled and the one that was asked for, 0 where unknown.
func (g *Graph) Client(span record.SpanID, subject Ref, peers [2]record.EntityID, at int64) {
	g.pair(half{span: span, subject: subject.Subject, service: subject.Service, peers: peers}, at)
}

// Server tells the graph of a server span: whose it is, and its parent.
func (g *Graph) Server(parent record.SpanID, subject Ref, at int64) {
	if parent != (record.SpanID{}) {
		g.pair(half{span: parent, server: true, subject: subject.Subject, service: subject.Service}, at)
	}
}

func (g *Graph) pair(h half, at int64) {
	slot := &g.linker.slots[spanHash(h.span)&(linkerSlots-1)]
	g.linker.mu.Lock()
	other := *slot
	matched := other.span == h.span && other.server != h.server
	if !matched {
		*slot = h
	}
	g.linker.mu.Unlock()
	if !matched {
		return
	}
	client, server := other, h
	if other.server {
		client, server = h, other
	}
	for _, peer := range client.peers {
		g.Owned(peer, server.subject, at)
	}
	g.Called(client.service, server.service, at)
}

// spanHash takes the low bits of a span id, which SDKs draw at random.
func spanHash(s record.SpanID) uint64 {
	return uint64(s[7]) | uint64(s[6])<<8 | uint64(s[5])<<16
}

// nth returns the n-th smallest of times (from 1).
func nth(times []int64, n int) int64 {
	slices.Sort(times)
	return times[min(n, len(times))-1]
}
