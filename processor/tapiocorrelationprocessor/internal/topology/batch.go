package topology

import (
	"cmp"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// memoSlots is how many operations and how many addresses a Batch remembers.
const memoSlots = 128

// Batch tells a graph of one batch of spans after another, at less cost than one by one:
// it remembers the operations and addresses that were named last, and pairs all halves of
// calls at once, in Flush. It is used by one goroutine at a time and does not keep a
// string that it is given.
type Batch struct {
	graph      *Graph
	drops      uint64 // the graph's, when the memory below was made
	operations [memoSlots]operationMemo
	addresses  [memoSlots]*Entity
	halves     []told
	calls      []call
}

type operationMemo struct {
	entity *Entity
	kind   record.SpanKind
}

// NewBatch returns a Batch that tells g.
func (g *Graph) NewBatch() *Batch { return &Batch{graph: g} }

// fresh forgets what the graph may have forgotten.
func (b *Batch) fresh() {
	if drops := b.graph.drops.Load(); drops != b.drops {
		b.drops = drops
		clear(b.operations[:])
		clear(b.addresses[:])
	}
}

// Operation is Graph.Operation.
func (b *Batch) Operation(of record.EntityID, kind record.SpanKind, name string, at int64) (id record.EntityID, slowOver int64, created bool) {
	b.fresh()
	m := &b.operations[slot(name, uint64(of)<<2|uint64(kind))]
	if e := m.entity; e != nil && m.kind == kind && e.Service == of && e.Name == name {
		e.touch(at)
		return e.ID, e.SlowOver.Load(), false
	}
	e, slowOver, created := b.graph.operation(of, kind, name, at)
	*m = operationMemo{e, kind}
	return e.ID, slowOver, created
}

// Address is Graph.Address.
func (b *Batch) Address(network record.EntityID, address string, port, at int64) record.EntityID {
	if address == "" || !validPort(port) {
		return 0
	}
	b.fresh()
	m := &b.addresses[slot(address, uint64(port))]
	if e := *m; e != nil && e.Address == address && e.Port == port && cmp.Or(e.network, network) == network {
		e.touch(at)
		return e.ID
	}
	e := b.graph.address(network, address, port, at)
	if e == nil {
		return 0
	}
	if !isHostsOwn(address) { // that has a network, but not the one that was asked for
		*m = e
	}
	return e.ID
}

// slot spreads names that differ in length, at their end or in their middle.
func slot(name string, by uint64) uint64 {
	if n := len(name); n > 0 {
		by = by*31 + uint64(n)
		by = by*31 + uint64(name[n-1])
		by = by*31 + uint64(name[n/2])
	}
	return by % memoSlots
}

// Client is Graph.Client, as of the next Flush.
func (b *Batch) Client(span record.SpanID, subject Ref, peers [2]record.EntityID, at int64) {
	b.halves = append(b.halves, clientHalf(span, subject, peers, at))
}

// Server is Graph.Server, as of the next Flush.
func (b *Batch) Server(parent record.SpanID, subject Ref, at int64) {
	if parent != (record.SpanID{}) {
		b.halves = append(b.halves, serverHalf(parent, subject, at))
	}
}

// Flush pairs the halves of calls.
func (b *Batch) Flush() {
	b.calls = b.graph.linker.pair(b.halves, b.calls[:0])
	b.graph.called(b.calls)
	b.halves = b.halves[:0]
}
