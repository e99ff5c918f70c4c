package linux

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestCreationTimeStaysWhenTheClockIsSet(t *testing.T) {
	t.Parallel()
	now := int64(1000)
	c := NewClock(func() int64 { return now })
	now += int64(time.Hour)
	c.Adjust()
	assert.Equal(t, int64(1005), c.Creation(5).UnixNano())
	assert.Equal(t, int64(1005)+int64(time.Hour), c.Wall(5).UnixNano())
}
