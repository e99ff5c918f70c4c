package unit

import "time"

// Sample is what a run of a unit used when it was last looked at: systemd removes
// the control group, and with it these numbers, as soon as a run ends.
type Sample struct {
	InvocationID string
	At           time.Time
	// Memory and MemoryPeak are bytes, Tasks processes and threads; None where
	// nothing counts them. MemoryPeak is the highest of all samples.
	Memory, MemoryPeak, Tasks uint64
}

// Next returns the sample that follows s: of the same run the peak is kept.
func (s Sample) Next(now Sample) Sample {
	now.MemoryPeak = now.Memory
	if s.InvocationID == now.InvocationID && s.MemoryPeak != None && (now.Memory == None || s.MemoryPeak > now.Memory) {
		now.MemoryPeak = s.MemoryPeak
	}
	return now
}

// Recall fills in what systemd can no longer say of the run that an event is about.
func (s Sample) Recall(e *Event) {
	u := &e.Unit
	if s.InvocationID == "" || s.InvocationID != u.InvocationID {
		return
	}
	recalled := false
	for _, f := range []struct {
		to   *uint64
		from uint64
	}{{&u.MemoryCurrent, s.Memory}, {&u.TasksCurrent, s.Tasks}, {&u.MemoryPeak, s.MemoryPeak}} {
		if *f.to == None && f.from != None {
			*f.to = f.from
			recalled = true
		}
	}
	if recalled {
		e.SampleAge = max(e.At.Sub(s.At), time.Microsecond)
	}
}
