package ring

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// numbered returns a record whose every field is derived from n, so that a record
// put together from two others is recognised.
func numbered(n uint64) record.Event {
	e := record.Event{
		Time: int64(n), Subject: record.EntityID(n), Object: record.EntityID(n * 3), Kind: record.Kind(n), Severity: uint8(n),
		Detail: record.DetailID(n * 7), Value: int64(n * 11),
	}
	binary.NativeEndian.PutUint64(e.TraceID[:8], n*13)
	binary.NativeEndian.PutUint64(e.TraceID[8:], n*17)
	return e
}

func some(from, n uint64) []record.Event {
	var out []record.Event
	for i := from; i < from+n; i++ {
		out = append(out, numbered(i))
	}
	return out
}

func TestCapacityIsRoundedUp(t *testing.T) {
	for in, want := range map[int]int{-1: 2, 0: 2, 1: 2, 2: 2, 3: 4, 4: 4, 5: 8, 1000: 1024, 1024: 1024, 1025: 2048} {
		assert.Equal(t, want, New(in).Capacity(), "New(%d)", in)
	}
}

func TestAppendAndRead(t *testing.T) {
	r := New(8)
	assert.EqualValues(t, 0, r.Append(some(1, 3)))
	assert.EqualValues(t, 3, r.Append(some(4, 2)))
	buf := make([]record.Event, 4)
	n, next, lost := r.Read(0, buf)
	assert.Equal(t, some(1, 4), buf[:n])
	assert.EqualValues(t, 4, next)
	assert.Zero(t, lost)
	n, next, lost = r.Read(next, buf)
	assert.Equal(t, some(5, 1), buf[:n])
	assert.EqualValues(t, 5, next)
	assert.Zero(t, lost)
	n, next, _ = r.Read(next, buf)
	assert.Zero(t, n)
	assert.EqualValues(t, 5, next)
	assert.Equal(t, 5, r.Len())
	assert.EqualValues(t, 5, r.Head())
}

func TestOldestIsForgottenFirst(t *testing.T) {
	r := New(8)
	_, ok := r.Oldest()
	assert.False(t, ok, "empty")
	r.Append(some(1, 20))
	assert.Equal(t, 8, r.Len())
	oldest, ok := r.Oldest()
	assert.True(t, ok)
	assert.EqualValues(t, 13, oldest)
	buf := make([]record.Event, 32)
	n, next, lost := r.Read(0, buf)
	assert.Equal(t, some(13, 8), buf[:n])
	assert.EqualValues(t, 20, next)
	assert.EqualValues(t, 12, lost)
}

func TestABatchLargerThanTheRing(t *testing.T) {
	r := New(8)
	r.Append(some(1, 3))
	assert.EqualValues(t, 3, r.Append(some(4, 18)))
	buf := make([]record.Event, 5)
	n, next, lost := r.Read(2, buf)
	assert.Equal(t, some(14, 5), buf[:n])
	assert.EqualValues(t, 18, next)
	assert.EqualValues(t, 11, lost)
	n, next, lost = r.Read(next, buf)
	assert.Equal(t, some(19, 3), buf[:n])
	assert.EqualValues(t, 21, next)
	assert.Zero(t, lost)
}

// Many producers and a reader: no record is torn, each is read at most once and
// in order, and what was not read was counted as lost.
func TestConcurrentProducersAndReader(t *testing.T) {
	const producers, each = 8, 20_000
	r := New(1 << 10)
	var wg sync.WaitGroup
	var next atomic.Uint64
	for range producers {
		wg.Go(func() {
			for range each / 20 {
				from := next.Add(20) - 19
				r.Append(some(from, 20))
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()

	var read, lost, position uint64
	buf := make([]record.Event, 256)
	seen := make([]bool, producers*each+1)
	drain := func() int {
		n, p, l := r.Read(position, buf)
		position, lost, read = p, lost+l, read+uint64(n)
		for i := range n {
			id := uint64(buf[i].Time)
			if buf[i] != numbered(id) {
				t.Fatalf("torn: %+v", buf[i])
			}
			if seen[id] {
				t.Fatalf("read twice: %d", id)
			}
			seen[id] = true
		}
		return n
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
			drain()
			runtime.Gosched()
		}
	}
	for drain() > 0 {
	}
	assert.EqualValues(t, producers*each, read+lost, "every record was read or counted")
	assert.EqualValues(t, producers*each, position)
	assert.Positive(t, read)
}
