package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

const refusedLookup = `Post "http://payment.shop:8081/charge": dial tcp: lookup payment.shop on 10.96.0.10:53: read udp 10.0.0.1:4711->10.96.0.10:53: read: connection refused`

// TestResolverFails: the unit of the resolver fails, so lookups fail, so calls do: the
// root is the unit, in whichever order that is told.
func TestResolverFails(t *testing.T) {
	const unit = "resolver.service"
	resolver := map[string]any{event.KeyProcessPID: 70, event.KeySystemdUnit: unit}
	listens := func(s *scenario) {
		s.about(event.UDPListen, map[string]any{event.KeyLocalAddress: "10.96.0.10", event.KeyLocalPort: 53}, resolver)
	}
	var failed time.Time
	fails := func(s *scenario) { s.unitAt(failed, unit, service{}, "failed", failed3) }
	unanswered := func(s *scenario) { s.dnsFailed(storefront, "payment.shop", "connection_refused") }
	inVain := func(s *scenario) {
		for range 10 {
			s.byName(refusedLookup)
			s.wait(100 * time.Millisecond)
		}
	}
	for name, tc := range map[string]struct {
		want  string
		steps []func(*scenario)
	}{
		"as it happens":                   {"unit-failed", []func(*scenario){listens, fails, unanswered, inVain}},
		"the lookups are told late":       {"unit-failed", []func(*scenario){listens, fails, inVain, unanswered, inVain}},
		"the unit is told last":           {"unit-failed", []func(*scenario){listens, unanswered, inVain, fails, inVain}},
		"all is told after the calls":     {"unit-failed", []func(*scenario){listens, inVain, unanswered, fails}},
		"the kernel saw it end":           {"unit-failed", []func(*scenario){listens, func(s *scenario) { s.about(event.ProcessExit, exit2, resolver) }, fails, unanswered, inVain}},
		"nearly: nobody knows who served": {"name-unresolved", []func(*scenario){fails, unanswered, inVain}},
		"nearly: a name does not exist": {"name-unresolved", []func(*scenario){listens, fails, func(s *scenario) {
			s.dnsFailed(storefront, "payment.shop", "NXDOMAIN")
		}, inVain}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			for range 100 {
				s.byName("")
				s.wait(100 * time.Millisecond)
			}
			failed = s.clock
			s.wait(100 * time.Millisecond)
			for _, step := range tc.steps {
				step(s)
			}
			s.wait(20 * time.Second)
			f := s.one()
			require.Equal(t, tc.want, f.Pattern)
			assert.GreaterOrEqual(t, f.Impact.FailedRequests, int64(10))
			if tc.want == "name-unresolved" {
				return
			}
			assertCausal(t, f)
			by := map[string]finding.Link{}
			for _, l := range f.Chain {
				by[l.Event] = l
			}
			require.Contains(t, by, event.DNSFailed)
			require.Contains(t, by, pattern.CallFailed)
			assert.Equal(t, finding.LinkedByAddress, by[event.DNSFailed].LinkedBy)
			if !by[event.DNSFailed].Time.After(by[pattern.CallFailed].Time) {
				assert.Equal(t, by[event.DNSFailed].Key, by[pattern.CallFailed].Parent, "it fails because of the lookup")
			}
			assert.Equal(t, unit, f.RootCause.Entity.Name)
		})
	}
}

// slowByName sends a request through storefront that waits for the address of payment.
func (s *scenario) slowByName(lookup time.Duration) {
	s.serial++
	name := time.Duration(s.serial).String()
	trace, entry, client := id16("named"+name), id8("entry"+name), id8("named client"+name)
	_, td := newSpan(payment, trace, id8("named server"+name), client, "POST /payment", spanServer, s.clock.Add(-3*time.Millisecond), s.clock)
	s.deliver(item{traces: td})
	sp, td := newSpan(storefront, trace, client, entry, "POST", spanClient, s.clock.Add(-4*time.Millisecond), s.clock)
	sp.Attributes().PutStr(event.KeyServerAddress, "payment.shop")
	sp.Attributes().PutInt(event.KeyServerPort, payment.port)
	s.deliver(item{traces: td})
	_, td = newSpan(storefront, trace, entry, pcommon.SpanID{}, "POST /checkout", spanServer, s.clock.Add(-5*time.Millisecond-lookup), s.clock)
	s.deliver(item{traces: td})
}

func (s *scenario) dnsSlow(v service, question string) {
	s.kernel(v, event.DNSSlow, s.clock, map[string]any{
		event.KeyDNSQuestion: question, event.KeyServerAddress: "10.96.0.10", event.KeyServerPort: 53, event.KeyDNSCount: 1, "tapio.dns.duration": 0.8,
	})
}

// TestResolverSlow: the unit of the resolver is slow or away for a while, so lookups are
// slow, so requests are: the root is what happened to the unit.
func TestResolverSlow(t *testing.T) {
	const unit = "resolver.service"
	resolver := map[string]any{event.KeyProcessPID: 70, event.KeySystemdUnit: unit}
	listens := func(s *scenario) {
		s.about(event.UDPListen, map[string]any{event.KeyLocalAddress: "10.96.0.10", event.KeyLocalPort: 53}, resolver)
	}
	slow := func(s *scenario) {
		for n := range 40 {
			if n%10 == 0 {
				s.dnsSlow(storefront, "payment.shop")
			}
			s.slowByName(800 * time.Millisecond)
			s.wait(100 * time.Millisecond)
		}
	}
	throttled := func(of map[string]any) func(*scenario) {
		return func(s *scenario) {
			s.about("tapio.cpu.throttled", map[string]any{"tapio.cpu.throttled.share": 0.8}, of)
		}
	}
	for name, tc := range map[string]struct {
		want  string
		steps []func(*scenario)
	}{
		"it is throttled":            {"cpu-throttled", []func(*scenario){listens, throttled(resolver), slow}},
		"it is throttled, told last": {"cpu-throttled", []func(*scenario){listens, slow, throttled(resolver), slow}},
		"it fails, and is back soon": {"unit-failed", []func(*scenario){listens, func(s *scenario) { s.unit(unit, service{}, "failed", failed3) }, slow}},
		"it restarts again and again": {"unit-restart-loop", []func(*scenario){listens, func(s *scenario) {
			s.unit(unit, service{}, "restarting", map[string]any{"tapio.systemd.restart.count": 4})
		}, slow}},
		"nobody knows why":                {"dns-slow", []func(*scenario){listens, slow}},
		"nearly: nobody knows who serves": {"dns-slow", []func(*scenario){throttled(resolver), slow}},
		"nearly: another is throttled":    {"dns-slow", []func(*scenario){listens, throttled(map[string]any{event.KeyProcessPID: 71, event.KeySystemdUnit: "backup.service"}), slow}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			for range 900 { // what is slow is known after a window
				s.byName("")
				s.wait(100 * time.Millisecond)
			}
			for _, step := range tc.steps {
				step(s)
			}
			s.wait(20 * time.Second)
			f := s.one()
			require.Equal(t, tc.want, f.Pattern)
			assert.Positive(t, f.Impact.SlowRequests)
			if tc.want == "dns-slow" {
				return
			}
			assert.Equal(t, unit, f.RootCause.Entity.Name)
			by := map[string]finding.Link{}
			for _, l := range f.Chain {
				by[l.Event] = l
			}
			assert.Equal(t, finding.LinkedByAddress, by[event.DNSSlow].LinkedBy)
			assert.Contains(t, by, pattern.RequestSlow)
		})
	}
}

// TestResolverOfNoUnitEnds: a server of DNS that systemd does not run ends: lookups fail
// for that, and calls for them.
func TestResolverOfNoUnitEnds(t *testing.T) {
	resolver := map[string]any{event.KeyProcessPID: 70, event.KeyProcessExecutableName: "resolver"}
	for want, end := range map[string]map[string]any{
		"process-stopped": {event.KeyExitSignal: 15, event.KeyExitSignalName: "SIGTERM"},
		"process-killed":  {event.KeyExitSignal: 9, event.KeyExitSignalName: "SIGKILL"},
		"process-crashed": exit2,
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.about(event.UDPListen, map[string]any{event.KeyLocalAddress: "10.96.0.10", event.KeyLocalPort: 53}, resolver)
			for range 100 {
				s.byName("")
				s.wait(100 * time.Millisecond)
			}
			s.about(event.ProcessExit, end, resolver)
			for range 10 {
				s.dnsFailed(storefront, "payment.shop", "connection_refused")
				s.byName(refusedLookup)
				s.wait(100 * time.Millisecond)
			}
			s.wait(20 * time.Second)
			f := s.one()
			require.Equal(t, want, f.Pattern)
			assert.EqualValues(t, 10, f.Impact.FailedRequests)
			assert.EqualValues(t, 70, f.RootCause.Entity.Attributes[event.KeyProcessPID])
		})
	}
}
