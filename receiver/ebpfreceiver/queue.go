package ebpfreceiver

import "sync"

// reservedPart is the part of the queue (one in so many places) that only
// urgent events may take: under a storm of execs the OOM kill must get through.
const reservedPart = 4

// queue holds events between the reader of the ring buffer and the sender. It
// is a ring of fixed capacity, safe for concurrent use.
type queue struct {
	// ready has a token when the queue was empty and is not any more, urgent
	// when an urgent event came or a full batch waits.
	ready, urgent chan struct{}

	mu    sync.Mutex
	ring  []kernelEvent
	first int
	size  int
	batch int
}

func newQueue(capacity, batch int) *queue {
	return &queue{
		ready:  make(chan struct{}, 1),
		urgent: make(chan struct{}, 1),
		ring:   make([]kernelEvent, capacity),
		batch:  batch,
	}
}

// push returns false when there is no place for the event.
func (q *queue) push(ev kernelEvent) bool {
	q.mu.Lock()
	limit := len(q.ring)
	if !ev.isUrgent() {
		limit -= limit / reservedPart
	}
	if q.size >= limit {
		q.mu.Unlock()
		return false
	}
	q.ring[(q.first+q.size)%len(q.ring)] = ev
	q.size++
	size := q.size
	q.mu.Unlock()

	if size == 1 {
		signal(q.ready)
	}
	if ev.isUrgent() || size == q.batch {
		signal(q.urgent)
	}
	return true
}

// pop appends the oldest events, at most a batch, to dst.
func (q *queue) pop(dst []kernelEvent) []kernelEvent {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n := min(q.size, q.batch); n > 0; n-- {
		dst = append(dst, q.ring[q.first])
		q.ring[q.first] = nil
		q.first = (q.first + 1) % len(q.ring)
		q.size--
	}
	return dst
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.size
}

func (q *queue) capacity() int { return len(q.ring) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
