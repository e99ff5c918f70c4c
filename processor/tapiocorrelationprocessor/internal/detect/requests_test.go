package detect

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

func trace(n int) (id record.TraceID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)+1)
	return id
}

// sp is a hurt span: failed unless slow; it ends at end.
type sp struct {
	id, parent byte
	kind       record.SpanKind
	end        int64
	slow       bool
}

func (s sp) hurt() HurtSpan {
	h := HurtSpan{Span: &record.Span{ID: record.SpanID{s.id}, Kind: s.kind, Start: s.end - 10, End: s.end, Failed: !s.slow, Slow: s.slow}}
	if s.parent != 0 {
		h.Parent = record.SpanID{s.parent}
	}
	return h
}

func request(spans ...sp) *Request {
	rs := NewRequests(10)
	var r *Request
	for _, s := range spans {
		r, _ = rs.Add(trace(1), s.hurt(), 0)
	}
	return r
}

const (
	client = record.SpanClient
	server = record.SpanServer
)

func TestOriginAndEntry(t *testing.T) {
	for _, tc := range []struct {
		name          string
		spans         []sp
		origin, entry byte // span ids, 0: none
		certain       bool
	}{
		{"a chain, deepest first", []sp{{4, 3, client, 10, false}, {3, 2, server, 11, false}, {2, 1, client, 12, false}, {1, 0, server, 13, false}}, 4, 1, true},
		{"a chain, root first", []sp{{1, 0, server, 13, false}, {2, 1, client, 12, false}, {3, 2, server, 11, false}, {4, 3, client, 10, false}}, 4, 1, true},
		{"two branches: the first to fail", []sp{{1, 0, server, 13, false}, {2, 1, client, 9, false}, {3, 1, client, 8, false}}, 3, 1, true},
		{"a call that failed and was coped with", []sp{{2, 1, client, 9, false}}, 2, 0, false},
		{"a call that failed with its answer, coped with", []sp{{3, 2, server, 8, false}, {2, 1, client, 9, false}}, 3, 0, false},
		{"a server span whose caller did not fail or is not there", []sp{{3, 9, server, 8, false}}, 3, 3, false},
		{"slow spans", []sp{{2, 1, client, 9, true}, {1, 0, server, 10, true}}, 2, 1, true},
		{"a slow root over a failure that was coped with", []sp{{2, 1, client, 9, false}, {1, 0, server, 10, true}}, 2, 0, false},
		{"a cycle", []sp{{1, 2, client, 9, false}, {2, 1, client, 10, false}}, 1, 0, false},
		{"its own parent", []sp{{1, 1, server, 9, false}}, 1, 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request(tc.spans...)
			assert.Equal(t, record.SpanID{tc.origin}, r.Origin().ID)
			entry, certain, ok := r.Entry()
			assert.Equal(t, tc.entry != 0, ok)
			assert.Equal(t, tc.certain, certain)
			if ok {
				assert.Equal(t, record.SpanID{tc.entry}, entry.ID)
			}
		})
	}
}

func TestAddSpans(t *testing.T) {
	rs := NewRequests(10)
	r, added := rs.Add(trace(1), sp{1, 0, server, 20, false}.hurt(), 100)
	assert.True(t, added)
	same, added := rs.Add(trace(1), sp{1, 0, server, 20, false}.hurt(), 101)
	assert.False(t, added, "an export that was tried again")
	assert.Same(t, r, same)
	assert.EqualValues(t, 100, r.Changed)
	_, added = rs.Add(trace(1), sp{2, 1, client, 15, false}.hurt(), 102)
	assert.True(t, added)
	assert.EqualValues(t, 15, r.First)
	assert.EqualValues(t, 20, r.Last)
	assert.EqualValues(t, 102, r.Changed)
	assert.Zero(t, rs.Cut())
}

func TestSpansOfARequestAreBounded(t *testing.T) {
	rs := NewRequests(10)
	for n := range maxSpans + 5 {
		h := sp{0, 0, server, 1, false}.hurt()
		binary.BigEndian.PutUint64(h.ID[:], uint64(n)+1)
		_, added := rs.Add(trace(1), h, 0)
		assert.Equal(t, n < maxSpans, added)
	}
	assert.EqualValues(t, 5, rs.Cut())
}

func held(rs *Requests) (out []record.TraceID) {
	rs.Each(func(r *Request) { out = append(out, r.TraceID) })
	return out
}

func TestRequestsAreBounded(t *testing.T) {
	rs := NewRequests(3)
	for n := range 5 {
		rs.Add(trace(n), sp{1, 0, server, int64(n), false}.hurt(), 0)
	}
	assert.Equal(t, 3, rs.Len())
	assert.EqualValues(t, 2, rs.Evicted())
	assert.Equal(t, []record.TraceID{trace(2), trace(3), trace(4)}, held(rs), "the oldest go first")

	rs.Sweep(4)
	assert.Equal(t, []record.TraceID{trace(4)}, held(rs))
	assert.EqualValues(t, 2, rs.Evicted(), "swept in time, not for want of space")
	for n := 5; n < 10; n++ {
		rs.Add(trace(n), sp{1, 0, server, int64(n), false}.hurt(), 0)
	}
	require.Equal(t, []record.TraceID{trace(7), trace(8), trace(9)}, held(rs), "the circle goes on after a sweep")
	assert.EqualValues(t, 5, rs.Evicted())
	rs.Sweep(100)
	assert.Empty(t, held(rs))
	assert.Zero(t, rs.Len())
}
