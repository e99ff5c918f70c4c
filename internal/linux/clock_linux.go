package linux

import (
	"time"

	"golang.org/x/sys/unix"
)

// ReadClockOffset is the time of day minus CLOCK_BOOTTIME in nanoseconds. The
// shortest of a few readings has the smallest error, less than its own length.
func ReadClockOffset() int64 {
	var offset int64
	best := int64(time.Hour)
	for range 3 {
		var before, after, boot unix.Timespec
		if unix.ClockGettime(unix.CLOCK_REALTIME, &before) != nil ||
			unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil ||
			unix.ClockGettime(unix.CLOCK_REALTIME, &after) != nil {
			continue // cannot fail: these clocks exist since Linux 2.6.39
		}
		if took := after.Nano() - before.Nano(); took >= 0 && took < best {
			best = took
			offset = before.Nano() + took/2 - boot.Nano()
		}
	}
	return offset
}
