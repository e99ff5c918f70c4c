package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// tenants are services of which most run on node1, each asked by who calls it from node9.
func tenants() []service {
	var out []service
	for i := range 6 {
		out = append(out, service{fmt.Sprintf("tenant-%d", i), "1", "node1", int64(100 + i), int64(9000 + i)})
	}
	out[5].host = "node2"
	return out
}

// serve asks all tenants, each twice a second, for a while; hurt tells which fail or are slow.
func (s *scenario) serve(d time.Duration, hurt func(tenant int) (status int, took time.Duration)) {
	from := load.on("node9")
	for range int(d / (500 * time.Millisecond)) {
		for i, to := range tenants() {
			status, took := hurt(i)
			s.send(order{call: &call{from: from, to: to, took: took, status: status}})
		}
		s.wait(500 * time.Millisecond)
	}
}

func allWell(int) (int, time.Duration) { return 200, 5 * time.Millisecond }

// failOn makes those tenants fail.
func failOn(which ...int) func(int) (int, time.Duration) {
	return func(i int) (int, time.Duration) {
		if slices.Contains(which, i) {
			return 500, 5 * time.Millisecond
		}
		return allWell(i)
	}
}

func slowOn(which ...int) func(int) (int, time.Duration) {
	return func(i int) (int, time.Duration) {
		if slices.Contains(which, i) {
			return 200, 300 * time.Millisecond
		}
		return allWell(i)
	}
}

// lasting are the findings that were not withdrawn.
func (s *scenario) lasting() []*finding.Finding {
	return slices.DeleteFunc(s.latest(), func(f *finding.Finding) bool { return f.State == finding.StateWithdrawn })
}

func (s *scenario) pressed() {
	s.about(event.K8sNodeCondition, map[string]any{event.KeyNodeCondition: "MemoryPressure", event.KeyNodeConditionStatus: "true"}, map[string]any{event.KeyNodeName: "node1"})
}

// diskSlow is what the kernel says of a device and of the cgroups that wait for it.
func (s *scenario) diskSlow(device string, whose ...int) {
	said := map[string]any{event.KeyBlockDevice: device, event.KeyBlockOperation: "READ"}
	s.about(event.BlockIOSlow, said, nil)
	for _, i := range whose {
		x := tenants()[i]
		s.kernel(x, event.BlockIOSlow, s.clock, said)
	}
}

// A cause that all of a node share is named before the services that it hurts, whichever is
// seen first.
func TestNodeIsTheCommonCause(t *testing.T) {
	for name, tc := range map[string]struct {
		want string
		play func(*scenario)
	}{
		"pressure is told first": {"node-memory-pressure", func(s *scenario) {
			s.pressed()
			s.serve(40*time.Second, failOn(0, 1, 2, 3, 4))
		}},
		"pressure is told last": {"node-memory-pressure", func(s *scenario) {
			s.serve(30*time.Second, failOn(0, 1, 2, 3, 4))
			s.pressed()
			s.serve(10*time.Second, failOn(0, 1, 2, 3, 4))
		}},
		"it hurts some of them": {"node-memory-pressure", func(s *scenario) {
			s.serve(30*time.Second, failOn(1, 3))
			s.pressed()
			s.serve(10*time.Second, failOn(1, 3))
		}},
		"its disk makes them slow": {"node-disk-slow", func(s *scenario) {
			s.diskSlow("sda", 0, 1, 2)
			s.serve(20*time.Second, slowOn(0, 1, 2))
			s.diskSlow("sda", 0, 1, 2)
			s.serve(20*time.Second, slowOn(0, 1, 2))
		}},
		"they are slow before the disk is said to be": {"node-disk-slow", func(s *scenario) {
			s.serve(30*time.Second, slowOn(0, 1, 2))
			s.diskSlow("sda", 0, 1, 2)
			s.serve(10*time.Second, slowOn(0, 1, 2))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			s.serve(2*time.Minute, allWell)
			require.Empty(t, s.findings)
			tc.play(s)
			s.wait(10 * time.Second)
			all := s.lasting()
			require.Len(t, all, 1)
			assert.Equal(t, tc.want, all[0].Pattern)
			assert.Equal(t, "node1", all[0].RootCause.Entity.Name)
			assert.NotZero(t, all[0].Impact.FailedRequests+all[0].Impact.SlowRequests)
		})
	}
}

// A node under pressure does not explain the trouble of the one service on it that has any,
// nor that of a service on another node.
func TestNodeDoesNotStealAFault(t *testing.T) {
	for name, tc := range map[string]struct {
		own        string
		play, then func(*scenario)
	}{
		"one alone, pressure first":               {"tenant-2", func(s *scenario) { s.pressed() }, func(s *scenario) { s.serve(40*time.Second, failOn(2)) }},
		"one alone, pressure last":                {"tenant-2", func(s *scenario) { s.serve(20*time.Second, failOn(2)) }, func(s *scenario) { s.pressed(); s.serve(20*time.Second, failOn(2)) }},
		"elsewhere":                               {"tenant-5", func(s *scenario) { s.pressed() }, func(s *scenario) { s.serve(40*time.Second, failOn(5)) }},
		"slow alone beside a slow disk of others": {"tenant-2", func(s *scenario) { s.diskSlow("sda", 0) }, func(s *scenario) { s.serve(40*time.Second, slowOn(2)) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			s.serve(2*time.Minute, allWell)
			tc.play(s)
			tc.then(s)
			s.wait(10 * time.Second)
			found := false
			for _, f := range s.lasting() {
				if f.RootCause.Entity.Name == tc.own {
					found = true
					assert.NotZero(t, f.Impact.FailedRequests+f.Impact.SlowRequests)
				} else {
					assert.Equal(t, "node-memory-pressure", f.Pattern)
					assert.Zero(t, f.Impact.FailedRequests, "they are not the node's")
				}
			}
			assert.True(t, found, "its own trouble is named")
		})
	}
}

// What one cause takes over from many that failed is told in the same order each time.
func TestManyTargetsReplayTheSame(t *testing.T) {
	once := func() []*finding.Finding {
		s := newScenario(t)
		s.serve(2*time.Minute, allWell)
		s.serve(10*time.Second, failOn(0, 1, 2, 3, 4))
		s.pressed()
		s.serve(10*time.Second, failOn(0, 1, 2, 3, 4))
		s.wait(10 * time.Second)
		return s.lasting()
	}
	want := once()
	require.NotEmpty(t, want)
	for range 5 {
		require.Equal(t, want, once())
	}
}
