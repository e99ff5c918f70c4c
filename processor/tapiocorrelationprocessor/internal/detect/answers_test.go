package detect

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestAnswers(t *testing.T) {
	const s = int64(time.Second)
	start := int64(1_700_000_000) * s
	a := NewAnswers()
	assert.False(t, a.Any(1))
	assert.False(t, a.Between(1, 0, start))
	a.Add(1, start)
	a.Add(1, start+100*s)
	assert.True(t, a.Any(1))
	assert.False(t, a.Any(2))
	assert.True(t, a.Between(1, start-s, start), "the first")
	assert.False(t, a.Between(1, start, start+99*s), "none between")
	assert.True(t, a.Between(1, start, start+100*s))
	assert.False(t, a.Between(1, start+100*s, start+200*s), "none after")

	a.Add(1, start+50*s) // late
	assert.True(t, a.Between(1, start, start+99*s))
	a.Add(1, start+10_000*s) // much later: the circle has gone round
	assert.False(t, a.Between(1, start-s, start+9_999*s))
	assert.True(t, a.Between(1, start, start+10_000*s))
	a.Add(1, start) // too late to be remembered
	assert.False(t, a.Between(1, start-s, start+s))

	a.Sweep(start + 10_001*s)
	assert.False(t, a.Any(1))
}

func TestPauses(t *testing.T) {
	const sec = int64(time.Second)
	a := NewAnswers()
	for _, at := range []int64{100, 104, 120} {
		a.Add(1, at*sec)
	}
	for _, c := range []struct {
		after, until int64
		want         bool
	}{
		{100, 104, false}, {100, 110, false}, {100, 115, true}, {104, 120, true}, {115, 125, false}, {120, 140, true}, {90, 99, false}, {80, 99, true},
	} {
		assert.Equal(t, c.want, a.Pauses(1, c.after*sec, c.until*sec, 10*time.Second), "%d to %d", c.after, c.until)
	}
	assert.True(t, a.Pauses(2, 100*sec, 111*sec, 10*time.Second), "nothing is known of it")
	assert.False(t, a.Pauses(2, 100*sec, 105*sec, 10*time.Second))
}
