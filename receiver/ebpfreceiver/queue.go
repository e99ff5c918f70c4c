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

// push returns the events for which there is no place, in the memory of its argument.
func (q *queue) push(events []kernelEvent) []kernelEvent {
	refused, isUrgent := events[:0], false
	q.mu.Lock()
	before := q.size
	for _, ev := range events {
		urgent := ev.isUrgent()
		limit := len(q.ring)
		if !urgent {
			limit -= limit / reservedPart
		}
		if q.size >= limit {
			refused = append(refused, ev)
			continue
		}
		q.ring[(q.first+q.size)%len(q.ring)] = ev
		q.size++
		isUrgent = isUrgent || urgent
	}
	size := q.size
	q.mu.Unlock()

	if before == 0 && size > 0 {
		signal(q.ready)
	}
	if isUrgent || (before < q.batch && size >= q.batch) {
		signal(q.urgent)
	}
	return refused
}

// pop appends the oldest events, at most a batch of records, to dst.
func (q *queue) pop(dst []kernelEvent) []kernelEvent {
	q.mu.Lock()
	defer q.mu.Unlock()
	for records := 0; q.size > 0; {
		ev := q.ring[q.first]
		records += weight(ev)
		if records > q.batch && len(dst) > 0 {
			break
		}
		dst = append(dst, ev)
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
