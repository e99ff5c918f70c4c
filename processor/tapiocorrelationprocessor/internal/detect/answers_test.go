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
