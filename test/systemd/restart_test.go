package systemd

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestStoppedWhileTelling: the collector is stopped and started again in the middle of
// units that fail one after the other. Each failure is told, and none twice.
func TestStoppedWhileTelling(t *testing.T) {
	const units, rounds = 60, 4
	m := boot(t, func(m *machine) {
		m.units = map[string]string{"bursts@.service": "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'sleep 0.%i; exit 3'\n"}
	})
	c := newCollector(t, m, 0)
	c.start(t)
	for round := range rounds {
		names := make([]string, units)
		for i := range names { // sleeps of 0.20 to 0.79 s
			names[i] = fmt.Sprintf("bursts@%d%d.service", 20+i, round)
		}
		m.systemctl(append([]string{"start", "--no-block"}, names...)...)
		failed := func() int { return len(c.events(t, "", "tapio.systemd.unit.failed")) }
		require.Eventually(t, func() bool { return failed() >= round*units+units/3 }, 20*time.Second, 5*time.Millisecond)
		c.stop(t)
		c.start(t)
		require.Eventually(t, func() bool { return failed() >= (round+1)*units }, 20*time.Second, 50*time.Millisecond)
		for _, name := range names {
			assert.Len(t, c.events(t, name, "tapio.systemd.unit.failed"), 1, name)
		}
	}
}
