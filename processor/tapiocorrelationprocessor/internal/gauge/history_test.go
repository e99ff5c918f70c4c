package gauge

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

// A hundred hours of samples: the peaks of the last 80 minutes and of 26 hours before
// them remain, in order, in a few hundred bytes.
func TestHistory(t *testing.T) {
	var h history
	var none *history
	assert.Empty(t, none.samples(nil))
	for i := range 100 * 120 {
		value := float32(100)
		if i%600 == 7 {
			value = 900 // a peak every five hours
		}
		h.add(sample{at: noon.Add(time.Duration(i) * 30 * time.Second).UnixNano(), value: value})
	}
	got := h.samples(nil)
	assert.Len(t, got, maxHistory)
	var peaks int
	for i, s := range got {
		if i > 0 {
			assert.Greater(t, s.at, got[i-1].at)
		}
		if s.value == 900 {
			peaks++
		}
	}
	assert.Equal(t, 5, peaks)
	span := time.Duration(got[len(got)-1].at - got[0].at)
	assert.Greater(t, span, 25*time.Hour)
	assert.Less(t, span, 29*time.Hour)
	assert.LessOrEqual(t, unsafe.Sizeof(h), uintptr(352))
}
