package systemdreceiver

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot is the clock of journald's monotonic times (CLOCK_MONOTONIC), and whether there
// is one.
func sinceBoot() (time.Duration, bool) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano()), err == nil
}
