package ebpfreceiver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	now := time.Unix(1, 0)
	assert.False(t, p.isFast(now))
	p.records = paceRecords - 1
	assert.False(t, p.isFast(now))
	p.records++
	assert.True(t, p.isFast(now.Add(paceWindow)))
	assert.False(t, p.isFast(now.Add(paceWindow+1)), "that many in a longer time is not fast")
	assert.Zero(t, p.records, "a new window")
}
