package visit

import (
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// feedSlot and feedSlots make the memory of when log records were written.
	feedSlot  = int64(10 * time.Second)
	feedSlots = 64
	// feedNear is how long before and after a visit without any log record its feed
	// must have worked, for the silence to say something.
	feedNear = int64(30 * time.Second)
)

// feed remembers when a service or an instance of it wrote log records.
type feed struct {
	last int64 // the newest record
	bits uint64
}

func (f *feed) add(at int64) {
	slot, newest := at/feedSlot, f.last/feedSlot
	switch {
	case slot > newest:
		f.bits = f.bits<<min(uint64(slot-newest), feedSlots) | 1
	case newest-slot < feedSlots:
		f.bits |= 1 << uint64(newest-slot)
	}
	f.last = max(f.last, at)
}

// between tells whether a record was written in a slot from a time to another.
func (f *feed) between(from, to int64) bool {
	newest := f.last / feedSlot
	for slot := min(to/feedSlot, newest); slot >= from/feedSlot && newest-slot < feedSlots; slot-- {
		if f.bits&(1<<uint64(newest-slot)) != 0 {
			return true
		}
	}
	return false
}

// Logged tells whether a service wrote log records lately.
func (a *Analyzer) Logged(service record.EntityID) bool {
	f := a.feeds[service]
	return f != nil && a.now-f.last <= 2*int64(a.options.Window)
}

// judgeable tells whether all log records of a visit have arrived, so that those
// that are not there were not written. A visit with records: its feed has gone on
// since, or all others have for as long as the trace was waited for. A visit without any: its feed worked before and after.
func (a *Analyzer) judgeable(v *visit) bool {
	f := a.feeds[v.instance]
	if f == nil {
		f = a.feeds[v.operation.service]
	}
	switch {
	case f == nil:
		return false
	case v.logs > 0:
		return f.last >= v.end || a.mark >= v.end+v.waited
	}
	return f.between(v.start-feedSlot-feedNear, v.start-feedSlot) && f.between(v.end+feedSlot, v.end+feedSlot+feedNear)
}
