// Package boot reads how a machine booted out of systemd's own timestamps. It
// does no I/O.
package boot

import (
	"math"
	"slices"
	"time"
)

// Phase is one part of the boot: firmware, loader, kernel, initrd, userspace.
type Phase struct {
	Name       string
	Start, End time.Time
}

// Boot is when the phases of one boot began and ended, in their order.
type Boot struct {
	Phases []Phase
	// finish is the end of the boot on both clocks.
	finish     time.Time
	finishMono uint64
	userMono   uint64
}

// Names of the phases.
const (
	Firmware  = "firmware"
	Loader    = "loader"
	Kernel    = "kernel"
	Initrd    = "initrd"
	Userspace = "userspace"
)

// Read reads the timestamps of systemd's manager object by their D-Bus names.
// It returns false while the boot is not over.
//
// All times are those of the monotonic clock, put onto the wall clock as it was
// at the end of the boot: early in a boot the wall clock is often wrong.
func Read(properties map[string]any) (Boot, bool) {
	finish, mono := microseconds(properties["FinishTimestamp"]), microseconds(properties["FinishTimestampMonotonic"])
	user := microseconds(properties["UserspaceTimestampMonotonic"])
	if finish == 0 || mono == 0 || user == 0 || user > mono {
		return Boot{}, false
	}
	b := Boot{finish: time.UnixMicro(int64(finish)).UTC(), finishMono: mono, userMono: user}
	// Firmware and loader count backwards, from the start of the kernel at 0.
	if _, booted := properties["KernelTimestamp"]; booted && microseconds(properties["KernelTimestamp"]) != 0 {
		kernel := b.At(0)
		firmware, loader := microseconds(properties["FirmwareTimestampMonotonic"]), microseconds(properties["LoaderTimestampMonotonic"])
		if firmware > loader && loader > 0 {
			b.add(Firmware, kernel.Add(-duration(firmware)), kernel.Add(-duration(loader)))
		}
		if loader > 0 {
			b.add(Loader, kernel.Add(-duration(loader)), kernel)
		}
		kernelEnd := user
		if initrd := microseconds(properties["InitRDTimestampMonotonic"]); initrd > 0 && initrd <= user {
			kernelEnd = initrd
		}
		b.add(Kernel, kernel, b.At(kernelEnd))
		if kernelEnd < user {
			b.add(Initrd, b.At(kernelEnd), b.At(user))
		}
	}
	b.add(Userspace, b.At(user), b.finish)
	return b, true
}

func (b *Boot) add(name string, start, end time.Time) {
	b.Phases = append(b.Phases, Phase{name, start, end})
}

// Start and End are those of the whole boot.
func (b *Boot) Start() time.Time { return b.Phases[0].Start }

// End is when the last job of the boot was done.
func (b *Boot) End() time.Time { return b.finish }

// At puts a time of the monotonic clock in microseconds onto the wall clock.
func (b *Boot) At(monotonic uint64) time.Time {
	return b.finish.Add(duration(monotonic) - duration(b.finishMono))
}

// Activation is the start of one unit during the boot.
type Activation struct {
	Unit       string
	Start, End time.Time
	// Failed: the unit did not come up.
	Failed bool
	// WaitedFor is the unit that ended last of those that this one had to wait
	// for, "" for none: the step before on the critical path.
	WaitedFor string

	after []string
}

// Activation reads when a unit was started, out of its properties. It returns
// false for a unit that was not started in this boot, or again since.
func (b *Boot) Activation(unit string, properties map[string]any) (Activation, bool) {
	start := microseconds(properties["InactiveExitTimestampMonotonic"])
	if start < b.userMono || start > b.finishMono {
		return Activation{}, false
	}
	a := Activation{Unit: unit, Start: b.At(start)}
	a.after, _ = properties["After"].([]string)
	active, inactive := microseconds(properties["ActiveEnterTimestampMonotonic"]), microseconds(properties["InactiveEnterTimestampMonotonic"])
	state, _ := properties["ActiveState"].(string)
	switch {
	case active >= start:
		a.End = b.At(active)
	case inactive >= start: // a oneshot that is over, or failed
		a.End = b.At(inactive)
		a.Failed = state == "failed"
	default:
		return Activation{}, false
	}
	return a, true
}

// Order sorts activations by their start and finds out what each waited for.
func Order(all []Activation) {
	slices.SortStableFunc(all, func(a, b Activation) int { return a.Start.Compare(b.Start) })
	ends := make(map[string]time.Time, len(all))
	for _, a := range all {
		ends[a.Unit] = a.End
	}
	for i := range all {
		var last time.Time
		for _, unit := range all[i].after {
			if end, ok := ends[unit]; ok && !end.After(all[i].Start) && end.After(last) {
				all[i].WaitedFor, last = unit, end
			}
		}
	}
}

// microseconds reads a timestamp of systemd; 0 for none.
func microseconds(v any) uint64 {
	n, _ := v.(uint64)
	if n > math.MaxInt64/uint64(time.Microsecond) {
		return 0
	}
	return n
}

func duration(microseconds uint64) time.Duration {
	return time.Duration(microseconds) * time.Microsecond
}
