package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// ending is how a process ended, as the kernel receiver writes it.
var (
	exit0    = map[string]any{event.KeyProcessExitCode: 0}
	exit2    = map[string]any{event.KeyProcessExitCode: 2}
	exit143  = map[string]any{event.KeyProcessExitCode: 128 + 15}
	segfault = map[string]any{event.KeyExitSignal: 11, event.KeyExitSignalName: "SIGSEGV", event.KeyCoreDumped: true}
	sigterm  = map[string]any{event.KeyExitSignal: 15, event.KeyExitSignalName: "SIGTERM"}
)

// refusals sends requests whose call to payment is refused, one each 100 ms, with
// what the kernel says of the connection.
func (s *scenario) refusals(n int, user string) {
	for range n {
		s.wait(100 * time.Millisecond)
		s.connectFailed(storefront, payment)
		s.wait(time.Millisecond)
		s.send(broken(user, 10, refused))
	}
}

// dies plays an end of payment and what its callers see of it.
func dies(attrs map[string]any) func(*scenario) {
	return func(s *scenario) {
		s.healthy(5 * time.Second)
		s.exit(payment, attrs)
		s.refusals(10, "u")
		s.wait(5 * time.Second)
	}
}

// oomOf plays an out-of-memory kill with that scope, without a scope for "".
func oomOf(scope string) func(*scenario) {
	return func(s *scenario) {
		s.healthy(5 * time.Second)
		attrs := map[string]any{event.KeyOOMRSS: 60 << 20, event.KeyMemoryCgroup: "/shop/payment", event.KeyMemoryLimit: 64 << 20, event.KeyMemoryPeak: 64 << 20}
		if scope != "" {
			attrs[event.KeyOOMScope] = scope
		}
		s.kernel(payment, event.OOMKill, s.clock, attrs)
		s.wait(10 * time.Millisecond)
		s.exit(payment, killed)
		s.refusals(10, "u")
		s.wait(5 * time.Second)
	}
}

// failing is a request whose call to ledger took that long and was answered with
// that status, which every caller passes on.
func failing(status int, callTook time.Duration) order {
	return order{"u", 10, &call{from: load, to: storefront, took: callTook + 9*time.Millisecond, status: status, inner: &call{
		from: storefront, to: payment, took: callTook + 5*time.Millisecond, status: status, inner: &call{
			from: payment, to: ledger, took: callTook, status: status,
		},
	}}}
}

// traffic sends orders, ten a second; every n-th is another one.
func (s *scenario) traffic(d time.Duration, n int, other order) {
	for i := range int(d / (100 * time.Millisecond)) {
		if i%n == n-1 {
			s.send(other)
		} else {
			s.send(good("u", 10))
		}
		s.wait(100 * time.Millisecond)
	}
}

// TestPatterns plays, for each pattern of the library, a case of it and a case
// that nearly is one.
func TestPatterns(t *testing.T) {
	for _, tc := range []struct {
		name, want, entity string // want: the pattern, "" for no finding
		play               func(*scenario)
	}{
		{"memory-limit-oom-kill", "memory-limit-oom-kill", "payment", oomOf("cgroup")},
		{"memory-limit-oom-kill, nearly: nothing follows, not even an exit", "", "", func(s *scenario) {
			s.healthy(5 * time.Second)
			s.oom(payment)
			s.wait(10 * time.Second)
		}},
		{"node-out-of-memory", "node-out-of-memory", "payment", oomOf("node")},
		{"node-out-of-memory, nearly: the scope is not known", "process-killed", "payment", oomOf("")},
		{"process-killed", "process-killed", "payment", dies(killed)},
		{"process-killed, nearly: nobody called it", "", "", func(s *scenario) {
			s.healthy(5 * time.Second)
			s.exit(payment, killed)
			s.wait(10 * time.Second)
		}},
		{"process-crashed by exit code", "process-crashed", "payment", dies(exit2)},
		{"process-crashed by fault", "process-crashed", "payment", dies(segfault)},
		{"process-crashed, nearly: another service's process", "connection-refused", "payment", func(s *scenario) {
			s.healthy(5 * time.Second)
			s.exit(ledger, exit2)
			s.refusals(10, "u")
			s.wait(5 * time.Second)
		}},
		{"process-stopped by exit code", "process-stopped", "payment", dies(exit0)},
		{"process-stopped by SIGTERM", "process-stopped", "payment", dies(sigterm)},
		{"process-stopped by SIGTERM that it reports as a code", "process-stopped", "payment", dies(exit143)},
		{"process-stopped, nearly: it is replaced before anybody calls", "", "", func(s *scenario) {
			s.healthy(5 * time.Second)
			s.exit(payment, exit0)
			s.healthy(10 * time.Second)
		}},
		{"connection-refused", "connection-refused", "payment", func(s *scenario) {
			s.healthy(5 * time.Second)
			s.refusals(10, "u")
			s.wait(5 * time.Second)
		}},
		{"connection-refused, nearly: two requests are less than min_traces", "", "", func(s *scenario) {
			s.healthy(5 * time.Second)
			s.refusals(2, "u")
			s.healthy(10 * time.Second)
		}},
		{"callee-failing", "callee-failing", "ledger", func(s *scenario) {
			s.healthy(2 * time.Minute)
			s.traffic(20*time.Second, 2, failing(500, 3*time.Millisecond))
		}},
		{"callee-failing, nearly: as often as ever", "", "", func(s *scenario) {
			s.traffic(4*time.Minute, 50, failing(500, 3*time.Millisecond))
		}},
		{"operation-slow", "operation-slow", "ledger", func(s *scenario) {
			s.healthy(2 * time.Minute)
			s.traffic(30*time.Second, 2, failing(200, 300*time.Millisecond))
		}},
		{"operation-slow, nearly: one in fifty", "", "", func(s *scenario) {
			s.healthy(2 * time.Minute)
			s.traffic(30*time.Second, 50, failing(200, 300*time.Millisecond))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			tc.play(s)
			if tc.want == "" {
				require.Empty(t, s.findings)
				return
			}
			f := s.one()
			assert.Equal(t, tc.want, f.Pattern)
			assert.Equal(t, tc.entity, f.RootCause.Entity.Name)
			assertCausal(t, f)
			assertComplete(t, f)
		})
	}
}

// assertComplete checks what people read: nothing empty, nothing unrendered.
func assertComplete(t *testing.T, f *finding.Finding) {
	t.Helper()
	texts := []string{f.Title, f.RootCause.Description}
	assert.NotEmpty(t, f.Summary)
	for _, l := range f.Chain {
		texts = append(texts, l.Title)
	}
	texts = append(texts, f.Missing...)
	for _, a := range [][]string{f.Actions.Immediate, f.Actions.ShortTerm, f.Actions.LongTerm} {
		assert.NotEmpty(t, a)
		texts = append(texts, a...)
	}
	for _, text := range texts {
		assert.NotEmpty(t, text)
		for _, bad := range []string{"{{", "<no value>", "<nil>", "unknown", "%!", "template:", "  "} {
			assert.NotContains(t, text, bad)
		}
	}
	assert.GreaterOrEqual(t, f.Confidence.Score, 0.7)
	assert.LessOrEqual(t, f.Confidence.Score, 1.0)
}
