//go:build !linux

package systemdreceiver

import "time"

// sinceBoot says that there is no such clock: journald runs on Linux.
func sinceBoot() (time.Duration, bool) { return 0, false }
