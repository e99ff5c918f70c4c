package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
