// Package ring holds the last events in a fixed amount of memory: 48 bytes an
// event and 8 for the sequence number that guards it.
package ring

import (
	"encoding/binary"
	"math/bits"
	"runtime"
	"sync/atomic"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// words is the number of 64-bit words in which a record is stored.
const words = 6

// slot is one record. sequence is 0 while nothing was written, odd while a
// producer writes, and 2*(position+1) once the record at position is complete.
type slot struct {
	sequence atomic.Uint64
	data     [words]atomic.Uint64
}

// Ring takes records from many goroutines without a lock and forgets the oldest
// first. All methods are safe for concurrent use.
type Ring struct {
	slots []slot
	mask  uint64
	head  atomic.Uint64 // the position that the next record gets
}

// New returns a ring for at least capacity records, rounded up to a power of two.
func New(capacity int) *Ring {
	n := uint64(1) << bits.Len64(uint64(max(capacity, 2)-1))
	return &Ring{slots: make([]slot, n), mask: n - 1}
}

// Capacity returns how many records the ring can hold.
func (r *Ring) Capacity() int { return len(r.slots) }

// Head returns the position that the next record gets: the number of records
// that were ever claimed.
func (r *Ring) Head() uint64 { return r.head.Load() }

// Len returns how many records the ring holds.
func (r *Ring) Len() int { return int(min(r.head.Load(), uint64(len(r.slots)))) }

// Append adds records and returns the position of the first.
func (r *Ring) Append(events []record.Event) uint64 {
	n := uint64(len(events))
	first := r.head.Add(n) - n
	for i := range events {
		r.put(first+uint64(i), &events[i])
	}
	return first
}

// put writes one record. A producer that is overtaken by a whole round of the
// ring gives its record up instead of overwriting a newer one.
func (r *Ring) put(position uint64, e *record.Event) {
	s := &r.slots[position&r.mask]
	done := 2 * (position + 1)
	for {
		old := s.sequence.Load()
		if old >= done {
			return // overtaken
		}
		if old&1 == 1 {
			runtime.Gosched() // a slow producer of an earlier round is writing
			continue
		}
		if s.sequence.CompareAndSwap(old, done-1) {
			break
		}
	}
	s.data[0].Store(uint64(e.Time))
	s.data[1].Store(binary.NativeEndian.Uint64(e.TraceID[:8]))
	s.data[2].Store(binary.NativeEndian.Uint64(e.TraceID[8:]))
	s.data[3].Store(uint64(e.Subject) | uint64(e.Object)<<32)
	s.data[4].Store(uint64(e.Kind) | uint64(e.Severity)<<16 | uint64(e.Detail)<<32)
	s.data[5].Store(uint64(e.Value))
	s.sequence.Store(done)
}

// Status is what get found at a position.
type status uint8

const (
	present status = iota
	pending        // claimed, not yet written
	gone           // overwritten
)

func (r *Ring) get(position uint64, e *record.Event) status {
	s := &r.slots[position&r.mask]
	done := 2 * (position + 1)
	switch seq := s.sequence.Load(); {
	case seq > done:
		return gone
	case seq < done:
		return pending
	}
	e.Time = int64(s.data[0].Load())
	binary.NativeEndian.PutUint64(e.TraceID[:8], s.data[1].Load())
	binary.NativeEndian.PutUint64(e.TraceID[8:], s.data[2].Load())
	ids := s.data[3].Load()
	e.Subject, e.Object = record.EntityID(ids), record.EntityID(ids>>32)
	k := s.data[4].Load()
	e.Kind, e.Severity, e.Detail = record.Kind(k), uint8(k>>16), record.DetailID(k>>32)
	e.Value = int64(s.data[5].Load())
	if s.sequence.Load() != done {
		return gone
	}
	return present
}

// Read copies records into buf, beginning at position from, in the order in
// which they were claimed. It returns how many it copied, the position to go on
// from, and how many records were overwritten before they could be read. It
// stops early at a record that is still being written.
func (r *Ring) Read(from uint64, buf []record.Event) (n int, next, lost uint64) {
	head := r.head.Load()
	if head-from > uint64(len(r.slots)) {
		oldest := head - uint64(len(r.slots))
		lost, from = oldest-from, oldest
	}
	for from < head && n < len(buf) {
		switch r.get(from, &buf[n]) {
		case present:
			n++
		case gone:
			lost++
		case pending:
			return n, from, lost
		}
		from++
	}
	return n, from, lost
}

// Oldest returns the event time of the oldest record that the ring holds, and
// false when it is empty.
func (r *Ring) Oldest() (int64, bool) {
	var e record.Event
	head := r.head.Load()
	for p := head - uint64(r.Len()); p < head; p++ {
		if r.get(p, &e) == present {
			return e.Time, true
		}
	}
	return 0, false
}
