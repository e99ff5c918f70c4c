package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

const podAddress = "10.197.9.2"

// byAddress sends a request through storefront, which calls payment at the address of
// its pod: in vain with err, else answered.
func (s *scenario) byAddress(err string) {
	s.serial++
	name := time.Duration(s.serial).String()
	trace, entry, client := id16("dialled"+name), id8("entry"+name), id8("dialled client"+name)
	if err == "" {
		_, td := newSpan(payment, trace, id8("dialled server"+name), client, "POST /payment", spanServer, s.clock.Add(-3*time.Millisecond), s.clock)
		s.deliver(item{traces: td})
	}
	sp, td := newSpan(storefront, trace, client, entry, "POST", spanClient, s.clock.Add(-4*time.Millisecond), s.clock)
	sp.Attributes().PutStr(event.KeyServerAddress, podAddress)
	sp.Attributes().PutInt(event.KeyServerPort, payment.port)
	above, up := newSpan(storefront, trace, entry, pcommon.SpanID{}, "POST /checkout", spanServer, s.clock.Add(-5*time.Millisecond), s.clock)
	if err != "" {
		sp.Status().SetCode(ptrace.StatusCodeError)
		sp.Status().SetMessage(err)
		above.Status().SetCode(ptrace.StatusCodeError)
	}
	s.deliver(item{traces: td})
	s.deliver(item{traces: up})
	s.wait(100 * time.Millisecond)
}

// TestCallToPodThatIsGone: payment's pod is gone and the pool has no address for the
// next one; its callers still dial the old address, which another pod may have by then.
// Whatever is told first, their calls stand in the chain as calls that fail.
func TestCallToPodThatIsGone(t *testing.T) {
	network := func(pod, name string, attrs map[string]any) func(*scenario) {
		return func(s *scenario) {
			resource := map[string]any{}
			if pod != "" {
				resource = map[string]any{event.KeyPodName: pod, event.KeyPodUID: "uid-" + pod, event.KeyNamespaceName: "shop", event.KeyContainerID: "c-" + pod}
			}
			s.about(name, attrs, resource)
		}
	}
	addresses := map[string]any{event.KeyCNIAddresses: []any{podAddress + "/29"}, event.KeyCNINetwork: "pods"}
	exhausted := network("", event.CNIPoolExhausted, map[string]any{event.KeyCNINetwork: "pods"})
	taken := network("batch-4", event.CNIInterface, addresses)
	calls := func(err string) func(*scenario) {
		return func(s *scenario) {
			for range 10 {
				s.byAddress(err)
			}
		}
	}
	const timeout = `Post "http://10.197.9.2:8081/charge": context deadline exceeded`
	inVain, late := calls(`Post "http://10.197.9.2:8081/charge": dial tcp: connect: connection refused`), calls(timeout)
	for name, order := range map[string][]func(*scenario){
		"the pool is told first":         {exhausted, inVain},
		"the pool is told last":          {inVain, exhausted},
		"calls end late":                 {exhausted, late},
		"another has the address before": {taken, exhausted, inVain},
		"another has it afterwards":      {inVain, exhausted, inVain, taken, inVain},
		"that is told before the pool":   {inVain, taken, exhausted, inVain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			network("payment-1", event.CNIInterface, addresses)(s)
			calls("")(s)
			network("payment-1", event.CNIInterfaceRemoved, addresses)(s)
			s.wait(100 * time.Millisecond)
			for _, step := range order {
				step(s)
			}
			s.wait(10 * time.Second)
			f := s.one()
			require.Equal(t, "address-pool-exhausted", f.Pattern)
			var events []string
			for _, l := range f.Chain {
				events = append(events, l.Event)
				if l.Event == pattern.CallFailed {
					assert.Equal(t, finding.LinkedByAddress, l.LinkedBy)
					assert.Contains(t, l.LinkedOn, podAddress)
				}
			}
			assert.Contains(t, events, pattern.CallFailed)
			assert.Contains(t, events, pattern.RequestFailed)
		})
	}
}

// TestPodNetworkSparesLoopback: a bridge of pods is gone from the node of services that
// call each other over the loopback interface. Why those fail is something else.
func TestPodNetworkSparesLoopback(t *testing.T) {
	bridge := func(s *scenario) {
		s.about("tapio.cni.interface.down", map[string]any{event.KeyCNINetwork: "pods", "network.interface.name": "br0"}, map[string]any{})
		s.about("tapio.cni.config.missing", map[string]any{event.KeyCNINetwork: "pods", event.KeyCNIConfigInUse: true}, map[string]any{})
		s.wait(time.Second)
	}
	for name, tc := range map[string]struct {
		want string
		play func(*scenario)
	}{
		"killed after it": {"process-killed", func(s *scenario) {
			bridge(s)
			s.healthy(5 * time.Second)
			s.exit(payment, killed)
			s.refusals(10, "u")
		}},
		"killed before it": {"process-killed", func(s *scenario) {
			s.exit(payment, killed)
			s.refusals(10, "u")
			bridge(s)
		}},
		"refused, nobody knows why": {"connection-refused", func(s *scenario) {
			bridge(s)
			s.refusals(10, "u")
		}},
		"refused, and then it": {"connection-refused", func(s *scenario) {
			s.refusals(10, "u")
			bridge(s)
		}},
		"it, and connections that the kernel saw fail": {"connection-refused", func(s *scenario) {
			bridge(s)
			s.connectFailed(storefront, payment)
			s.refusals(10, "u")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.healthy(5 * time.Second)
			tc.play(s)
			s.wait(10 * time.Second)
			f := s.one()
			assert.Equal(t, tc.want, f.Pattern)
			assert.EqualValues(t, 10, f.Impact.FailedRequests)
		})
	}
}
