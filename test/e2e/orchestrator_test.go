package e2e

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// running starts a run that would take long and waits until orders are sent.
func running(t *testing.T) *shop {
	t.Helper()
	s := startShop(t, nil, "--fault", "none", "--duration", "10m")
	poll(t, time.Minute, "report", func() bool { return s.exists("report.json") })
	return s
}

// TestInterrupt: Ctrl-C leaves nothing behind; startShop's cleanup looks.
func TestInterrupt(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			s := running(t)
			s.signal(t, sig)
			assert.Equal(t, 1, s.wait(t, 30*time.Second))
			assert.Contains(t, s.out.String(), "interrupted")
		})
	}
}

// TestOrchestratorKilled: even SIGKILL leaves no process behind. It does leave an
// empty cgroup, which the next run removes.
func TestOrchestratorKilled(t *testing.T) {
	s := running(t)
	st := s.state(t)
	require.Len(t, st.PIDs, 5)
	s.signal(t, syscall.SIGKILL)
	assert.Equal(t, -1, s.wait(t, 10*time.Second))
	poll(t, 10*time.Second, "end of all processes", func() bool {
		for _, pid := range st.PIDs {
			if syscall.Kill(pid, 0) == nil {
				return false
			}
		}
		return true
	})
	if st.Payment.Cgroup != "" {
		require.DirExists(t, st.Payment.Cgroup)
		t.Cleanup(func() { _ = os.Remove(st.Payment.Cgroup) }) // should the next run fail to
		next := running(t)
		assert.Contains(t, next.out.String(), "removed "+st.Payment.Cgroup)
		assert.NoDirExists(t, st.Payment.Cgroup)
		next.stop(30 * time.Second)
	}
}
