package engine

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// hanging is a request whose call to payment is given up after a while.
func hanging(patience time.Duration, err string) order {
	return order{"", 10, &call{from: load, to: storefront, took: patience + 5*time.Millisecond, status: 500, inner: &call{
		from: storefront, to: payment, took: patience, err: err,
	}}}
}

const deadline = `Post "http://127.0.0.1:8081/charge": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`

// TestFrozen: who takes no request any more and whose callers wait in vain does not answer;
// who answers some, or answers with errors, is failing.
func TestFrozen(t *testing.T) {
	const patience = 2 * time.Second
	nothing := func(*scenario) {}
	for name, tc := range map[string]struct {
		want   string
		kernel bool
		err    string
		then   func(*scenario)
	}{
		"nobody sees the kernel":       {"not-responding", false, deadline, nothing},
		"the kernel is seen":           {"not-responding", true, deadline, nothing},
		"its callers' callers give up": {"not-responding", false, `Post "http://127.0.0.1:8081/charge": context canceled`, nothing},
		"nearly: it answers others":    {"callee-failing", false, deadline, func(s *scenario) { s.send(good("", 10)) }},
		"nearly: connections are lost": {"callee-failing", false, eof, nothing},
		"nearly: some connections are": {"callee-failing", false, deadline, func(s *scenario) { s.send(broken("", 10, eof)) }},
		"nearly: it is slow":           {"", false, deadline, func(s *scenario) { s.answersLate(3 * time.Second) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			if tc.kernel {
				s.kernel(payment, event.EBPFStarted, s.clock, map[string]any{event.KeyEBPFPrograms: []any{event.ProcessExit}})
			}
			s.healthy(90 * time.Second)
			began := s.clock
			s.wait(patience)
			for range 30 {
				s.send(hanging(patience, tc.err))
				tc.then(s)
				s.wait(500 * time.Millisecond)
			}
			s.wait(10 * time.Second)
			all := s.latest()
			require.NotEmpty(t, all)
			if tc.want != "" {
				assert.Equal(t, tc.want, all[0].Pattern)
				assert.Equal(t, "payment", all[0].RootCause.Entity.Name)
			}
			for _, f := range all {
				assert.Equal(t, tc.want == "not-responding", f.Pattern == "not-responding", f.Pattern)
			}
			if tc.want == "not-responding" {
				f := s.one()
				assertCausal(t, f)
				assertComplete(t, f)
				assert.Less(t, f.DetectedAt.Sub(began), patience+hearing+5*time.Second)
				assert.EqualValues(t, 30, f.Impact.FailedRequests)
			}
		})
	}
}

// TestFrozenByChance: of a target that left requests waiting between others that it answered,
// some more in a row may be chance.
func TestFrozenByChance(t *testing.T) {
	for row, want := range map[int]bool{8: false, 9: true} {
		s := newScenario(t)
		s.healthy(20 * time.Second)
		for range 3 {
			s.send(hanging(2*time.Second, deadline))
			s.healthy(20 * time.Second)
		}
		s.wait(4 * time.Second)
		for range row {
			s.send(hanging(2*time.Second, deadline))
			s.wait(1500 * time.Millisecond)
		}
		s.wait(hearing)
		found := slices.ContainsFunc(s.latest(), func(f *finding.Finding) bool { return f.Pattern == "not-responding" })
		assert.Equal(t, want, found, "%d in a row after 3 single ones", row)
	}
}

// hangs plays a payment that takes requests for ten seconds and then none.
func hangs(s *scenario) {
	s.healthy(10 * time.Second)
	s.wait(2 * time.Second)
	for range 10 {
		s.send(hanging(2*time.Second, deadline))
		s.wait(time.Second)
	}
}

// TestFrozenEarly: that nobody answers needs no long past to be seen.
func TestFrozenEarly(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	hangs(s)
	s.wait(10 * time.Second)
	assert.Equal(t, "not-responding", s.one().Pattern)
}

// TestFrozenRecorded: a recording shows it that ends while nobody answers.
func TestFrozenRecorded(t *testing.T) {
	t.Parallel()
	tape := newScenario(t)
	tape.recording = true
	hangs(tape)
	s := newScenario(t, func(o *Options) { o.EventTime = true })
	ctx, stop := context.WithCancel(t.Context())
	go s.engine.Run(ctx, s)
	for _, x := range tape.tape {
		s.engine.Traces(x.traces)
	}
	s.engine.Flush(ctx)
	stop()
	<-s.engine.ended
	assert.Equal(t, "not-responding", s.one().Pattern)
}

// answersLate hands over the span of a request that payment took and answered just now.
func (s *scenario) answersLate(took time.Duration) {
	s.serial++
	name := time.Duration(s.serial).String()
	_, td := newSpan(payment, id16("late"+name), id8("late"+name), id8("given up"+name), "POST /payment", spanServer, s.clock.Add(-took), s.clock)
	s.deliver(item{traces: td})
}

// TestOneOfSeveralFreezes: of several instances that serve, the one is named that answers none
// any more, where it is known which was called.
func TestOneOfSeveralFreezes(t *testing.T) {
	for name, tc := range map[string]struct {
		want string
		port int64 // of the other instance
	}{
		"each has an address":                 {"not-responding", 9081},
		"nearly: they are called at one only": {"callee-failing", payment.port},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			other := service{payment.name, payment.version, "node2", 112, tc.port}
			ask := func(to service, took time.Duration, status int, err string) {
				outer := max(status, 500)
				if status == 200 {
					outer = 200
				}
				s.send(order{call: &call{from: load, to: storefront, took: took + 5*time.Millisecond, status: outer, inner: &call{from: storefront, to: to, took: took, status: status, err: err}}})
			}
			for range 600 {
				ask(payment, 5*time.Millisecond, 200, "")
				ask(other, 5*time.Millisecond, 200, "")
				s.wait(200 * time.Millisecond)
			}
			for range 10 { // until the first is given up
				ask(payment, 5*time.Millisecond, 200, "")
				s.wait(200 * time.Millisecond)
			}
			for range 60 {
				ask(payment, 5*time.Millisecond, 200, "")
				s.wait(200 * time.Millisecond)
				ask(other, 2*time.Second, 0, deadline)
				s.wait(200 * time.Millisecond)
			}
			s.wait(10 * time.Second)
			f := s.one()
			assert.Equal(t, tc.want, f.Pattern)
			assert.EqualValues(t, 60, f.Impact.FailedRequests)
			if tc.want == "not-responding" {
				assert.EqualValues(t, 112, f.RootCause.Entity.Attributes[event.KeyProcessPID])
				assertCausal(t, f)
				assertComplete(t, f)
			}
		})
	}
}
