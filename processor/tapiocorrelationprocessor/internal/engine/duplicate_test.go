package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

// collision is payment's address, which another pod has, too.
func collision(other string) map[string]any {
	return map[string]any{
		event.KeyCNIAddress: podAddress, event.KeyCNINetwork: "pods", event.KeyCNIOther: "pod shop/" + other, event.KeyCNIOtherContainerID: "c-" + other,
		event.KeyCNIOtherPodName: other, event.KeyCNIOtherPodNamespace: "shop", event.KeyCNIOtherPodUID: "uid-" + other,
	}
}

// permutations returns all orders of n things.
func permutations(n int) (out [][]int) {
	if n == 0 {
		return [][]int{{}}
	}
	for _, p := range permutations(n - 1) {
		for at := range n {
			order := append([]int{}, p[:at]...)
			out = append(out, append(append(order, n-1), p[at:]...))
		}
	}
	return out
}

// TestDuplicateAddress: another pod has payment's address, too. Now the one takes its
// calls and now the other, which refuses them, does not answer or answers wrongly. In
// whatever order that is told, the collision is the one cause of all of it.
func TestDuplicateAddress(t *testing.T) {
	t.Parallel()
	const timeout = `Post "http://10.197.9.2:8081/charge": context deadline exceeded`
	const refused = `Post "http://10.197.9.2:8081/charge": dial tcp 10.197.9.2:8081: connect: connection refused`
	failing := func(err string) func(*scenario) {
		return func(s *scenario) {
			for range 10 {
				s.byAddress(err)
				s.byAddress("")
			}
		}
	}
	steps := []func(*scenario){
		func(s *scenario) { s.ofPod("payment-1", event.CNIAddressDuplicate, collision("thief")) },
		func(s *scenario) {
			s.ofPod("thief", event.CNIInterface, map[string]any{event.KeyCNINetwork: "pods", event.KeyCNIAddresses: []any{"10.197.9.3/24", podAddress + "/24"}})
		},
		func(s *scenario) {
			s.kernel(storefront, event.TCPConnectFailed, s.clock, map[string]any{
				event.KeyPeerAddress: podAddress, event.KeyPeerPort: payment.port, event.KeyErrorType: event.ErrorConnectionRefused,
			})
		},
		failing(refused),
		failing(timeout),
	}
	for _, order := range permutations(len(steps)) {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.gets("payment-1", podAddress)
			for range 30 {
				s.byAddress("")
			}
			for _, n := range order {
				steps[n](s)
				s.wait(300 * time.Millisecond)
			}
			s.wait(10 * time.Second)
			f := s.one()
			require.Equal(t, "address-duplicate", f.Pattern, f.Title)
			assert.Equal(t, "payment-1", f.RootCause.Entity.Name)
			assert.Equal(t, "thief", f.RootCause.Evidence[event.KeyCNIOtherPodName], "the other is named")
			assert.EqualValues(t, 20, f.Impact.FailedRequests)
			byAddress := map[string]bool{}
			for _, l := range f.Chain {
				byAddress[l.Event] = byAddress[l.Event] || l.LinkedBy == finding.LinkedByAddress
			}
			assert.True(t, byAddress[pattern.CallFailed], "calls of the address fail")
			assert.True(t, byAddress[event.TCPConnectFailed], "connections to the address fail")
		})
	}
}

// TestDuplicateAddressOfTheOther: calls of the other pod, at whichever of its addresses, suffer
// as well; those of a third one do not.
func TestDuplicateAddressOfTheOther(t *testing.T) {
	t.Parallel()
	for other, want := range map[string]string{"payment-1": "address-duplicate", "ledger-1": "connection-refused"} {
		s := newScenario(t)
		s.gets("payment-1", podAddress)
		attrs := collision(other)
		attrs[event.KeyCNIAddress] = "10.197.9.7"
		s.ofPod("cart-1", event.CNIAddressDuplicate, attrs)
		for range 10 {
			s.byAddress(`dial tcp 10.197.9.2:8081: connect: connection refused`)
		}
		s.wait(10 * time.Second)
		assert.Equal(t, want, s.one().Pattern, other)
	}
}

// TestDuplicateAddressIsOver: what fails after the collision is no effect of it.
func TestDuplicateAddressIsOver(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.gets("payment-1", podAddress)
	for range 30 {
		s.byAddress("")
	}
	s.ofPod("payment-1", event.CNIAddressDuplicate, collision("thief"))
	s.wait(time.Second)
	over := collision("thief")
	over[event.KeyCNIRecovered] = event.CNIAddressDuplicate
	s.ofPod("payment-1", event.CNIRecovered, over)
	s.wait(5 * time.Second)
	for range 10 {
		s.byAddress(`dial tcp 10.197.9.2:8081: connect: connection refused`)
	}
	s.wait(10 * time.Second)
	assert.Equal(t, "connection-refused", s.one().Pattern)
}
