package ebpfreceiver

import "time"

// Slots of the histograms that kernel programs fill (bpf/histogram.h): four to an
// octave, in units of 1024 ns; the last is for all that is longer.
const (
	histogramSlots = 96
	histogramUnit  = 1024 * time.Nanosecond
	slotsPerOctave = 4
)

// histogram counts durations.
type histogram struct {
	count uint64
	total time.Duration
	slots [histogramSlots]uint32
}

// slotStart is the shortest duration of a slot.
func slotStart(slot int) time.Duration {
	if slot < slotsPerOctave {
		return time.Duration(slot) * histogramUnit
	}
	octave := slot/slotsPerOctave + 1
	return time.Duration(slotsPerOctave+slot%slotsPerOctave) << (octave - 2) * histogramUnit
}

// add adds what another counted.
func (h *histogram) add(other *histogram) {
	h.count += other.count
	h.total += other.total
	for i, n := range other.slots {
		h.slots[i] += n
	}
}

// mean is 0 when there is nothing.
func (h *histogram) mean() time.Duration {
	if h.count == 0 {
		return 0
	}
	return h.total / time.Duration(h.count)
}

// quantile is the duration that a share of all does not exceed, to within the
// width of a slot (an eighth); of the last slot its beginning. 0 when there is nothing.
func (h *histogram) quantile(share float64) time.Duration {
	var all, seen uint64
	for _, n := range h.slots {
		all += uint64(n)
	}
	for i, n := range h.slots {
		seen += uint64(n)
		if n == 0 || float64(seen) < share*float64(all) {
			continue
		}
		if i == histogramSlots-1 {
			return slotStart(i)
		}
		return (slotStart(i) + slotStart(i+1)) / 2
	}
	return 0
}

// grownHistogram is what was counted between two readings of the kernel's
// counters, which may wrap around.
func grownHistogram(count, total, countBefore, totalBefore uint64, slots, before *[histogramSlots]uint32) histogram {
	h := histogram{count: count - countBefore, total: time.Duration(total - totalBefore)}
	for i := range slots {
		h.slots[i] = slots[i] - before[i]
	}
	return h
}
