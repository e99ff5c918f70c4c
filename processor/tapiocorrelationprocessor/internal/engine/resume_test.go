package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/emit"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/gauge"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

const self = "tapiocorrelation"

// kept is a scenario whose findings are kept.
func kept(t *testing.T, change ...func(*Options)) *scenario {
	t.Helper()
	s := newScenario(t, change...)
	s.engine.goOn(self, nil)
	return s
}

// stored is what a store holds: the last revision of each finding that is not over, as
// it left, and what was handed over beside it.
func (s *scenario) stored() []*finding.Finding {
	s.t.Helper()
	byID := map[finding.ID]*finding.Finding{}
	for i, ld := range s.logs {
		rl := ld.ResourceLogs().At(0)
		f, err := finding.FromLog(rl.Resource(), rl.ScopeLogs().At(0).LogRecords().At(0))
		require.NoError(s.t, err)
		f.Resume = s.findings[i].Resume
		byID[f.ID] = f
	}
	var open []*finding.Finding
	for _, f := range byID {
		if !f.State.Over() {
			require.NotEmpty(s.t, f.Resume)
			open = append(open, f)
		}
	}
	return open
}

// restart forgets all but what is stored, after a time without a collector.
func (s *scenario) restart(down time.Duration, change ...func(*Options)) (resumed, ended int) {
	s.t.Helper()
	left := s.stored()
	s.clock = s.clock.Add(down)
	o := s.options
	var err error
	o.Gauges, err = gauge.New(gauge.Options{MaxSeries: 1000, Horizon: gauge.DefaultHorizon})
	require.NoError(s.t, err)
	for _, f := range change {
		f(&o)
	}
	s.engine = New(o)
	s.engine.sink = s
	return s.engine.goOn(self, left)
}

// failures are ways to break the shop that leave one finding open.
var failures = map[string]func(*scenario){
	"killed for want of memory": oomOf("cgroup"),
	"crashed": func(s *scenario) {
		s.healthy(5 * time.Second)
		s.exit(payment, exit2)
		s.connectFailed(storefront, payment)
		s.refusals(10, "u")
		s.wait(5 * time.Second)
	},
	"refused, who knows why": func(s *scenario) {
		s.healthy(5 * time.Second)
		s.refusals(10, "u")
		s.wait(5 * time.Second)
	},
	"in a container": func(s *scenario) {
		s.inContainer(payment, 1, event.ProcessExec, nil)
		s.healthy(5 * time.Second)
		s.inContainer(payment, 1, event.ProcessExit, exit2)
		s.refusals(10, "u")
		s.wait(5 * time.Second)
	},
}

func TestRestartGoesOnWithTheSameFinding(t *testing.T) {
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := kept(t)
			fail(s)
			before := s.one()
			resumed, ended := s.restart(time.Minute)
			require.Equal(t, []int{1, 0}, []int{resumed, ended})
			n := len(s.findings)
			s.wait(10 * time.Second)
			require.Len(t, s.findings, n, "a restart is no news")

			s.refusals(5, "u")
			s.refusals(1, "late")
			s.wait(5 * time.Second)
			f := s.one()
			assert.Equal(t, before.ID, f.ID)
			assert.Greater(t, f.Revision, before.Revision)
			assert.Equal(t, finding.StateOpen, f.State)
			assert.Equal(t, before.RootCause, f.RootCause)
			assert.Equal(t, before.Title, f.Title)
			assert.Equal(t, before.StartedAt, f.StartedAt)
			assert.Equal(t, before.DetectedAt, f.DetectedAt)
			assert.Equal(t, before.Actions.ShortTerm, f.Actions.ShortTerm)
			assert.Equal(t, before.Missing, f.Missing)
			assert.InDelta(t, before.Confidence.Score, f.Confidence.Score, 0.01)
			assert.EqualValues(t, before.Impact.FailedRequests+6, f.Impact.FailedRequests)
			assert.EqualValues(t, *before.Impact.Users+1, *f.Impact.Users, "those who were counted before are not counted again")
			assert.InDelta(t, *before.Impact.Value+60, *f.Impact.Value, 1e-9)
			assert.Equal(t, before.Impact.ValueRequests+6, f.Impact.ValueRequests)
			assert.Equal(t, f.Impact.FailedRequests, f.Impact.ValueRequests, "all carry it")
			require.Len(t, f.Impact.Gaps, 1, "nobody counted meanwhile")
			assert.Equal(t, time.Minute, f.Impact.Gaps[0].To.Sub(f.Impact.Gaps[0].From).Round(10*time.Second))
			assert.Contains(t, f.Summary, " may be missing: no collector ran")
			require.Len(t, f.Chain, len(before.Chain))
			for i := range f.Chain {
				assert.Equal(t, before.Chain[i].Key, f.Chain[i].Key)
				assert.Equal(t, before.Chain[i].Parent, f.Chain[i].Parent)
				assert.Equal(t, before.Chain[i].LinkedOn, f.Chain[i].LinkedOn)
			}
			assert.Len(t, f.Rejected, len(before.Rejected))
			assertCausal(t, f)
			assertSpansOnce(t, s)

			s.wait(6 * time.Minute)
			f = s.one()
			assert.Equal(t, finding.StateResolved, f.State)
			assert.Equal(t, "No further effect was seen for 5m0s.", f.Ending)
			assert.Empty(t, f.Resume)
			assert.Empty(t, s.stored())
		})
	}
}

// assertSpansOnce: backends do not replace spans, so none leaves twice.
func assertSpansOnce(t *testing.T, s *scenario) {
	t.Helper()
	seen := map[string]bool{}
	for _, td := range s.traces {
		for _, rs := range td.ResourceSpans().All() {
			for _, sp := range rs.ScopeSpans().At(0).Spans().All() {
				key := sp.TraceID().String() + sp.SpanID().String()
				assert.False(t, seen[key], "%s leaves twice", sp.Name())
				seen[key] = true
			}
		}
	}
}

func TestWhatIsNotSeenAfterARestartEnds(t *testing.T) {
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := kept(t)
			fail(s)
			before := s.one()
			pass := s.healthy
			if before.Pattern == "connection-refused" { // calls that succeed would say that it is over
				pass = s.wait
			}
			s.restart(10 * time.Minute) // longer than resolve_after: nobody watched
			started := s.clock
			pass(4 * time.Minute)
			require.Equal(t, finding.StateOpen, s.one().State, "watched for less than resolve_after")
			pass(2 * time.Minute)
			f := s.one()
			assert.Equal(t, before.ID, f.ID)
			assert.Equal(t, finding.StateResolved, f.State)
			assert.Equal(t, "Nothing of it was seen in the 5m0s since the collector started again at "+pattern.Clock(started.UnixNano())+
				"; it may have ended while the collector was down.", f.Ending)
			assert.Equal(t, before.UpdatedAt, *f.ResolvedAt, "over since its last effect, as far as is known")
			assert.Len(t, f.Impact.Gaps, 1)
			before.Impact.Gaps = f.Impact.Gaps
			assert.Equal(t, before.Impact, f.Impact)
		})
	}
}

func TestARequestIsCountedOnceOverARestart(t *testing.T) {
	s := kept(t)
	oomOf("cgroup")(s)
	before := s.one()
	s.restart(0)
	s.serial -= 3 // the last three, sent again by an exporter that got no answer
	s.refusals(3, "u")
	s.wait(5 * time.Second)
	assert.Len(t, s.one().Impact.Gaps, 1)
	before.Impact.Gaps = s.one().Impact.Gaps
	assert.Equal(t, before.Impact, s.one().Impact)
}

func TestTheSameEventAfterARestartIsNoOtherOne(t *testing.T) {
	s := kept(t)
	s.healthy(5 * time.Second)
	at := s.clock
	crash := func() { s.kernel(payment, event.ProcessExit, at, exit2) }
	crash()
	s.refusals(10, "u")
	s.wait(5 * time.Second)
	before := s.one()
	s.restart(time.Second)
	crash() // a receiver that reads from where it had stopped
	s.refusals(1, "u")
	s.wait(5 * time.Second)
	f := s.one()
	assert.Equal(t, before.ID, f.ID)
	assert.EqualValues(t, 1, f.Chain[0].Count)
}

func TestACrashLoopGoesOnOverARestart(t *testing.T) {
	s := kept(t)
	oomOf("cgroup")(s)
	before := s.one()
	s.restart(time.Second)
	again := payment.withPID(112)
	s.send(order{"u", 1, &call{from: storefront, to: again, took: 8 * time.Millisecond, status: 200}})
	s.wait(time.Second)
	s.oom(again)
	s.wait(10 * time.Millisecond)
	s.exit(again, killed)
	s.refusals(5, "u")
	s.wait(5 * time.Second)
	f := s.one()
	assert.Equal(t, before.ID, f.ID)
	assert.EqualValues(t, 2, f.Chain[0].Count)
	assert.EqualValues(t, 15, f.Impact.FailedRequests)
}

func TestWhoAnswersAfterARestartIsWellAgain(t *testing.T) {
	s := kept(t)
	oomOf("cgroup")(s)
	s.restart(time.Minute)
	s.healthy(5 * time.Second)
	s.refusals(1, "u")
	s.wait(5 * time.Second)
	assert.EqualValues(t, 10, s.latest()[0].Impact.FailedRequests, "payment had answered meanwhile")
}

func TestTheRealCauseComesAfterARestart(t *testing.T) {
	s := kept(t)
	s.healthy(5 * time.Second)
	died := s.clock
	s.refusals(10, "u")
	s.wait(2 * time.Second)
	before := s.one()
	require.Equal(t, "connection-refused", before.Pattern)
	s.restart(time.Second)
	s.kernel(payment, event.ProcessExit, died, exit2)
	s.refusals(1, "u")
	s.wait(5 * time.Second)
	f := s.one()
	assert.Equal(t, before.ID, f.ID)
	assert.Equal(t, "process-crashed", f.Pattern)
	require.Len(t, f.EarlierCauses, 1)
	assert.Equal(t, before.Title, f.EarlierCauses[0].Title)
	s.restart(time.Second)
	s.refusals(1, "u")
	s.wait(5 * time.Second)
	assert.Equal(t, f.EarlierCauses, s.one().EarlierCauses)
	assert.EqualValues(t, 11, f.Impact.FailedRequests)
}

func TestWarningsOverARestart(t *testing.T) {
	warned := func(t *testing.T) *scenario {
		s := kept(t)
		s.healthy(5 * time.Second)
		s.growth(0.78, 450)
		s.healthy(5 * time.Second)
		require.Equal(t, finding.StatePredicted, s.one().State)
		resumed, _ := s.restart(time.Minute)
		require.Equal(t, 1, resumed)
		return s
	}
	t.Run("comes true", func(t *testing.T) {
		t.Parallel()
		s := warned(t)
		before := s.one()
		s.growth(0.95, 100)
		s.healthy(5 * time.Second)
		s.oom(payment)
		s.wait(10 * time.Millisecond)
		s.exit(payment, killed)
		s.refusals(10, "u")
		s.wait(5 * time.Second)
		f := s.one()
		assert.Equal(t, before.ID, f.ID)
		assert.Equal(t, finding.StateOpen, f.State)
	})
	t.Run("is taken back", func(t *testing.T) {
		t.Parallel()
		s := warned(t)
		s.healthy(13 * time.Minute)
		assert.Equal(t, finding.StateWithdrawn, s.one().State)
		assert.Equal(t, "The process has not grown any more.", s.one().Ending)
	})
}

// TestWarningOfAMetricOverARestart: metrics have a new past after a restart.
func TestFullDiskWarningOverARestart(t *testing.T) {
	s := kept(t)
	s.healthy(5 * time.Second)
	s.grow(30, steady)
	s.healthy(time.Second)
	s.grow(14, leak)
	before := s.latest()
	require.Len(t, before, 1)
	require.Equal(t, finding.StatePredicted, before[0].State)
	s.restart(time.Second)
	s.wait(29 * time.Minute)
	require.Equal(t, finding.StatePredicted, s.one().State)
	s.wait(2 * time.Minute)
	assert.Equal(t, finding.StateWithdrawn, s.one().State)
	assert.Equal(t, "It was not predicted again in the 30m0s since the collector started again.", s.one().Ending)
}

func TestWhatVisitsToldOfIsNotSaidToBeWellAfterARestart(t *testing.T) {
	s := kept(t)
	bad := func(int) stay { v := usual(); v.says = v.says[:2]; return v }
	s.stays(5*time.Minute, func(int) stay { return usual() })
	s.stays(30*time.Second, bad)
	require.Equal(t, finding.StateOpen, s.one().State)
	s.restart(time.Second)
	s.stays(3*time.Minute, bad) // what is normal was forgotten
	require.Equal(t, finding.StateOpen, s.one().State)
	s.stays(3*time.Minute, bad)
	assert.Equal(t, finding.StateResolved, s.one().State)
	assert.Contains(t, s.one().Ending, "which forgot what is normal there: whether it is over is not known.")
}

func TestFindingsThatCannotBeFollowedEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		down   time.Duration
		change func(*Options)
		want   string
	}{
		"away for long":  {31 * time.Minute, func(*Options) {}, "later than the retention of 30m0s: whether it went on is not known."},
		"no such cause":  {0, func(o *Options) { o.Patterns = nil }, "does not know its pattern any more."},
		"too many":       {0, func(o *Options) { o.MaxIncidents = 0 }, "follows fewer incidents now"},
		"changed effect": {0, changedPattern, "cannot follow it any more: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := kept(t)
			oomOf("cgroup")(s)
			before := s.one()
			resumed, ended := s.restart(tt.down, tt.change)
			require.Equal(t, []int{0, 1}, []int{resumed, ended})
			f := s.one()
			assert.Equal(t, before.Revision+1, f.Revision)
			assert.Equal(t, finding.StateResolved, f.State)
			assert.Contains(t, f.Ending, tt.want)
			assert.Equal(t, before.UpdatedAt, *f.ResolvedAt)
			assert.Equal(t, before.Chain, f.Chain)
			assertSpansOnce(t, s)
			last := s.traces[len(s.traces)-1]
			require.Equal(t, 1, last.SpanCount())
			assert.Equal(t, emit.SpanResolved, firstSpan(last).Name())
		})
	}
}

func firstSpan(td ptrace.Traces) ptrace.Span {
	return td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
}

// changedPattern is the library of another version, in which the kill has other effects.
func changedPattern(o *Options) {
	patterns := make([]*pattern.Pattern, len(o.Patterns))
	for i, p := range o.Patterns {
		changed := *p
		if p.ID == "memory-limit-oom-kill" {
			changed.Effects = changed.Effects[1:]
		}
		patterns[i] = &changed
	}
	o.Patterns = patterns
}

func TestFindingsOfOthersAreLeftAlone(t *testing.T) {
	s := kept(t)
	oomOf("cgroup")(s)
	left := s.stored()
	e := New(s.options)
	e.sink = s
	n := len(s.findings)
	resumed, ended := e.goOn("tapiocorrelation/other", left)
	assert.Zero(t, resumed+ended)
	left[0].Resume = "{"
	resumed, ended = e.goOn(self, left)
	assert.Zero(t, resumed+ended)
	assert.Len(t, s.findings, n)
}

// TestDamageOfWhatWasKept: whatever the file holds, the engine starts.
func TestDamageOfWhatWasKept(t *testing.T) {
	s := kept(t)
	oomOf("cgroup")(s)
	whole := s.stored()[0]
	for i := range 200 {
		f := *whole
		b := []byte(whole.Resume)
		at := (i * 7919) % len(b)
		b[at] ^= byte(1 + i%31)
		f.Resume = string(b)
		e := New(s.options)
		e.sink = s
		e.goOn(self, []*finding.Finding{&f})
		for range 3 {
			e.Drain()
			e.Advance()
		}
	}
	for _, resume := range []string{
		`{"processor":"tapiocorrelation"}`, `{"processor":"tapiocorrelation","version":1}`, `{"processor":"tapiocorrelation","version":99,"known":[{}]}`,
		`{"processor":"tapiocorrelation","version":1,"known":[{}],"hypothesis":{"event":"tapio.oom.kill","entity":-1}}`,
	} {
		f := *whole
		f.Resume = resume
		e := New(s.options)
		e.sink = s
		resumed, ended := e.goOn(self, []*finding.Finding{&f})
		assert.Equal(t, "0 1", fmt.Sprint(resumed, ended), resume)
	}
}

func TestWithoutAStoreRevisionsCarryNothing(t *testing.T) {
	s := newScenario(t)
	oomOf("cgroup")(s)
	assert.Empty(t, s.one().Resume)
}

// TestUnitFailsAnewAfterARestart: of a unit that was given up and mended before the
// collector started again, the next failure is one of its own.
func TestUnitFailsAnewAfterARestart(t *testing.T) {
	const payments = "payments.service"
	limit := map[string]any{"tapio.systemd.unit.restarts": 5, event.KeyErrorType: "start-limit-hit"}
	gives := func(s *scenario, code int, log ...string) {
		s.unit(payments, payment, "failed", map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: code})
		for _, what := range log {
			s.unit(payments, service{}, what, nil)
		}
		s.refusals(10, "u")
		s.wait(3 * time.Second)
		s.unit(payments, payment, "failed", map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: code})
		s.unit(payments, service{}, "start_limit_hit", limit)
		s.wait(5 * time.Second)
	}
	for name, back := range map[string]time.Duration{"mended a moment before": 5 * time.Second, "mended long before": 30 * time.Second, "it is over": 50 * time.Second} {
		t.Run(name, func(t *testing.T) {
			s := kept(t)
			s.healthy(5 * time.Second)
			gives(s, 3)
			s.unit(payments, payment, "activated", nil)
			mended := s.clock
			s.healthy(back)
			require.Equal(t, finding.StateMended, s.one().State)
			s.restart(3 * time.Second)
			s.wait(15 * time.Second)
			gives(s, 203, "exec_failed")
			all := s.latest()
			require.Len(t, all, 2)
			for n, code := range []int64{3, 203} {
				assert.Equal(t, "unit-start-limit", all[n].Pattern)
				assert.EqualValues(t, code, all[n].RootCause.Evidence[event.KeyProcessExitCode])
			}
			assert.True(t, all[1].StartedAt.After(mended), all[1].StartedAt)
			assert.NotEqual(t, finding.StateMended, all[1].State)
		})
	}
}
