package linux

import (
	"sync/atomic"
	"time"
)

// Clock turns times of CLOCK_BOOTTIME, which the kernel gives, into times of day.
type Clock struct {
	// read returns the time of day minus CLOCK_BOOTTIME, in nanoseconds.
	read func() int64
	// first is what read returned at the start: a process keeps its creation
	// time, by which it is identified, though the time of day is set.
	first int64
	now   atomic.Int64
}

// NewClock returns a clock that asks read, such as ReadClockOffset, for the time of
// day minus CLOCK_BOOTTIME, in nanoseconds.
func NewClock(read func() int64) *Clock {
	c := &Clock{read: read, first: read()}
	c.now.Store(c.first)
	return c
}

// Adjust follows the time of day, which people and NTP set. It is cheap.
func (c *Clock) Adjust() { c.now.Store(c.read()) }

// Wall is the time of day of an event.
func (c *Clock) Wall(boot uint64) time.Time {
	return time.Unix(0, int64(boot)+c.now.Load()).UTC()
}

// Creation is the time of day at which a process began.
func (c *Clock) Creation(boot uint64) time.Time {
	return time.Unix(0, int64(boot)+c.first).UTC()
}

// Boot is the time of CLOCK_BOOTTIME at a time of day, 0 for one before the start
// of the machine.
func (c *Clock) Boot(wall time.Time) uint64 {
	return uint64(max(wall.UnixNano()-c.now.Load(), 0))
}
