package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

const pods = "/etc/cni/net.d/10-pods.conflist"

// breaks says that a network configuration is invalid, mends that what was said of a file
// is over.
func (s *scenario) breaks(file, reason string, line int) {
	s.said(event.CNIConfigInvalid, "Network configuration "+file+" is invalid: "+reason, map[string]any{
		event.KeyFilePath: file, event.KeyCNIReason: reason, event.KeyCNIConfigLine: line, event.KeyCNIConfigInUse: true, event.KeyErrorType: "syntax",
	})
}

func (s *scenario) goes(dir string) {
	s.said(event.CNIConfigMissing, "No network configuration in "+dir+": no pod can be set up", map[string]any{
		event.KeyFilePath: dir, event.KeyCNIConfigInUse: true,
	})
}

func (s *scenario) mends(file, what string) {
	s.said(event.CNIRecovered, "Over: "+what, map[string]any{event.KeyFilePath: file, event.KeyCNIRecovered: what})
}

// said hands over an event of the node in its own words.
func (s *scenario) said(name, body string, attrs map[string]any) {
	s.aboutIn(name, body, attrs, nil)
	s.wait(100 * time.Millisecond)
}

// sandbox says that a pod of the node gets no network.
func (s *scenario) sandbox() {
	s.about(event.K8sEvent, map[string]any{"k8s.event.reason": "FailedCreatePodSandBox"}, map[string]any{
		event.KeyPodName: "payment-7", event.KeyPodUID: "uid-7", event.KeyNamespaceName: "shop",
	})
	s.wait(100 * time.Millisecond)
}

// TestMended: a finding says at once that its cause is over, takes in who catches up, and is
// resolved when they can have.
func TestMended(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(time.Second)
	s.breaks(pods, "a comma", 2)
	s.sandbox()
	s.wait(3 * time.Second)
	require.Equal(t, finding.StateOpen, s.one().State)
	assert.Nil(t, s.one().MendedAt)
	assert.Contains(t, s.one().Actions.Immediate[0], "Mend "+pods+", line 2")

	s.mends("/etc/cni/net.d/99-other.conflist", event.CNIConfigInvalid)
	s.mends(pods, event.CNIPluginMissing)
	s.wait(2 * time.Second)
	require.Equal(t, finding.StateOpen, s.one().State, "something else is over")

	over := s.clock
	s.mends(pods, event.CNIConfigInvalid)
	s.wait(2 * time.Second)
	f := s.one()
	require.Equal(t, finding.StateMended, f.State)
	assert.WithinDuration(t, over, *f.MendedAt, 0)
	assert.Nil(t, f.ResolvedAt)
	assert.Equal(t, []string{"Nothing to do at once: the cause is over since " + over.Format("15:04:05.000") + " UTC. Watch that what it did ends, too, within 2m0s."}, f.Actions.Immediate)
	assert.Contains(t, f.RootCause.Description, "is invalid: a comma; over since "+over.Format("15:04:05.000")+" UTC.")
	assertComplete(t, f)

	s.wait(20 * time.Second)
	last := s.clock
	s.sandbox()
	s.wait(30 * time.Second)
	require.Equal(t, f.ID, s.one().ID)
	assert.Equal(t, finding.StateMended, s.one().State)
	s.wait(2 * time.Minute)
	f = s.one()
	require.Equal(t, finding.StateResolved, f.State)
	assert.WithinDuration(t, last, *f.ResolvedAt, 0, "the last that it did")
	assert.WithinDuration(t, over, *f.MendedAt, 0)
	assert.Contains(t, f.Actions.Immediate[0], "Mend "+pods, "if it happens again")
}

// TestMendedAndBrokenAgain: the finding says what is wrong now.
func TestMendedAndBrokenAgain(t *testing.T) {
	const dir = "/etc/cni/net.d"
	for name, tc := range map[string]struct {
		again func(*scenario)
		says  string
		mends func(*scenario)
		event string
		anew  bool // it was well in between
	}{
		"otherwise, in between it was well": {
			func(s *scenario) {
				s.mends(pods, event.CNIConfigInvalid)
				s.wait(20 * time.Second)
				s.breaks(pods, "a subnet", 9)
			},
			"is invalid: a subnet", func(s *scenario) { s.mends(pods, event.CNIConfigInvalid) }, event.CNIConfigInvalid, true,
		},
		"otherwise, at once": {
			func(s *scenario) { s.breaks(pods, "a subnet", 9) },
			"is invalid: a subnet", func(s *scenario) { s.mends(pods, event.CNIConfigInvalid) }, event.CNIConfigInvalid, false,
		},
		"it is gone": {
			func(s *scenario) { s.mends(pods, event.CNIConfigInvalid); s.goes(dir) },
			"No network configuration in", func(s *scenario) { s.mends(dir, event.CNIConfigMissing) }, event.CNIConfigMissing, true,
		},
		"it is gone, as one picture shows": {
			func(s *scenario) {
				s.aboutIn(event.CNIRecovered, "Over", map[string]any{event.KeyFilePath: pods, event.KeyCNIRecovered: event.CNIConfigInvalid}, nil)
				s.goes(dir)
			},
			"No network configuration in", func(s *scenario) { s.mends(dir, event.CNIConfigMissing) }, event.CNIConfigMissing, true,
		},
		"another one is, too": {
			func(s *scenario) {
				s.breaks(dir+"/11-b.conflist", "a brace", 1)
				s.mends(dir+"/11-b.conflist", event.CNIConfigInvalid)
			},
			"is invalid: a comma", func(s *scenario) { s.mends(pods, event.CNIConfigInvalid) }, event.CNIConfigInvalid, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := kept(t)
			s.healthy(time.Second)
			began := s.clock
			s.breaks(pods, "a comma", 2)
			s.sandbox()
			s.wait(3 * time.Second)
			id := s.one().ID
			tc.again(s)
			s.wait(3 * time.Second)
			f := s.one()
			assert.Equal(t, id, f.ID)
			require.Equal(t, finding.StateOpen, f.State)
			assert.Contains(t, f.RootCause.Description, tc.says)
			assert.Equal(t, tc.event, f.RootCause.Event)
			since := "On node1 since " + began.Format("15:04:05.000")
			assert.Equal(t, tc.anew, !strings.HasPrefix(f.RootCause.Description, since), f.RootCause.Description)
			assert.Contains(t, f.Summary, tc.says)

			s.restart(time.Second)
			s.sandbox()
			s.wait(2 * time.Second)
			assert.Equal(t, f.RootCause.Description, s.one().RootCause.Description, "a restart changes nothing")
			tc.mends(s)
			s.wait(2 * time.Second)
			f = s.one()
			assert.Equal(t, finding.StateMended, f.State)
			assert.Contains(t, f.RootCause.Description, tc.says)
			assert.Contains(t, f.RootCause.Description, "; over since ")
		})
	}
}

// TestMendedBeforeARestart: what is over stays so, and is resolved in its time.
func TestMendedBeforeARestart(t *testing.T) {
	t.Parallel()
	s := kept(t)
	s.healthy(time.Second)
	s.breaks(pods, "a comma", 2)
	s.sandbox()
	over := s.clock
	s.mends(pods, event.CNIConfigInvalid)
	s.wait(3 * time.Second)
	require.Equal(t, finding.StateMended, s.one().State)
	s.restart(10 * time.Second)
	s.sandbox()
	s.wait(2 * time.Second)
	assert.Equal(t, finding.StateMended, s.one().State)
	s.restart(3 * time.Minute)
	s.wait(2 * time.Second)
	f := s.one()
	assert.Equal(t, finding.StateResolved, f.State)
	assert.WithinDuration(t, over, *f.MendedAt, 0)
}

// TestToldAgainAfterARestart: those who tell of states tell of all that last when they start.
func TestToldAgainAfterARestart(t *testing.T) {
	t.Parallel()
	s := kept(t)
	s.healthy(time.Second)
	s.breaks(pods, "a comma", 2)
	s.sandbox()
	s.wait(3 * time.Second)
	s.restart(10 * time.Second)
	s.breaks(pods, "a comma", 2)
	s.wait(3 * time.Second)
	assert.NotContains(t, s.one().RootCause.Evidence, "tapio.cause.count", "it broke once")
	s.mends(pods, event.CNIConfigInvalid)
	s.wait(3 * time.Second)
	assert.Equal(t, finding.StateMended, s.one().State)
}

// TestBrokenWithoutASign: what keeps libcni from running any plugin is no operation that
// could be seen; when it lasts, it is a finding all the same.
func TestBrokenWithoutASign(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(time.Second)
	s.breaks(pods, "a comma", 2)
	s.wait(20 * time.Second)
	s.mends(pods, event.CNIConfigInvalid)
	s.wait(2 * time.Minute)
	require.Empty(t, s.latest(), "somebody was writing it")
	s.breaks(pods, "a comma", 2)
	s.wait(55 * time.Second)
	require.Empty(t, s.latest())
	s.wait(10 * time.Second)
	f := s.one()
	assert.Equal(t, "cni-config-broken", f.Pattern)
	assert.Equal(t, finding.StateOpen, f.State)
	assert.Less(t, f.Confidence.Score, 0.8, "nothing follows from it, as far as was seen")
	s.mends(pods, event.CNIConfigInvalid)
	s.wait(2 * time.Second)
	assert.Equal(t, finding.StateMended, s.one().State)
}

// TestTwoPlugins: one that is gone is not another that was gone before.
func TestTwoPlugins(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(time.Second)
	for _, plugin := range []string{"host-local", "bridge"} {
		about := map[string]any{event.KeyCNIPlugin: plugin, event.KeyCNINetwork: "pods", event.KeyCNIConfigInUse: true}
		s.said(event.CNIPluginMissing, "Network plugin "+plugin+" cannot be run", about)
		s.sandbox()
		s.wait(15 * time.Second)
		about[event.KeyCNIRecovered] = event.CNIPluginMissing
		s.said(event.CNIRecovered, "Over: "+plugin, about)
		s.wait(15 * time.Second)
	}
	all := s.latest()
	require.Len(t, all, 2)
	for n, plugin := range []string{"host-local", "bridge"} {
		assert.Contains(t, all[n].Title, plugin)
		assert.Equal(t, finding.StateMended, all[n].State)
	}
	assert.True(t, all[1].StartedAt.After(*all[0].MendedAt))
}
