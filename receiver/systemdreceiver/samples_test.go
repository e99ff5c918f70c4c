package systemdreceiver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/unit"
)

func TestTakeTurns(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c", "d", "e"}
	assert.Equal(t, names, takeTurns(names, "c", 5))
	assert.Equal(t, []string{"a", "b"}, takeTurns(names, "", 2))
	assert.Equal(t, []string{"d", "e", "a"}, takeTurns(names, "c", 3))
	assert.Equal(t, []string{"d", "e", "a"}, takeTurns(names, "cc", 3), "it is gone")
	assert.Equal(t, []string{"a", "b", "c"}, takeTurns(names, "e", 3))
}

func TestServices(t *testing.T) {
	t.Parallel()
	tracker := unit.NewTracker(time.Minute, 10)
	for name, sub := range map[string]string{"b.service": "running", "a.service": "running", "c.service": "exited", "d.mount": "running"} {
		tracker.Changed(name, map[string]any{"ActiveState": "active", "SubState": sub}, time.Now())
	}
	assert.Equal(t, []string{"a.service", "b.service"}, services(tracker))
}
