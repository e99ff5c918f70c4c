package topology

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// crowd makes spans of a few resources, with names and addresses of all sorts.
type crowd struct {
	random           *rand.Rand
	names, addresses []string
	at               int64
}

func newCrowd() *crowd {
	c := &crowd{
		random: rand.New(rand.NewPCG(1, 2)),
		names:  []string{"GET /", "GET /a", "GET /b", "", otherOperation, "a\xffb", strings.Repeat("n", record.MaxText+9)},
		addresses: []string{
			"10.0.0.1", "10.0.0.2", "10.0.1.1", "127.0.0.1", "127.0.0.53", "localhost", "::1", "fd00::1", "172.17.0.2", "169.254.1.1", "db", "a\xffb", "",
			strings.Repeat("a", maxAddress+1),
		},
		at: base,
	}
	for i := range 40 {
		c.names = append(c.names, fmt.Sprintf("POST /%d/orders", i))
	}
	return c
}

func one[T any](c *crowd, of ...T) T { return of[c.random.IntN(len(of))] }

func (c *crowd) refs(g *Graph) []Ref {
	refs := []Ref{g.Resolve(&Resource{Service: "nowhere"}, c.at)}
	for pid := range int64(3) {
		refs = append(refs, g.Resolve(&Resource{Service: fmt.Sprint("service-", pid), Host: fmt.Sprint("node-", pid%2), PID: pid + 1}, c.at))
	}
	return refs
}

func (c *crowd) operation() (record.SpanKind, string) {
	return one(c, record.SpanInternal, record.SpanServer, record.SpanClient), one(c, c.names...)
}

func (c *crowd) address() (string, int64) {
	return one(c, c.addresses...), one[int64](c, 80, 80+memoSlots, 81, 8080, 0, -1, 65535, 65536)
}

// What a Batch says and teaches is what a graph would say and learn of the same spans
// one by one.
func TestBatchIsAsOneByOne(t *testing.T) {
	limits := Limits{Entities: 10_000, OperationsPerService: 20}
	single, many := New(limits), New(limits)
	b, c := many.NewBatch(), newCrowd()
	for round := range 300 {
		refs := c.refs(single)
		require.Equal(t, refs, c.refs(many))
		for range c.random.IntN(40) {
			c.at++
			ref := one(c, refs...)
			kind, name := c.operation()
			id, slow, created := single.Operation(ref.Service, kind, name, c.at)
			id2, slow2, created2 := b.Operation(ref.Service, kind, name, c.at)
			require.Equal(t, id, id2, "%q", name)
			require.Equal(t, slow, slow2, "%q", name)
			require.Equal(t, created, created2, "%q", name)
			single.SetSlowOver(id, c.at)
			many.SetSlowOver(id, c.at)
			var peers [2]record.EntityID
			for i := range peers {
				address, port := c.address()
				peers[i] = single.Address(ref.Network, address, port, c.at)
				require.Equal(t, peers[i], b.Address(ref.Network, address, port, c.at), "%q %d", address, port)
			}
			span := record.SpanID{7: byte(c.random.IntN(20))}
			if kind == record.SpanClient {
				single.Client(span, ref, peers, c.at)
				b.Client(span, ref, peers, c.at)
			} else {
				single.Server(span, ref, c.at)
				b.Server(span, ref, c.at)
			}
		}
		b.Flush()
		if round%50 == 49 {
			single.Sweep(c.at - 20)
			many.Sweep(c.at - 20)
		}
	}
	require.Equal(t, single.Stats(), many.Stats())
	for id, e := range single.entities {
		other := many.entities[id]
		require.NotNil(t, other)
		assert.Equal(t, e.Key, other.Key)
		assert.Equal(t, e.seen.Load(), other.seen.Load(), e.Key)
		assert.Equal(t, e.owners, other.owners, e.Key)
	}
	assert.Equal(t, single.calls, many.calls)
	assert.NotEmpty(t, single.calls)
	assert.Positive(t, single.Stats().Overflow)
}

// What the graph has forgotten for want of space, a Batch does not remember.
func TestBatchForgetsWithItsGraph(t *testing.T) {
	g := New(Limits{Entities: 32, OperationsPerService: 100})
	b, c := g.NewBatch(), newCrowd()
	for range 10_000 {
		c.at++
		of, network := record.EntityID(1+32*c.random.IntN(3)), record.EntityID(10+c.random.IntN(3))
		kind, name := c.operation()
		id, _, _ := b.Operation(of, kind, name, c.at)
		known, _, _ := g.Operation(of, kind, name, c.at)
		require.Equal(t, known, id, "%q", name)
		c.at++
		address, port := c.address()
		require.Equal(t, b.Address(network, address, port, c.at), g.Address(network, address, port, c.at), "%q %d", address, port)
	}
	assert.Positive(t, g.Stats().Evicted)
}
