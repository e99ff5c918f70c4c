package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/visit"
)

// TestWeakFaultBesideAStrongOne: a service that few ask says less of itself than one that
// many do, and nothing less surely for that, where no request meets both.
func TestWeakFaultBesideAStrongOne(t *testing.T) {
	t.Parallel()
	search := service{"search", "9", "node2", 12, 9000}
	play := func(seldom func(s *scenario, text string)) map[string]bool {
		s := newScenario(t)
		each := func(d time.Duration, now func(*stay), text string) {
			s.stays(d, func(n int) stay {
				if n%10 == 0 {
					seldom(s, text)
				}
				v := usual()
				now(&v)
				return v
			})
		}
		each(5*time.Minute, nothing, "hits ranked")
		require.Empty(t, s.findings)
		each(80*time.Second, func(v *stay) { v.says = v.says[:2] }, "")
		roots := map[string]bool{}
		for _, f := range s.latest() {
			roots[f.RootCause.Entity.Name] = f.State == finding.StateOpen
		}
		return roots
	}
	asks := func(s *scenario, trace, parent, text string) {
		span := id8(trace + "search")
		_, td := newSpan(search, id16(trace), span, id8(parent), "GET /search", spanServer, s.clock.Add(-3*time.Millisecond), s.clock)
		s.deliver(item{traces: td})
		for _, line := range []string{"query parsed", text} {
			s.says(search, id16(trace), span, s.clock.Add(-time.Millisecond), line)
		}
	}
	assert.Equal(t, map[string]bool{"payment": true, "search": true}, play(func(s *scenario, text string) {
		s.serial++
		trace := fmt.Sprint("search", s.serial)
		_, td := newSpan(storefront, id16(trace), id8(trace), noParent, "GET /find", spanServer, s.clock.Add(-4*time.Millisecond), s.clock)
		s.deliver(item{traces: td})
		asks(s, trace, trace, text)
	}))
	assert.Equal(t, map[string]bool{"payment": true}, play(func(s *scenario, text string) {
		// The next request, of which search is a part.
		name := fmt.Sprint("visit", s.serial+1)
		asks(s, name, name+"in", text)
	}), "nearly: payment fails in the same requests")
}

// slowCalls is an engine that has found that calls from storefront to payment lose time,
// with the incident and the suspects at its ends: who is called, and who calls.
func slowCalls(t *testing.T) (s *scenario, o *open, called, caller visit.Suspect) {
	s = newScenario(t)
	s.stays(4*time.Minute, func(int) stay { return usual() })
	s.stays(40*time.Second, func(int) stay { v := usual(); v.lost = 200 * time.Millisecond; return v })
	f := s.one()
	require.Equal(t, "call-delayed", f.Pattern)
	require.Equal(t, "payment", f.RootCause.Entity.Name)
	require.Len(t, s.engine.incidents, 1)
	o = s.engine.incidents[0]
	for _, x := range s.engine.suspects {
		if x.Service == o.Hypothesis.Service {
			called = x
		}
	}
	require.NotEmpty(t, called.Signals)
	require.Equal(t, visit.Gap, called.Signals[0].Kind)
	caller = called
	caller.Service = called.Signals[0].Peer
	require.Equal(t, "storefront", s.engine.graph.ServiceName(caller.Service))
	return s, o, called, caller
}

// Which end of slow calls is the cause, the first of them may not tell: the finding goes
// to the other end when that is clearly more suspicious, and only then.
func TestTheOtherEndOfSlowCalls(t *testing.T) {
	t.Parallel()
	s, o, called, caller := slowCalls(t)
	e := s.engine
	judged := func(times float64) bool {
		caller.Score = times * called.Score
		e.suspects = []visit.Suspect{caller, called}
		return e.outgrows(&caller, o)
	}
	assert.False(t, judged(outgrow-0.1), "hardly more suspicious")
	require.True(t, judged(outgrow+0.1))

	few := caller
	few.Hurt = minHurt - 1
	assert.False(t, e.outgrows(&few, o), "an anecdote")
	slow := caller
	slow.Signals = []visit.Signal{{Kind: visit.Slow, Now: visit.Ratio{K: 9, N: 9}}}
	assert.False(t, e.outgrows(&slow, o), "it is slow itself: that is no end of these calls")
	assert.False(t, e.outgrows(&called, o), "it is the one that is named")

	first := s.one()
	e.accuse(&caller, o)
	e.flush(true)
	f := s.one()
	assert.Equal(t, first.ID, f.ID, "the finding goes on")
	assert.Equal(t, "storefront", f.RootCause.Entity.Name)
	assert.Equal(t, finding.StateOpen, f.State)
}

// The incident of the end that was outgrown is withdrawn when the other one has one of
// its own; those of others go on.
func TestOutgrownEndsAreWithdrawn(t *testing.T) {
	t.Parallel()
	s, o, called, caller := slowCalls(t)
	e := s.engine
	caller.Score = 2 * called.Score
	e.suspects = []visit.Suspect{caller, called}
	e.withdrawEnds(&caller, o)
	assert.Len(t, e.incidents, 1, "it is not the cause of any yet")

	own := e.open(e.statistical(&caller, called.Since))
	own.Witness()
	other := called
	other.Signals = []visit.Signal{{Kind: visit.Slow, Now: visit.Ratio{K: 9, N: 9}}}
	beside := e.open(e.statistical(&other, called.Since))
	beside.Witness()
	e.flush(true)
	require.Len(t, e.incidents, 3)
	e.withdrawEnds(&caller, own)
	assert.Equal(t, []*open{own, beside}, e.incidents, "what is slow itself is another incident")
	states := map[string]string{}
	for _, f := range s.latest() {
		states[f.Pattern+" "+f.RootCause.Entity.Name] = string(f.State)
	}
	assert.Equal(t, map[string]string{
		"call-delayed payment": string(finding.StateWithdrawn), "call-delayed storefront": string(finding.StateOpen), "step-slow payment": string(finding.StateOpen),
	}, states)
}

// Two services that break by themselves at once are two findings, each with its own
// pattern: neither lies below the other's trouble.
func TestTwoIndependentFaultsByVisits(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	// Every other request has storefront ask ledger itself, instead of payment.
	turns := func(n int) stay {
		v := usual()
		if v.direct = n%2 == 0; v.direct {
			v.calls = 0
		}
		return v
	}
	s.stays(4*time.Minute, turns)
	require.Empty(t, s.findings)
	s.stays(60*time.Second, func(n int) stay {
		v := turns(n)
		if v.direct {
			v.answer = 300 * time.Millisecond // of ledger
		} else {
			v.says = v.says[:2] // by payment, whom ledger answers as fast as ever
		}
		return v
	})
	s.wait(15 * time.Second)
	roots := map[string]bool{}
	for _, f := range s.latest() {
		if f.State == finding.StateOpen {
			roots[f.RootCause.Entity.Name] = true
		}
	}
	assert.Equal(t, map[string]bool{"payment": true, "ledger": true}, roots, "%v", titles(s.latest()))
}
