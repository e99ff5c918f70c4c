package ebpfreceiver

import (
	"container/list"
	"time"
)

// look is when to look for the context of a process.
type look struct {
	key    processKey
	at     time.Time
	isLast bool
	// environ: its environment was not looked at yet.
	environ bool
}

// looks are the processes to look at again, at most maxLooks. One that ends is taken out,
// so that processes that begin and end in a storm keep no place from those that stay. It
// is not safe for concurrent use.
type looks struct {
	byKey map[processKey]*list.Element
	// first and second have those of two kinds: each is after a fixed time, so they come
	// in its order.
	first, second *list.List
}

func newLooks() *looks {
	return &looks{byKey: map[processKey]*list.Element{}, first: list.New(), second: list.New()}
}

func (l *looks) queueOf(v look) *list.List {
	if v.isLast {
		return l.second
	}
	return l.first
}

// add returns false when there is no place. A process that waits already waits anew.
func (l *looks) add(v look) bool {
	l.remove(v.key)
	if len(l.byKey) >= maxLooks {
		return false
	}
	l.byKey[v.key] = l.queueOf(v).PushBack(v)
	return true
}

func (l *looks) remove(key processKey) {
	if e := l.byKey[key]; e != nil {
		l.queueOf(e.Value.(look)).Remove(e)
		delete(l.byKey, key)
	}
}

// hasEnviron says that a process waits for a look at its environment.
func (l *looks) hasEnviron(key processKey) bool {
	e := l.byKey[key]
	return e != nil && e.Value.(look).environ
}

// due takes out those for which it is time.
func (l *looks) due(now time.Time) (out []look) {
	for _, queue := range []*list.List{l.first, l.second} {
		for e := queue.Front(); e != nil && e.Value.(look).at.Before(now); e = queue.Front() {
			v := e.Value.(look)
			out = append(out, v)
			l.remove(v.key)
		}
	}
	return out
}

func (l *looks) len() int { return len(l.byKey) }
