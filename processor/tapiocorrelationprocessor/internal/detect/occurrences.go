package detect

import (
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Occurrence is a named event that can be a cause or an effect.
type Occurrence struct {
	Name    string
	Time    int64
	TraceID record.TraceID
	Subject record.EntityID
	Detail  *record.Detail
}

// Occurrences holds the last named events, each name with a bound of its own: a
// flood of process exits does not push out the one OOM kill. It is used by one
// goroutine.
type Occurrences struct {
	bound   int
	byName  map[string]*fifo
	by      map[record.EntityID][]*Occurrence
	evicted uint64
}

type fifo struct {
	items []*Occurrence
	keys  [][]record.EntityID // under which entities each is found
}

// maxNames bounds the event names that are kept apart.
const maxNames = 256

// NewOccurrences returns a store for at most bound events of each name.
func NewOccurrences(bound int) *Occurrences {
	return &Occurrences{bound: max(bound, 1), byName: map[string]*fifo{}, by: map[record.EntityID][]*Occurrence{}}
}

// Add keeps an occurrence, to be found under each of the entities (its subject,
// and what that is part of; zeros are ignored). It returns false when there are
// too many names.
func (os *Occurrences) Add(o *Occurrence, under ...record.EntityID) bool {
	f := os.byName[o.Name]
	if f == nil {
		if len(os.byName) >= maxNames {
			os.evicted++
			return false
		}
		f = &fifo{}
		os.byName[o.Name] = f
	}
	if len(f.items) >= os.bound {
		os.pop(f)
		os.evicted++
	}
	keys := make([]record.EntityID, 0, len(under))
	for _, id := range under {
		if id != 0 {
			keys = append(keys, id)
			os.by[id] = append(os.by[id], o)
		}
	}
	f.items = append(f.items, o)
	f.keys = append(f.keys, keys)
	return true
}

// pop forgets the oldest occurrence of a name.
func (os *Occurrences) pop(f *fifo) {
	o := f.items[0]
	for _, id := range f.keys[0] {
		list := os.by[id]
		for i, x := range list {
			if x == o {
				copy(list[1:i+1], list[:i]) // the oldest is almost always first
				list = list[1:]
				break
			}
		}
		if len(list) == 0 {
			delete(os.by, id)
		} else {
			os.by[id] = list
		}
	}
	f.items, f.keys = f.items[1:], f.keys[1:]
}

// Of returns the occurrences that concern an entity, by arrival. The caller must
// not change the slice.
func (os *Occurrences) Of(id record.EntityID) []*Occurrence { return os.by[id] }

// Named returns the occurrences of a name, by arrival. The caller must not change the
// slice.
func (os *Occurrences) Named(name string) []*Occurrence {
	if f := os.byName[name]; f != nil {
		return f.items
	}
	return nil
}

// Sweep forgets occurrences before a time.
func (os *Occurrences) Sweep(before int64) {
	for name, f := range os.byName {
		for len(f.items) > 0 && f.items[0].Time < before {
			os.pop(f)
		}
		if len(f.items) == 0 {
			delete(os.byName, name)
		}
	}
}

// Len returns how many are held.
func (os *Occurrences) Len() (n int) {
	for _, f := range os.byName {
		n += len(f.items)
	}
	return n
}

// Evicted returns how many were forgotten for want of space.
func (os *Occurrences) Evicted() uint64 { return os.evicted }
