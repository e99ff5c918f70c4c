package ebpfreceiver

import (
	"sync/atomic"
	"time"
)

// clock turns times of CLOCK_BOOTTIME, which the kernel gives, into times of day.
type clock struct {
	// read returns the time of day minus CLOCK_BOOTTIME, in nanoseconds.
	read func() int64
	// first is what read returned at the start: a process keeps its creation
	// time, by which it is identified, though the time of day is set.
	first int64
	now   atomic.Int64
}

func newClock(read func() int64) *clock {
	c := &clock{read: read, first: read()}
	c.now.Store(c.first)
	return c
}

// adjust follows the time of day, which people and NTP set. It is cheap.
func (c *clock) adjust() { c.now.Store(c.read()) }

// wall is the time of day of an event.
func (c *clock) wall(boot uint64) time.Time {
	return time.Unix(0, int64(boot)+c.now.Load()).UTC()
}

// creation is the time of day at which a process began.
func (c *clock) creation(boot uint64) time.Time {
	return time.Unix(0, int64(boot)+c.first).UTC()
}
