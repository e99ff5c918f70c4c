package engine

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// TestBridgeOfAnotherNetwork: a bridge is gone, and calls to a pod fail: they can be its
// effect where the pod is in that network, on that node.
func TestBridgeOfAnotherNetwork(t *testing.T) {
	for network, want := range map[string]bool{"pods": true, "storage": false} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.ofPod("payment-1", event.CNIInterface, map[string]any{event.KeyCNIAddresses: []any{podAddress + "/24"}, event.KeyCNINetwork: network})
			for range 20 {
				s.byAddress("")
			}
			s.about(event.CNIInterfaceDown, map[string]any{event.KeyCNINetwork: "pods", event.KeyInterfaceName: "br0"}, nil)
			for range 10 {
				s.byAddress(noAnswer)
			}
			s.wait(30 * time.Second)
			named := slices.ContainsFunc(s.latest(), func(f *finding.Finding) bool {
				return f.Pattern == "pod-interface-down" && f.Impact.FailedRequests == 10
			})
			assert.Equal(t, want, named)
		})
	}
}

// TestPoolsOfTwoNetworks: each has its finding, also when both are used up at once, and an
// operation is the effect of its own network's.
func TestPoolsOfTwoNetworks(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(time.Second)
	networks := []string{"pods", "pods-2"}
	about := func(name string, attrs map[string]any) {
		for _, network := range networks {
			attrs[event.KeyCNINetwork] = network
			s.aboutIn(name, fmt.Sprint(name, " of ", network), attrs, nil)
		}
	}
	about(event.CNIPoolExhausted, map[string]any{})
	s.wait(100 * time.Millisecond)
	about(event.CNIOperation, map[string]any{event.KeyErrorType: "address_pool_exhausted"})
	s.wait(3 * time.Second)
	all := s.latest()
	require.Len(t, all, 2)
	for _, f := range all {
		network := f.RootCause.Evidence[event.KeyCNINetwork]
		assert.Contains(t, f.Title, fmt.Sprint("network ", network, " is"))
		require.Len(t, f.Chain, 2)
		assert.Contains(t, f.Chain[1].Title, fmt.Sprint(" of ", network))
		assert.EqualValues(t, 1, f.Chain[1].Count)
		assert.NotContains(t, f.RootCause.Evidence, "tapio.cause.count")
	}
	s.about(event.CNIRecovered, map[string]any{event.KeyCNINetwork: "pods", event.KeyCNIRecovered: event.CNIPoolExhausted}, nil)
	s.wait(3 * time.Second)
	for _, f := range s.latest() {
		want := map[any]finding.State{"pods": finding.StateMended, "pods-2": finding.StateOpen}
		assert.Equal(t, want[f.RootCause.Evidence[event.KeyCNINetwork]], f.State)
	}
}

// TestWhyAnotherCauseLost: what else was there is told apart by what is true of it.
func TestWhyAnotherCauseLost(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(time.Second)
	s.about(event.CNIPoolExhausted, map[string]any{event.KeyCNINetwork: "pods"}, nil)
	s.wait(100 * time.Millisecond)
	s.about(event.CNIOperation, map[string]any{event.KeyErrorType: "address_pool_exhausted", event.KeyCNINetwork: "pods"}, nil)
	s.about(event.CNIInterfaceDown, map[string]any{event.KeyInterfaceName: "eth1"}, nil)
	s.exit(payment, exit2)
	s.wait(3 * time.Second)
	pool := s.one()
	s.breaks(pods, "a comma", 2)
	s.sandbox()
	s.wait(3 * time.Second)
	all := s.latest()
	require.Len(t, all, 2)
	reasons := map[string]string{}
	for _, f := range all {
		for _, r := range f.Rejected {
			reasons[f.Pattern+" "+r.Pattern] = r.Reason
		}
	}
	assert.Equal(t, "it has a finding of its own, "+pool.ID.String(), reasons["cni-config-broken address-pool-exhausted"])
	assert.Equal(t, "it explains 0 of the 1 events that follow from the cause", reasons["cni-config-broken interface-down"])
	assert.NotContains(t, reasons, "cni-config-broken process-crashed", "it is only on the same node")
}
