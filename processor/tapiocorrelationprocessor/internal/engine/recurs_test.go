package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/visit"
)

func TestWhatComesAndGoesIsOneIncident(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	good := func(int) stay { return usual() }
	bad := func(int) stay { v := usual(); v.says = v.says[:2]; return v }
	s.stays(5*time.Minute, good)
	require.Empty(t, s.findings)
	s.stays(30*time.Second, bad)
	first := s.one()
	assert.Equal(t, finding.StateOpen, first.State)
	s.stays(3*time.Minute, good)
	assert.Equal(t, finding.StateResolved, s.one().State, "its visits are well again, long before nothing was heard for five minutes")
	s.stays(30*time.Second, bad)
	again := s.one()
	assert.Equal(t, finding.StateOpen, again.State)
	assert.Equal(t, first.ID, again.ID)
}

// A second kill soon after the first is another round of a crash loop; one much later is
// another incident, which names the process that was killed then.
func TestKilledAgain(t *testing.T) {
	t.Parallel()
	for after, want := range map[time.Duration]int{6 * time.Minute: 1, 12 * time.Minute: 2} {
		s := newScenario(t)
		s.healthy(5 * time.Second)
		s.exit(payment, killed)
		s.refusals(10, "u")
		s.wait(after / 2)
		again := payment.withPID(99)
		s.send(order{"u", 10, &call{from: load, to: storefront, took: 12 * time.Millisecond, status: 200, inner: &call{
			from: storefront, to: again, took: 8 * time.Millisecond, status: 200,
		}}})
		s.wait(after / 2)
		s.exit(again, killed)
		s.refusals(10, "u")
		s.wait(10 * time.Second)
		all := s.latest()
		require.Len(t, all, want, after)
		last := all[len(all)-1]
		assert.Equal(t, "process-killed", last.Pattern)
		assert.EqualValues(t, 20/want, last.Impact.FailedRequests)
		if want == 2 {
			assert.Equal(t, finding.StateResolved, all[0].State)
			assert.EqualValues(t, 99, last.RootCause.Entity.Attributes["process.pid"])
		}
	}
}

func TestWithoutVisitsNothingIsOver(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.stays(5*time.Minute, func(int) stay { return usual() })
	s.stays(30*time.Second, func(int) stay { v := usual(); v.says = v.says[:2]; return v })
	s.wait(4 * time.Minute)
	assert.Equal(t, finding.StateOpen, s.one().State, "nobody came who could be served well")
}

func TestAServiceThatLogsNothingIsLessCertain(t *testing.T) {
	t.Parallel()
	confidence := func(silent bool) float64 {
		s := newScenario(t)
		s.stays(5*time.Minute, func(int) stay { v := usual(); v.silent = silent; return v })
		s.stays(40*time.Second, func(int) stay { v := usual(); v.silent, v.calls = silent, 0; return v })
		f := s.one()
		assert.Equal(t, "payment", f.RootCause.Entity.Name)
		return f.Confidence.Score
	}
	assert.InDelta(t, uninformed*confidence(false), confidence(true), 0.01)
}

// What is missing is missing less surely where spans get lost; what is there is there.
func TestLostSpansMakeAbsenceLessCertain(t *testing.T) {
	t.Parallel()
	confidence := func(torn bool, change func(*stay)) float64 {
		s := newScenario(t)
		s.stays(5*time.Minute, func(n int) stay { v := usual(); v.torn = torn && n%10 == 0; return v })
		s.stays(40*time.Second, func(n int) stay { v := usual(); v.torn = torn && n%10 == 0; change(&v); return v })
		return s.one().Confidence.Score
	}
	forget := func(v *stay) { v.says = v.says[:2] }
	assert.InDelta(t, (1-holes*0.1/3)*confidence(false, forget), confidence(true, forget), 0.02)
	complain := func(v *stay) { v.says = append(v.says, "no rate for region 77") }
	assert.InDelta(t, confidence(false, complain), confidence(true, complain), 0.02)
}

func TestCertainty(t *testing.T) {
	assert.InDelta(t, 0.7, certainty(visit.Alarm, 0), 1e-9)
	assert.InDelta(t, 0.85, certainty(7, 0), 0.01)
	assert.Greater(t, certainty(10, 0), 0.98)
	assert.InDelta(t, certainty(10, 0), certainty(10, 10), 1e-9)
	assert.Less(t, certainty(10, 20), 0.76, "another one is twice as suspicious")
	for score := visit.Alarm; score < 30; score += 0.5 {
		assert.GreaterOrEqual(t, certainty(score+0.5, 8), certainty(score, 8))
	}
}
