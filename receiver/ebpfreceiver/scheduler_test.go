package ebpfreceiver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// waitsOf are waits of the same length.
func waitsOf(count uint64, each, interval time.Duration) *runQueueEvent {
	ev := &runQueueEvent{interval: interval, waits: histogram{count: count, total: time.Duration(count) * each}}
	slot := 0
	for slot < histogramSlots-1 && slotStart(slot+1) <= each {
		slot++
	}
	ev.waits.slots[slot] = uint32(count)
	return ev
}

// TestFewWaitsOfShortSamples: a few waits in each second, and long ones, are judged by those
// of several seconds together.
func TestFewWaitsOfShortSamples(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		interval time.Duration
		count    uint64
		// within is how many samples it takes at most until it starves, 0 that it never does.
		within int
	}{
		"each second enough":               {time.Second, 60, 2},
		"each second a few":                {time.Second, 8, 14},
		"each second too few":              {time.Second, 4, 0},
		"each ten seconds enough":          {10 * time.Second, 60, 2},
		"each ten seconds a few":           {10 * time.Second, 40, 0},
		"each six seconds too few for two": {6 * time.Second, 40, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w waiting
			for range baselineMin { // usual: short waits
				w.judge(waitsOf(100, 100*time.Microsecond, tc.interval))
			}
			starved := 0
			for n := 1; n <= 40 && starved == 0; n++ {
				each := tc.interval / time.Duration(tc.count) // one waits all the time
				ev := waitsOf(tc.count, each, tc.interval)
				if w.judge(ev); ev.isStarved {
					starved = n
					assert.InDelta(t, 1, ev.share(), 0.01)
					assert.GreaterOrEqual(t, ev.waits.count, uint64(fewSwitches))
				}
			}
			if tc.within == 0 {
				assert.Zero(t, starved)
			} else {
				assert.NotZero(t, starved)
				assert.LessOrEqual(t, starved, tc.within)
			}
		})
	}
}

// TestRestEndsFewWaits: waits before nothing waited are not added to those after it.
func TestRestEndsFewWaits(t *testing.T) {
	t.Parallel()
	var w waiting
	w.judge(waitsOf(fewSwitches-1, time.Millisecond, time.Second))
	w.rest()
	ev := waitsOf(fewSwitches-1, time.Millisecond, time.Second)
	w.judge(ev)
	assert.EqualValues(t, fewSwitches-1, w.few.count)
	assert.Equal(t, time.Second, w.over)
}
