package visit

import (
	"math"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// errorSlot is the resolution at which error records are counted, errorSlots how
	// many are remembered: an hour.
	errorSlot  = 10 * int64(1e9)
	errorSlots = 360
	// errorWindow is how many slots are the present, errorPast how many of the past a
	// service must have been heard of to be judged.
	errorWindow, errorPast = 6, 30
	// errorTimes is how many times the most that any minute of the past held the present
	// must hold, errorLeast how many records at least, errorSpread in how many slots:
	// one stack trace is no trouble.
	errorTimes, errorLeast, errorSpread = 3, 10, 3
	// severityError is the least severity number of an error in OpenTelemetry.
	severityError = 17
)

// outcries are the error records of a service that belong to no trace: of one whose
// requests nobody sees, they are all that tells.
type outcries struct {
	first  int64 // slot in which it was heard of first
	newest int64 // slot
	slots  [errorSlots]uint16
	odd    [errorSlots]bool // raised an alarm: not part of the past
	// template is the statement of the newest error, since the first one of the present.
	template uint32
	begun    int64
}

// errorLog notes a log record of no trace.
func (a *Analyzer) errorLog(l *Log) {
	if l.Trace != (record.TraceID{}) || l.Service == 0 {
		return
	}
	slot := l.Time / errorSlot
	o := a.outcries[l.Service]
	if o == nil {
		if len(a.outcries) >= a.options.MaxOperations {
			a.Counters.Dropped.Add(1)
			return
		}
		o = &outcries{first: slot, newest: slot}
		a.outcries[l.Service] = o
	}
	if slot <= o.newest-errorSlots {
		return
	}
	o.turn(slot)
	if l.Severity < severityError {
		return // a record that does not say how bad it is may be a note
	}
	if n := &o.slots[slot%errorSlots]; *n < math.MaxUint16 {
		*n++
	}
	o.template = l.Template
}

// turn makes room for slots up to one.
func (o *outcries) turn(slot int64) {
	for s := max(o.newest+1, slot-errorSlots+1); s <= slot; s++ {
		o.slots[s%errorSlots], o.odd[s%errorSlots] = 0, false
	}
	o.newest = max(o.newest, slot)
}

// now returns how many errors the present holds and in how many slots, and the most
// that any minute of the past held.
func (o *outcries) now(slot int64) (n, spread, most float64) {
	o.turn(slot)
	for s := slot - errorWindow + 1; s <= slot; s++ {
		if k := o.slots[s%errorSlots]; k > 0 && s >= o.first {
			n += float64(k)
			spread++
		}
	}
	sum := 0.0
	from := max(o.first, slot-errorSlots+1)
	for s := from; s <= slot-errorWindow; s++ {
		if !o.odd[s%errorSlots] {
			sum += float64(o.slots[s%errorSlots])
		}
		if last := s - errorWindow; last >= from && !o.odd[last%errorSlots] {
			sum -= float64(o.slots[last%errorSlots])
		}
		most = max(most, sum)
	}
	return n, spread, most
}

// collectErrors adds the services that say much more often than ever that something
// fails. Those of whose requests spans tell are judged by these.
func (a *Analyzer) collectErrors() {
	slot := a.now / errorSlot
	var traced map[record.EntityID]bool
	for id, o := range a.outcries {
		if slot-o.first < errorPast+errorWindow || slot-o.newest > errorWindow {
			continue
		}
		n, spread, most := o.now(slot)
		if n < errorLeast || spread < errorSpread || n <= errorTimes*most {
			o.begun = 0
			continue
		}
		if traced == nil {
			traced = a.traced()
		}
		if traced[id] {
			continue
		}
		// The score of n events where a Poisson process of the worst minute's rate is the rule.
		rate := max(most, 1)
		z := math.Sqrt(2 * (n*math.Log(n/rate) - (n - rate)))
		if z < report {
			continue
		}
		if o.begun == 0 {
			o.begun = (slot - errorWindow + 1) * errorSlot
			for s := slot - errorWindow + 1; o.slots[s%errorSlots] == 0; s++ {
				o.begun += errorSlot
			}
		}
		if z >= Alarm {
			for s := slot - errorWindow + 1; s <= slot; s++ {
				o.odd[s%errorSlots] = true
			}
		}
		t := a.tally(id)
		t.squares += z * z
		t.suspect.Hurt += int(n)
		t.suspect.Since = o.begun
		a.signal(t, Signal{Kind: Errors, Z: z, Template: o.template, Before: Ratio{most, most}, Now: Ratio{n, n}})
	}
}

// traced are the services of which there are spans.
func (a *Analyzer) traced() map[record.EntityID]bool {
	out := map[record.EntityID]bool{}
	for _, o := range a.operations {
		out[o.service] = true
	}
	return out
}
