package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/slo"
)

func TestQuietResolves(t *testing.T) {
	s := newScenario(t)
	oomOf("cgroup")(s)
	open := s.one()
	require.Equal(t, finding.StateOpen, open.State)
	s.wait(4 * time.Minute)
	require.Equal(t, finding.StateOpen, s.one().State, "quiet for less than resolve_after")
	s.wait(2 * time.Minute)

	f := s.one()
	assert.Equal(t, open.ID, f.ID)
	require.Equal(t, finding.StateResolved, f.State)
	require.NotNil(t, f.ResolvedAt)
	assert.Equal(t, open.UpdatedAt, *f.ResolvedAt, "over since its last effect, not since the quiet was long enough")
	assert.Equal(t, open.Impact, f.Impact)
	revisions := len(s.findings)
	s.wait(time.Hour)
	assert.Len(t, s.findings, revisions, "nothing more to say")
}

func TestSameCauseReopens(t *testing.T) {
	s := newScenario(t, func(o *Options) { o.Quiet = 30 * time.Second })
	oomOf("cgroup")(s)
	s.wait(time.Minute)
	before := s.one()
	require.Equal(t, finding.StateResolved, before.State)
	s.refusals(5, "late")
	s.wait(5 * time.Second)

	f := s.one()
	assert.Equal(t, before.ID, f.ID)
	assert.Equal(t, finding.StateOpen, f.State)
	assert.Nil(t, f.ResolvedAt)
	assert.EqualValues(t, 15, f.Impact.FailedRequests)
	s.wait(time.Minute)
	assert.Equal(t, finding.StateResolved, s.one().State)
}

func TestRevisionsCountUpAtMostOneASecond(t *testing.T) {
	s := newScenario(t)
	oomOf("cgroup")(s)
	s.refusals(200, "u") // 20 s
	for i, f := range s.findings {
		assert.Equal(t, i+1, f.Revision)
	}
	assert.LessOrEqual(t, len(s.findings), 35, "a revision a second, not one a request")
}

// A failure that lasts: the numbers of a finding come the less often, the longer it is open;
// what else changes comes at once, and nothing is lost at the end.
func TestRevisionsOfAFailureThatLasts(t *testing.T) {
	s := newScenario(t)
	oomOf("cgroup")(s) // with ten refusals
	s.refusals(100, "u")
	for range 20 * 60 {
		s.refusals(1, "u")
		s.wait(900 * time.Millisecond)
	}
	id := s.one().ID
	n := len(s.findings)
	assert.Less(t, n, 20*60/3, "a sixtieth of its age apart")
	assert.Greater(t, n, 60, "at least every 30 s, and every second at first")
	last := s.one()
	assert.InDelta(t, 20*60+110, last.Impact.FailedRequests, 40, "late by 20 s at most")
	s.wait(time.Hour)
	last = s.one()
	assert.Equal(t, id, last.ID)
	assert.Equal(t, finding.StateResolved, last.State)
	assert.EqualValues(t, 20*60+110, last.Impact.FailedRequests)
}

func TestNewsOfARevision(t *testing.T) {
	none := explain.Shown{}
	last := gist{"p", "e", 1, false, false, none, 0.9}
	assert.False(t, last.news(last))
	assert.False(t, gist{"p", "e", 1, false, false, none, 0.905}.news(last))
	for _, g := range []gist{
		{"q", "e", 1, false, false, none, 0.9},
		{"p", "f", 1, false, false, none, 0.9},
		{"p", "e", 2, false, false, none, 0.9},
		{"p", "e", 1, true, false, none, 0.9},
		{"p", "e", 1, false, true, none, 0.9},
		{"p", "e", 1, false, false, none, 0.92},
		{"p", "e", 1, false, false, explain.Shown{Over: 1}, 0.9},
		{"p", "e", 1, false, false, explain.Shown{Event: &detect.Occurrence{}}, 0.9},
	} {
		assert.True(t, g.news(last), g)
	}
}

func TestRetryThatSucceedsHurtsNobody(t *testing.T) {
	s := newScenario(t)
	s.healthy(5 * time.Second)
	s.exit(payment, exit2)
	for range 10 {
		s.wait(100 * time.Millisecond)
		s.retried()
	}
	s.wait(10 * time.Second)
	for _, f := range s.latest() {
		assert.Zero(t, f.Impact.FailedRequests, f.Summary)
	}

	s = newScenario(t) // the kill is a finding by itself; the requests are still not hurt
	s.healthy(5 * time.Second)
	s.oom(payment)
	s.exit(payment, killed)
	for range 10 {
		s.wait(100 * time.Millisecond)
		s.retried()
	}
	s.wait(10 * time.Second)
	f := s.one()
	assert.Zero(t, f.Impact.FailedRequests)
	assert.Nil(t, f.Impact.Users)
	assert.Nil(t, f.Impact.Value)
}

// retried sends a request whose first call to payment is refused and whose second
// one, to another instance, succeeds.
func (s *scenario) retried() {
	s.serial++
	trace := id16(fmt.Sprint("retried", s.serial))
	root, server := id8(fmt.Sprint("root", s.serial)), id8(fmt.Sprint("server", s.serial))
	s.attempt(trace, server, fmt.Sprint("first", s.serial), refused)
	s.attempt(trace, server, fmt.Sprint("second", s.serial), "")
	end := s.clock.Add(2 * time.Millisecond)
	_, td := newSpan(storefront, trace, server, root, "POST /storefront", spanServer, end.Add(-9*time.Millisecond), end)
	s.deliver(item{traces: td})
	sp, td := newSpan(load, trace, root, noParent, "POST", spanClient, end.Add(-10*time.Millisecond), end.Add(time.Millisecond))
	sp.Attributes().PutStr("user.id", "u")
	sp.Attributes().PutDouble("order.amount", 10)
	s.deliver(item{traces: td})
}

func TestHealthyHourHasNoFinding(t *testing.T) {
	if testing.Short() {
		t.Skip("an hour of event time takes seconds")
	}
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			random := rand.New(rand.NewPCG(seed, 42))
			for range 60 * 60 * 5 {
				took := time.Duration(3e6 * math.Exp(random.NormFloat64()*0.5)) // log-normal around 3 ms
				status := 200
				if random.Float64() < 0.01 {
					status = 500
				}
				s.send(failing(status, took))
				s.wait(200 * time.Millisecond)
			}
			for _, f := range s.latest() {
				t.Errorf("%s: %s", f.Pattern, f.Summary)
			}
		})
	}
}

// recorded is a tape of an out-of-memory kill with traffic before and after it.
func recorded(t *testing.T) []item {
	s := newScenario(t)
	s.recording = true
	s.healthy(5 * time.Second)
	s.oom(payment)
	s.wait(10 * time.Millisecond)
	s.exit(payment, killed)
	s.wait(500 * time.Millisecond)
	s.refusals(30, "u")
	return s.tape
}

// play delivers a tape, each item up to jitter late, and lets the incident end.
func play(t *testing.T, tape []item, jitter time.Duration, seed uint64) *finding.Finding {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 7))
	tape = slices.Clone(tape)
	for i := range tape {
		if jitter > 0 {
			tape[i].at = tape[i].at.Add(time.Duration(random.Int64N(int64(jitter))))
		}
	}
	slices.SortStableFunc(tape, func(a, b item) int { return a.at.Compare(b.at) })
	s := newScenario(t)
	for _, x := range tape {
		s.wait(x.at.Sub(s.clock))
		s.deliver(x)
	}
	s.wait(10 * time.Minute)
	return s.one()
}

// sameFinding compares what a replay must reproduce: everything but the times of
// detection and how many revisions it took.
func sameFinding(t *testing.T, want, got *finding.Finding) {
	t.Helper()
	assert.Equal(t, want.ID, got.ID)
	assert.Equal(t, want.Pattern, got.Pattern)
	assert.Equal(t, want.Title, got.Title)
	assert.Equal(t, want.Summary, got.Summary)
	assert.Equal(t, want.StartedAt, got.StartedAt)
	assert.Equal(t, want.ResolvedAt, got.ResolvedAt)
	assert.Equal(t, want.RootCause, got.RootCause)
	assert.Equal(t, want.Impact, got.Impact)
	assert.Equal(t, want.Actions, got.Actions)
	type step struct {
		key, parent, title string
		at, last           time.Time
		count              int64
	}
	steps := func(f *finding.Finding) (out []step) {
		for _, l := range f.Chain {
			out = append(out, step{l.Key, l.Parent, l.Title, l.Time, l.Last, l.Count})
		}
		return out
	}
	assert.Equal(t, steps(want), steps(got))
}

func TestReplayIsTheSame(t *testing.T) {
	tape := recorded(t)
	want := play(t, tape, 0, 0)
	assert.EqualValues(t, 30, want.Impact.FailedRequests)
	assert.Equal(t, want, play(t, tape, 0, 0), "the same tape, twice: the same to the last field")
}

func TestOrderOfArrivalDoesNotMatter(t *testing.T) {
	tape := recorded(t)
	want := play(t, tape, 0, 0)
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			got := play(t, tape, 300*time.Millisecond, seed)
			sameFinding(t, want, got)
			assertCausal(t, got)
		})
	}
}

// A refused call now and then is no incident: only what lies within the window adds up.
func TestRareRefusalsDoNotAddUp(t *testing.T) {
	s := newScenario(t)
	for range 10 {
		s.healthy(time.Second)
		s.refusals(1, "u")
		s.wait(4 * time.Minute)
	}
	for _, f := range s.latest() {
		t.Errorf("%s since %s: %s", f.Pattern, f.StartedAt, f.Summary)
	}
}

// TestStakes: a finding says how critical the services are that it is about, and
// how fast the budgets of their objectives go.
func TestStakes(t *testing.T) {
	s := newScenario(t, func(o *Options) {
		o.Objectives = []slo.Objective{{Service: "storefront", Target: 0.99}, {Service: "ledger", Target: 0.99}}
	})
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	storefront.resource(rl.Resource())
	rl.Resource().Attributes().PutStr(event.KeyServiceCriticality, "high")
	r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	r.SetTimestamp(pcommon.NewTimestampFromTime(s.clock))
	s.deliver(item{logs: ld})
	dies(exit2)(s)
	f := s.one()
	assert.Equal(t, "high", f.Impact.Criticality)
	require.Len(t, f.Impact.Objectives, 1, "ledger was not hurt")
	o := f.Impact.Objectives[0]
	assert.Equal(t, "storefront", o.Service)
	assert.InDelta(t, 60, o.Requests, 0)
	assert.InDelta(t, 10, o.Bad, 0)
	assert.Greater(t, o.Burn, 1.0)
}
