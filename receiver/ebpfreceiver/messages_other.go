//go:build !linux

package ebpfreceiver

// bootClock is not needed where there is no kernel log.
func bootClock() (boot, suspended uint64) { return 0, 0 }
