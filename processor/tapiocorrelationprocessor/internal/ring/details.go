package ring

import (
	"sync"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Details keeps the details of records for as long as the ring holds the record,
// and never more than its bound. All methods are safe for concurrent use.
type Details struct {
	ring *Ring

	mu      sync.Mutex
	kept    []kept // a circle, indexed by id
	next    record.DetailID
	oldest  record.DetailID
	evicted uint64
}

type kept struct {
	position uint64
	detail   *record.Detail
}

// NewDetails returns a store for at most bound details of records in r.
func NewDetails(r *Ring, bound int) *Details {
	return &Details{ring: r, kept: make([]kept, max(bound, 1)), next: 1, oldest: 1}
}

// Put keeps a detail and returns its number. A full store forgets its oldest.
func (d *Details) Put(detail *record.Detail) record.DetailID {
	position := d.ring.Head()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(position)
	if int(d.next-d.oldest) == len(d.kept) {
		d.at(d.oldest).detail = nil
		d.oldest++
		d.evicted++
	}
	id := d.next
	*d.at(id) = kept{position, detail}
	if d.next++; d.next == 0 { // 2^32 details later: begin again, 0 means none
		clear(d.kept)
		d.next, d.oldest = 1, 1
	}
	return id
}

// forget drops details whose records the ring no longer holds.
func (d *Details) forget(head uint64) {
	capacity := uint64(d.ring.Capacity())
	for d.oldest < d.next && d.at(d.oldest).position+capacity < head {
		d.at(d.oldest).detail = nil
		d.oldest++
	}
}

func (d *Details) at(id record.DetailID) *kept { return &d.kept[int(id)%len(d.kept)] }

// Get returns a detail, nil when it is forgotten or id is 0.
func (d *Details) Get(id record.DetailID) *record.Detail {
	d.mu.Lock()
	defer d.mu.Unlock()
	if id < d.oldest || id >= d.next {
		return nil
	}
	return d.at(id).detail
}

// Len returns how many details are held, Evicted how many were forgotten for
// want of space while the ring still held their record.
func (d *Details) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int(d.next - d.oldest)
}

// Evicted returns how many details were forgotten before their record was.
func (d *Details) Evicted() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.evicted
}
