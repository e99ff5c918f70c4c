package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

// answering is a request whose call to payment took that long and was answered with that
// status.
func answering(status int, took time.Duration) order {
	return order{"u", 10, &call{from: load, to: storefront, took: took + 4*time.Millisecond, status: status, inner: &call{
		from: storefront, to: payment, took: took, status: status,
	}}}
}

// TestEarlierRequests: what was over before a cause began is no effect of it, also where
// the finding had another cause first.
func TestEarlierRequests(t *testing.T) {
	full := func(s *scenario) {
		s.send(answering(500, 5*time.Millisecond))
		s.kernel(payment, "tapio.syscall.failed", s.clock.Add(-3*time.Millisecond), map[string]any{
			event.KeyErrorType: "ENOSPC", "tapio.syscall.name": "write", "tapio.trace.association": "goroutine",
		})
	}
	complains := func(s *scenario) {
		s.says(payment, noTrace, noParent, s.clock.Add(-2*time.Millisecond), "order not kept: write /data/orders: no space left on device")
	}
	for name, tc := range map[string]struct {
		want string
		say  func(*scenario)
	}{
		"a system call": {"out-of-space", func(s *scenario) { full(s) }},
		"a log record":  {"disk-write-failed", func(s *scenario) { complains(s); s.send(answering(500, 5*time.Millisecond)) }},
		"a log record, then the system call": {"out-of-space", func(s *scenario) {
			complains(s)
			full(s)
		}},
		"a system call, then a log record": {"out-of-space", func(s *scenario) { full(s); complains(s) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			s.healthy(2 * time.Minute)
			for range 5 {
				s.wait(100 * time.Millisecond)
				s.send(answering(200, 300*time.Millisecond))
			}
			s.healthy(14 * time.Second)
			began := s.clock
			for range 25 {
				tc.say(s)
				s.wait(200 * time.Millisecond)
			}
			s.wait(5 * time.Second)

			f := s.one()
			assert.Contains(t, f.Pattern, tc.want)
			assert.EqualValues(t, 25, f.Impact.FailedRequests)
			assert.Zero(t, f.Impact.SlowRequests)
			assert.WithinDuration(t, began, f.StartedAt, time.Second)
			for _, l := range f.Chain {
				assert.NotEqual(t, pattern.RequestSlow, l.Event, l.Title)
			}
		})
	}
}

// TestEventsBeforeTheirSpans: what the kernel says is there at once, while spans wait for
// their batch: the cause has happened again and again by then, and is one all the same.
func TestEventsBeforeTheirSpans(t *testing.T) {
	s := newScenario(t)
	s.healthy(time.Minute)
	for range 25 {
		s.kernel(payment, "tapio.syscall.failed", s.clock.Add(-3*time.Millisecond), map[string]any{
			event.KeyErrorType: "ENOSPC", "tapio.syscall.name": "write", "tapio.trace.association": "goroutine",
		})
		s.recording = true // on the tape: the batch
		s.send(answering(500, 5*time.Millisecond))
		s.recording = false
		s.wait(200 * time.Millisecond)
	}
	for _, x := range s.tape {
		s.deliver(x)
	}
	s.wait(5 * time.Second)

	f := s.one()
	assert.Equal(t, "request-out-of-space", f.Pattern)
	assert.EqualValues(t, 25, f.Impact.FailedRequests)
	assert.EqualValues(t, 25, f.Chain[0].Count)
}

// TestFailedAndSlowAreTwoSteps: the same operation is slow first and fails then.
func TestFailedAndSlowAreTwoSteps(t *testing.T) {
	s := newScenario(t)
	s.healthy(2 * time.Minute)
	s.kernel(payment, "tapio.tcp.listen_overflow", s.clock, map[string]any{"tapio.tcp.listen.queue": 129})
	for range 10 {
		s.wait(200 * time.Millisecond)
		s.send(answering(200, 300*time.Millisecond))
	}
	for range 20 {
		s.wait(200 * time.Millisecond)
		s.send(answering(500, 5*time.Millisecond))
	}
	s.wait(5 * time.Second)

	f := s.one()
	assert.Equal(t, "accept-queue-full", f.Pattern)
	count := map[string]int64{}
	for _, l := range f.Chain {
		if l.Layer == finding.LayerApp && strings.HasPrefix(l.Title, "storefront POST /storefront") {
			count[l.Event] += l.Count
		}
	}
	assert.Equal(t, map[string]int64{pattern.RequestSlow: 10, pattern.RequestFailed: 20}, count)
	assertCausal(t, f)
}

// frozen plays a stop of payment for 26 s: calls time out, and when it goes on it has the
// ones that waited for it. The kernel tells after a while that its queue was full.
func frozen(s *scenario, warm, told time.Duration) (began time.Time) {
	s.healthy(warm)
	began = s.clock
	tell := func() {
		s.kernel(payment, "tapio.tcp.listen_overflow", s.clock, map[string]any{"tapio.tcp.listen.queue": 12, "tapio.tcp.listen.backlog": 10, "tapio.tcp.listen.dropped": 12})
	}
	for at := 3 * time.Second; at < 26*time.Second; at += 200 * time.Millisecond {
		s.wait(began.Add(at).Sub(s.clock))
		if at > told && told > 0 {
			tell()
			told = 0
		}
		s.send(order{"u", 10, &call{from: load, to: storefront, took: 3004 * time.Millisecond, status: 504, inner: &call{
			from: storefront, to: payment, took: 3 * time.Second, err: `Post "http://127.0.0.1:8081/charge": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`,
		}}})
	}
	for range 5 {
		s.send(answering(200, 2*time.Second))
	}
	s.healthy(3 * time.Second)
	if told > 0 {
		tell()
	}
	s.healthy(5 * time.Second)
	s.wait(15 * time.Second)
	return began
}

// TestFrozenProcess: a queue that is full since a process hangs is not why it does.
func TestFrozenProcess(t *testing.T) {
	const long, short = 2 * time.Minute, 5 * time.Second
	for name, tc := range map[string]struct{ warm, told time.Duration }{
		"told when it goes on":                     {long, 29 * time.Second},
		"told while it hangs":                      {long, 24 * time.Second},
		"told while it hangs, its past is unknown": {short, 24 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			began := frozen(s, tc.warm, tc.told)
			for _, f := range s.findings {
				assert.NotEqual(t, "accept-queue-full", f.Pattern)
			}
			if tc.warm == long {
				f := s.one()
				assert.Equal(t, "payment", f.RootCause.Entity.Name)
				assert.Less(t, f.StartedAt.Sub(began), 5*time.Second)
			}
		})
	}
}
