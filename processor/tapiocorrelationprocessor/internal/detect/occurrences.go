package detect

import (
	"cmp"
	"slices"
	"time"

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

// Subjects are those to whom it happened: the one that it is told of, and the other that
// it names.
func (o *Occurrence) Subjects() []record.EntityID {
	if o.Detail == nil || o.Detail.Other == 0 {
		return []record.EntityID{o.Subject}
	}
	return []record.EntityID{o.Subject, o.Detail.Other}
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
	items   []*Occurrence
	keys    [][]record.EntityID // under which entities each is found
	until   []int64             // when each is of no use any more
	evicted uint64
	last    int64 // the time of the last one that was evicted
}

// Shortage says that more events of a name come than are kept.
type Shortage struct {
	Name    string
	Evicted uint64        // since any of them were held
	Reach   time.Duration // how far back those reach that are held
}

// maxNames bounds the event names that are kept apart.
const maxNames = 256

// NewOccurrences returns a store for at most bound events of each name.
func NewOccurrences(bound int) *Occurrences {
	return &Occurrences{bound: max(bound, 1), byName: map[string]*fifo{}, by: map[record.EntityID][]*Occurrence{}}
}

// Add keeps an occurrence until a time, to be found under each of the entities (its
// subject, and what that is part of; zeros are ignored). It returns false when there are
// too many names.
func (os *Occurrences) Add(o *Occurrence, until int64, under ...record.EntityID) bool {
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
		f.evicted++
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
	f.until = append(f.until, until)
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
	f.last = max(f.last, o.Time)
	f.items, f.keys, f.until = f.items[1:], f.keys[1:], f.until[1:]
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

// Sweep forgets the occurrences that are of no use any more.
func (os *Occurrences) Sweep(now int64) {
	gone := map[*Occurrence]bool{}
	touched := map[record.EntityID]bool{}
	for name, f := range os.byName {
		kept := 0
		for i, o := range f.items {
			if f.until[i] < now {
				gone[o] = true
				for _, id := range f.keys[i] {
					touched[id] = true
				}
				continue
			}
			f.items[kept], f.keys[kept], f.until[kept] = o, f.keys[i], f.until[i]
			kept++
		}
		clear(f.items[kept:])
		clear(f.keys[kept:])
		f.items, f.keys, f.until = f.items[:kept], f.keys[:kept], f.until[:kept]
		if kept == 0 {
			delete(os.byName, name)
		}
	}
	for id := range touched {
		os.by[id] = slices.DeleteFunc(os.by[id], func(o *Occurrence) bool { return gone[o] })
		if len(os.by[id]) == 0 {
			delete(os.by, id)
		}
	}
}

// Short lists the names of which events had to be forgotten that would be of use still if
// they are used for keep, shortest reach first.
func (os *Occurrences) Short(now int64, keep time.Duration) (short []Shortage) {
	for name, f := range os.byName {
		if f.evicted > 0 && f.last > now-int64(keep) {
			short = append(short, Shortage{Name: name, Evicted: f.evicted, Reach: time.Duration(now - f.last)})
		}
	}
	slices.SortFunc(short, func(a, b Shortage) int { return cmp.Or(cmp.Compare(a.Reach, b.Reach), cmp.Compare(a.Name, b.Name)) })
	return short
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
