package engine

import (
	"fmt"
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
func (s *scenario) byAddress(err string) { s.dial(payment, podAddress, err) }

// dial sends a request through storefront, which calls a service at an address: in vain
// with err, else answered. The spans say nothing of pods; a service without a name sends none.
func (s *scenario) dial(callee service, address, err string) {
	s.dialFor(callee, address, err, 4*time.Millisecond)
}

// dialFor is dial, of a call that took that long.
func (s *scenario) dialFor(callee service, address, err string, took time.Duration) {
	s.serial++
	name := time.Duration(s.serial).String()
	trace, entry, client := id16("dialled"+name), id8("entry"+name), id8("dialled client"+name)
	if err == "" && callee.name != "" {
		_, td := newSpan(callee, trace, id8("dialled server"+name), client, "POST /payment", spanServer, s.clock.Add(-3*time.Millisecond), s.clock)
		s.deliver(item{traces: td})
	}
	sp, td := newSpan(storefront, trace, client, entry, "POST", spanClient, s.clock.Add(-took), s.clock)
	sp.Attributes().PutStr(event.KeyServerAddress, address)
	sp.Attributes().PutInt(event.KeyServerPort, payment.port)
	above, up := newSpan(storefront, trace, entry, pcommon.SpanID{}, "POST /checkout", spanServer, s.clock.Add(-took-time.Millisecond), s.clock)
	if err != "" {
		sp.Status().SetCode(ptrace.StatusCodeError)
		sp.Status().SetMessage(err)
		above.Status().SetCode(ptrace.StatusCodeError)
	}
	s.deliver(item{traces: td})
	s.deliver(item{traces: up})
	s.wait(100 * time.Millisecond)
}

// ofPod hands over an event of the container network about a pod.
func (s *scenario) ofPod(pod, name string, attrs map[string]any) {
	s.about(name, attrs, map[string]any{
		event.KeyPodName: pod, event.KeyPodUID: "uid-" + pod, event.KeyNamespaceName: "shop", event.KeyContainerID: "c-" + pod,
	})
}

// gets says that a pod has an address.
func (s *scenario) gets(pod, address string) { s.ofPod(pod, event.CNIInterface, hasAddress(address)) }

// gives says that a pod has an address no longer.
func (s *scenario) gives(pod, address string) {
	s.ofPod(pod, event.CNIInterfaceRemoved, hasAddress(address))
}

func hasAddress(address string) map[string]any {
	return map[string]any{event.KeyCNIAddresses: []any{address + "/24"}, event.KeyCNINetwork: "pods"}
}

// down says that a pod's interface is down.
func (s *scenario) down(pod string) {
	s.ofPod(pod, event.CNIInterfaceDown, map[string]any{event.KeyCNINetwork: "pods", event.KeyInterfaceName: "eth0"})
}

// over says that a pod's interface is well again.
func (s *scenario) over(pod string) {
	s.ofPod(pod, event.CNIRecovered, map[string]any{
		event.KeyCNINetwork: "pods", event.KeyInterfaceName: "eth0", event.KeyCNIRecovered: event.CNIInterfaceDown,
	})
}

const noAnswer = "context deadline exceeded"

// TestCallerOfPodByAddress: the spans of payment name no pod. Its callers are linked to
// what happened to the network of the pod that had the address when they called it, and to
// that of no other.
func TestCallerOfPodByAddress(t *testing.T) {
	const other, cluster = "10.197.9.3", "10.96.0.10"
	inVain := func(s *scenario, address string) {
		for range 10 {
			s.dial(payment, address, noAnswer)
		}
	}
	type play = func(*scenario, service)
	for name, tc := range map[string]struct {
		pod  string // whose network it is, "" when it is nobody's
		play play
	}{
		"the event first": {"payment-1", func(s *scenario, _ service) {
			s.down("payment-1")
			inVain(s, podAddress)
		}},
		"the event last": {"payment-1", func(s *scenario, _ service) {
			inVain(s, podAddress)
			s.down("payment-1")
		}},
		"the event after the finding": {"payment-1", func(s *scenario, _ service) {
			inVain(s, podAddress)
			s.wait(20 * time.Second)
			s.down("payment-1")
		}},
		"the event in between": {"payment-1", func(s *scenario, _ service) {
			s.dial(payment, podAddress, noAnswer)
			s.dial(payment, podAddress, noAnswer)
			s.down("payment-1")
			inVain(s, podAddress)
		}},
		"the other of two is well": {"payment-1", func(s *scenario, replica service) {
			s.gets("payment-2", other)
			for range 20 {
				s.dial(replica, other, "")
			}
			s.down("payment-1")
			for range 10 {
				s.dial(payment, podAddress, noAnswer)
				s.dial(replica, other, "")
				s.dial(replica, other, "")
			}
		}},
		"the other of two": {"", func(s *scenario, replica service) {
			s.gets("payment-2", other)
			for range 20 {
				s.dial(replica, other, "")
			}
			s.down("payment-2")
			inVain(s, podAddress)
		}},
		"of the next pod with the address": {"batch-4", func(s *scenario, _ service) {
			s.gives("payment-1", podAddress)
			s.gets("batch-4", podAddress)
			s.wait(time.Second)
			s.down("batch-4")
			inVain(s, podAddress)
		}},
		"of the pod that had it before": {"", func(s *scenario, _ service) {
			s.down("payment-1")
			s.gives("payment-1", podAddress)
			s.wait(time.Second)
			s.gets("batch-4", podAddress)
			s.wait(time.Second)
			inVain(s, podAddress)
		}},
		"of the pod that got it afterwards": {"", func(s *scenario, _ service) {
			inVain(s, podAddress)
			s.gives("payment-1", podAddress)
			s.wait(time.Second)
			s.gets("batch-4", podAddress)
			s.wait(time.Second)
			s.down("batch-4")
		}},
		"of a pod that is gone": {"", func(s *scenario, _ service) {
			s.down("payment-1")
			s.gives("payment-1", podAddress)
			s.wait(time.Second)
			inVain(s, podAddress)
		}},
		"it was well since": {"", func(s *scenario, _ service) {
			s.down("payment-1")
			s.wait(2 * time.Second)
			for range 20 {
				s.dial(payment, podAddress, "")
			}
			inVain(s, podAddress)
		}},
		"it had failed before": {"", func(s *scenario, _ service) {
			inVain(s, podAddress)
			s.wait(90 * time.Second)
			s.down("payment-1")
		}},
		"another pod": {"", func(s *scenario, _ service) {
			s.gets("batch-4", other)
			s.down("batch-4")
			inVain(s, podAddress)
		}},
		"a cluster address": {"", func(s *scenario, replica service) {
			for range 10 {
				s.dial(replica, cluster, "")
			}
			s.down("payment-1")
			inVain(s, cluster)
		}},
		"a loopback address": {"", func(s *scenario, _ service) {
			s.gets("payment-1", "127.0.0.1")
			s.healthy(3 * time.Second)
			s.down("payment-1")
			s.refusals(10, "u")
		}},
	} {
		for spans, payment := range map[string][2]service{
			"processes": {payment, payment.withPID(22)},
			"no spans":  {},
			"a service": {{name: payment.name, port: payment.port}, {name: payment.name, port: payment.port}},
		} {
			t.Run(name+", "+spans, func(t *testing.T) {
				t.Parallel()
				if name == "of a pod that is gone" && spans == "no spans" {
					t.Skip("nobody else is known to be meant: see Graph.Owner")
				}
				s := newScenario(t)
				s.gets("payment-1", podAddress)
				for range 20 {
					s.dial(payment[0], podAddress, "")
				}
				tc.play(s, payment[1])
				s.wait(30 * time.Second)
				for _, f := range s.latest() {
					if tc.pod == "" {
						assert.NotEqual(t, event.CNIInterfaceDown, f.RootCause.Event)
					}
				}
				if tc.pod == "" {
					return
				}
				f := s.one()
				require.Equal(t, "pod-interface-down", f.Pattern)
				assert.Equal(t, tc.pod, f.RootCause.Entity.Name)
				var called bool
				for _, l := range f.Chain {
					if l.Event == pattern.CallFailed {
						called = true
						assert.Equal(t, finding.LinkedByAddress, l.LinkedBy)
						assert.Equal(t, podAddress+":8081, the address of pod "+tc.pod, l.LinkedOn)
					}
				}
				assert.True(t, called)
				assert.GreaterOrEqual(t, f.Impact.FailedRequests, int64(10))
			})
		}
	}
}

// TestPodIsDeletedForItsNetwork: calls to an address that fail for the network of a pod fail
// on when that pod is deleted, and are the same incident's until another pod has the address.
func TestPodIsDeletedForItsNetwork(t *testing.T) {
	s := newScenario(t)
	calls := func() {
		for range 10 {
			s.byAddress(noAnswer)
		}
	}
	s.gets("payment-1", podAddress)
	for range 10 {
		s.byAddress("")
	}
	s.down("payment-1")
	calls()
	s.gives("payment-1", podAddress)
	s.wait(time.Second)
	calls()
	s.wait(30 * time.Second)
	f := s.one()
	assert.Equal(t, "pod-interface-down", f.Pattern)
	assert.EqualValues(t, 20, f.Impact.FailedRequests)

	s.gets("batch-4", podAddress)
	s.wait(time.Second)
	calls()
	s.wait(30 * time.Second)
	assert.EqualValues(t, 20, s.one().Impact.FailedRequests)
}

// TestNetworkOfPodIsWellAgain: what fails after an interface is well again has another cause.
// Calls that began before are its effects, however late they are given up, and when all is
// told before a finding was.
func TestNetworkOfPodIsWellAgain(t *testing.T) {
	for name, tc := range map[string]struct {
		failed int64 // of the finding, 0 for none
		play   func(s *scenario, calls func(took time.Duration))
	}{
		"after the finding": {10, func(s *scenario, calls func(time.Duration)) {
			calls(0)
			s.wait(10 * time.Second)
			s.over("payment-1")
		}},
		"before the finding": {10, func(s *scenario, calls func(time.Duration)) {
			calls(0)
			s.over("payment-1")
		}},
		"before the calls": {0, func(s *scenario, calls func(time.Duration)) {
			s.over("payment-1")
			s.wait(2 * time.Second)
			calls(0)
		}},
		"while they wait": {10, func(s *scenario, calls func(time.Duration)) {
			s.wait(5 * time.Second)
			s.over("payment-1")
			s.wait(10 * time.Second)
			calls(15 * time.Second)
		}},
		"while some wait": {20, func(s *scenario, calls func(time.Duration)) {
			calls(0)
			s.wait(5 * time.Second)
			s.over("payment-1")
			s.wait(10 * time.Second)
			calls(15 * time.Second)
		}},
		"of another interface": {10, func(s *scenario, calls func(time.Duration)) {
			s.ofPod("payment-1", event.CNIRecovered, map[string]any{
				event.KeyCNINetwork: "pods", event.KeyInterfaceName: "net1", event.KeyCNIRecovered: event.CNIInterfaceDown,
			})
			s.wait(2 * time.Second)
			calls(0)
			s.over("payment-1")
		}},
		"and it is down again": {10, func(s *scenario, calls func(time.Duration)) {
			s.over("payment-1")
			s.wait(2 * time.Second)
			s.down("payment-1")
			calls(0)
			s.wait(10 * time.Second)
			s.over("payment-1")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.gets("payment-1", podAddress)
			for range 20 {
				s.byAddress("")
			}
			s.down("payment-1")
			tc.play(s, func(took time.Duration) {
				for range 10 {
					s.dialFor(payment, podAddress, noAnswer, max(took, 4*time.Millisecond))
				}
			})
			s.wait(30 * time.Second)
			if tc.failed == 0 {
				for _, f := range s.latest() {
					assert.NotEqual(t, "pod-interface-down", f.Pattern)
				}
				return
			}
			f := s.one()
			assert.Equal(t, "pod-interface-down", f.Pattern)
			assert.Equal(t, tc.failed, f.Impact.FailedRequests)
			assert.Equal(t, finding.StateResolved, f.State)
		})
	}
}

// TestOtherPodOfServiceByAddress: the network of one of two pods is down, and calls to the
// other one fail as well: of something else, though the spans of both are the same service's.
func TestOtherPodOfServiceByAddress(t *testing.T) {
	s := newScenario(t)
	callee := service{name: payment.name}
	s.gets("payment-1", podAddress)
	s.gets("payment-2", "10.197.9.3")
	for range 10 {
		s.dial(callee, podAddress, "")
		s.dial(callee, "10.197.9.3", "")
	}
	for range 3 {
		s.dial(callee, podAddress, noAnswer)
	}
	s.down("payment-1")
	for range 10 {
		s.dial(callee, "10.197.9.3", "HTTP 500")
	}
	s.wait(30 * time.Second)
	for _, f := range s.latest() {
		if f.RootCause.Event == event.CNIInterfaceDown {
			assert.EqualValues(t, 3, f.Impact.FailedRequests)
			return
		}
	}
	t.Fatal("no finding names the interface")
}

// TestConnectionToPodByAddress: that the kernel saw connections fail is linked to the pod that has
// their address, before any request is known to have failed.
func TestConnectionToPodByAddress(t *testing.T) {
	s := newScenario(t)
	s.gets("payment-1", podAddress)
	for range 10 {
		s.byAddress("")
	}
	s.down("payment-1")
	for _, address := range []string{podAddress, "10.197.9.3"} {
		s.kernel(storefront, event.TCPConnectFailed, s.clock, map[string]any{
			event.KeyPeerAddress: address, event.KeyPeerPort: payment.port, event.KeyErrorType: event.ErrorConnectionTimedOut,
		})
	}
	s.wait(time.Second)
	chain := s.one().Chain
	require.Len(t, chain, 2)
	assert.Equal(t, event.TCPConnectFailed, chain[1].Event)
	assert.EqualValues(t, 1, chain[1].Count)
	assert.Equal(t, podAddress+":8081, the address of pod payment-1", chain[1].LinkedOn)
}

// TestQueueOfPodByAddress: an event that is a cause only where somebody suffers, of a process
// in a pod of which the spans say nothing.
func TestQueueOfPodByAddress(t *testing.T) {
	full := func(s *scenario, pod, service string) {
		resource := map[string]any{
			event.KeyPodName: pod, event.KeyPodUID: "uid-" + pod, event.KeyNamespaceName: "shop",
			event.KeyContainerID: "app-" + pod, event.KeyProcessPID: 77, event.KeyProcessVPID: 1,
		}
		if service != "" {
			resource[event.KeyServiceName] = service
		}
		s.about("tapio.tcp.listen_overflow", nil, resource)
	}
	for spans, callee := range map[string]service{"processes": payment, "a service": {name: payment.name}} {
		inVain := func(s *scenario) {
			for range 10 {
				s.dial(callee, podAddress, noAnswer)
				s.dial(service{name: payment.name}, "10.197.9.3", "")
			}
		}
		for _, service := range []string{"", payment.name} {
			for name, tc := range map[string]struct {
				want bool
				play func(*scenario)
			}{
				"before": {true, func(s *scenario) { full(s, "payment-1", service); inVain(s) }},
				"after":  {true, func(s *scenario) { inVain(s); full(s, "payment-1", service) }},
				"told late": {true, func(s *scenario) {
					inVain(s)
					at := s.clock
					s.wait(5 * time.Second)
					now := s.clock
					s.clock = at
					full(s, "payment-1", service)
					s.clock = now
				}},
				"of another pod":        {false, func(s *scenario) { full(s, "batch-4", ""); inVain(s) }},
				"of another pod, after": {false, func(s *scenario) { inVain(s); full(s, "batch-4", "") }},
			} {
				t.Run(fmt.Sprintf("%s, spans of %s, of service %q", name, spans, service), func(t *testing.T) {
					t.Parallel()
					s := newScenario(t)
					s.gets("payment-1", podAddress)
					s.gets("payment-2", "10.197.9.3")
					for range 10 {
						s.dial(callee, podAddress, "")
						s.dial(callee, "10.197.9.3", "")
					}
					tc.play(s)
					s.wait(30 * time.Second)
					if tc.want {
						assert.Equal(t, "accept-queue-full", s.one().Pattern)
					}
					for _, f := range s.latest() {
						assert.Equal(t, tc.want, f.Pattern == "accept-queue-full", f.Pattern)
					}
				})
			}
		}
	}
}

// TestCallToPodThatIsGone: payment's pod is gone and the pool has no address for the
// next one; its callers still dial the old address, which another pod may have by then.
// Whatever is told first, their calls stand in the chain as calls that fail.
func TestCallToPodThatIsGone(t *testing.T) {
	exhausted := func(s *scenario) {
		s.about(event.CNIPoolExhausted, map[string]any{event.KeyCNINetwork: "pods"}, map[string]any{})
	}
	taken := func(s *scenario) { s.gets("batch-4", podAddress) }
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
			s.gets("payment-1", podAddress)
			calls("")(s)
			s.gives("payment-1", podAddress)
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
