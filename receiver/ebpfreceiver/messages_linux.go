package ebpfreceiver

import "golang.org/x/sys/unix"

// bootClock reads CLOCK_BOOTTIME, and how much of it the machine was suspended;
// both in nanoseconds.
func bootClock() (boot, suspended uint64) {
	var monotonic, withSuspend unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic) // cannot fail with these clocks
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &withSuspend)
	return uint64(withSuspend.Nano()), uint64(withSuspend.Nano() - monotonic.Nano())
}
