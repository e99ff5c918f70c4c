package detect

import (
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// remembered is for how many seconds it is known in which an entity took requests.
const remembered = 1800

// Answers remember in which seconds an entity took a request: whoever does is not
// dead any more. They are used by one goroutine.
type Answers struct {
	by     map[record.EntityID]*seconds
	recent recent[seconds]
}

// seconds is a circle of one bit a second; last is the newest that is set.
type seconds struct {
	bits [(remembered + 63) / 64]uint64
	last int64
}

// NewAnswers returns an empty memory.
func NewAnswers() *Answers { return &Answers{by: map[record.EntityID]*seconds{}} }

// Add notes that an entity took a request at a time, in ns.
func (a *Answers) Add(id record.EntityID, at int64) {
	s := a.recent.get(a.by, id)
	if s == nil {
		s = &seconds{}
		a.by[id] = s
	}
	t := at / int64(time.Second)
	switch {
	case t > s.last:
		for n := max(s.last+1, t-remembered); n < t; n++ {
			s.put(n, false)
		}
		s.last = t
	case t <= s.last-remembered:
		return // too long ago
	}
	s.put(t, true)
}

func (s *seconds) put(t int64, on bool) {
	n := t % (int64(len(s.bits)) * 64)
	if on {
		s.bits[n/64] |= 1 << (n % 64)
	} else {
		s.bits[n/64] &^= 1 << (n % 64)
	}
}

func (s *seconds) get(t int64) bool {
	n := t % (int64(len(s.bits)) * 64)
	return s.bits[n/64]&(1<<(n%64)) != 0
}

// Any tells whether an entity is known to have taken any request.
func (a *Answers) Any(id record.EntityID) bool { return a.by[id] != nil }

// Last returns the end of the last second in which an entity took a request, in ns, and
// false when it is not known to have taken any.
func (a *Answers) Last(id record.EntityID) (int64, bool) {
	s := a.by[id]
	if s == nil {
		return 0, false
	}
	return (s.last + 1) * int64(time.Second), true
}

// Between tells whether an entity took a request in a second that began after a
// time and not after another, both in ns.
func (a *Answers) Between(id record.EntityID, after, until int64) bool {
	s := a.by[id]
	if s == nil {
		return false
	}
	first := max(after/int64(time.Second)+1, s.last-remembered+1)
	for t := min(until/int64(time.Second), s.last); t >= first; t-- {
		if s.get(t) {
			return true
		}
	}
	return false
}

// Since returns the first and the last second after a time in which an entity took a
// request, by their starts in ns, and how many there were: 0 for none.
func (a *Answers) Since(id record.EntityID, after int64) (first, last int64, n int) {
	s := a.by[id]
	if s == nil {
		return 0, 0, 0
	}
	for t := max(after/int64(time.Second)+1, s.last-remembered+1); t <= s.last; t++ {
		if s.get(t) {
			if n++; n == 1 {
				first = t * int64(time.Second)
			}
			last = t * int64(time.Second)
		}
	}
	return first, last, n
}

// Pauses tells whether no second between a time and another, both in ns, is one of an
// entity's for so long.
func (a *Answers) Pauses(id record.EntityID, after, until int64, d time.Duration) bool {
	last, end := after/int64(time.Second), until/int64(time.Second)
	if s := a.by[id]; s != nil {
		for t := max(last+1, s.last-remembered+1); t <= min(end, s.last); t++ {
			if !s.get(t) {
				continue
			}
			if t-last > int64(d/time.Second) {
				return true
			}
			last = t
		}
	}
	return end-last > int64(d/time.Second)
}

// Sweep forgets entities that took no request since a time, in ns.
func (a *Answers) Sweep(before int64) {
	for id, s := range a.by {
		if s.last < before/int64(time.Second) {
			delete(a.by, id)
		}
	}
	clear(a.recent[:])
}
