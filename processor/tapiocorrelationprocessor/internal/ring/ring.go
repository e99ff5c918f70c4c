// Package ring holds the last events in a fixed amount of memory: 48 bytes an event.
package ring

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Ring takes records from many goroutines and forgets the oldest first. Batches are
// copied in and out as a whole under one lock: the atomic stores of each record that go
// without it cost several times as much. All methods are safe for concurrent use.
type Ring struct {
	mu     sync.Mutex
	events []record.Event
	head   atomic.Uint64 // the position that the next record gets; changes under mu
}

// New returns a ring for at least capacity records, rounded up to a power of two.
func New(capacity int) *Ring {
	return &Ring{events: make([]record.Event, uint64(1)<<bits.Len64(uint64(max(capacity, 2)-1)))}
}

// Capacity returns how many records the ring can hold.
func (r *Ring) Capacity() int { return len(r.events) }

// Head returns the position that the next record gets: the number of records that
// were ever appended.
func (r *Ring) Head() uint64 { return r.head.Load() }

// Len returns how many records the ring holds.
func (r *Ring) Len() int { return int(min(r.head.Load(), uint64(len(r.events)))) }

// from returns what the ring's memory holds from a position on, up to its end.
func (r *Ring) from(position uint64) []record.Event {
	return r.events[position&uint64(len(r.events)-1):]
}

// Append adds records and returns the position of the first.
func (r *Ring) Append(events []record.Event) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.head.Load()
	head := first + uint64(len(events))
	if over := len(events) - len(r.events); over > 0 {
		events = events[over:]
	}
	n := copy(r.from(head-uint64(len(events))), events)
	copy(r.events, events[n:])
	r.head.Store(head)
	return first
}

// Read copies records into buf, beginning at position from, in the order in which
// they were appended. It returns how many it copied, the position to go on from, and
// how many records were overwritten before they could be read.
func (r *Ring) Read(from uint64, buf []record.Event) (n int, next, lost uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	head := r.head.Load()
	if oldest := head - uint64(r.Len()); from < oldest {
		lost, from = oldest-from, oldest
	}
	buf = buf[:min(uint64(len(buf)), head-from)]
	n = copy(buf, r.from(from))
	copy(buf[n:], r.events)
	return len(buf), from + uint64(len(buf)), lost
}

// Oldest returns the event time of the oldest record that the ring holds, and
// false when it is empty.
func (r *Ring) Oldest() (int64, bool) {
	var oldest [1]record.Event
	if r.Len() == 0 {
		return 0, false
	}
	r.Read(0, oldest[:])
	return oldest[0].Time, true
}
