package topology

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const second = int64(time.Second)

func podOf(g *Graph, name, sandbox string, at int64) Ref {
	return g.Resolve(&Resource{Host: "n1", Container: sandbox, PodName: name, PodUID: "uid-" + name, Namespace: "shop"}, at)
}

func iface(address string) Interface {
	return Interface{Addresses: []string{address + "/24"}, HostInterface: "veth1", Netns: "/run/netns/cni-1"}
}

func TestAddressBelongsToPodFromThenOn(t *testing.T) {
	g := New(Limits{Entities: 100, OperationsPerService: 10})
	a := g.Address(0, "10.88.0.5", 8081, second)
	assert.Zero(t, g.Owner(a, second), "nobody's yet")

	one, two := podOf(g, "one", "c1", 2*second), podOf(g, "two", "c2", 2*second)
	g.Attached(one.Network, iface("10.88.0.5"), 2*second)
	assert.Zero(t, g.Owner(a, second), "not before")
	assert.Equal(t, one.Network, g.Owner(a, 3*second))
	assert.Equal(t, one.Network, g.Owner(g.Address(0, "10.88.0.5", 9999, second), 3*second), "whichever port")
	p, _ := g.Entity(one.Network)
	assert.Equal(t, "10.88.0.5", p.Attributes[event.KeyPodIP])
	assert.Equal(t, "veth1", p.Attributes[event.KeyCNIHostInterface])

	g.Detached(one.Network, iface("10.88.0.5"), 4*second)
	assert.Equal(t, one.Network, g.Owner(a, 5*second), "who calls it still means that pod")
	g.Attached(two.Network, iface("10.88.0.5"), 6*second)
	assert.Equal(t, one.Network, g.Owner(a, 5*second))
	assert.Equal(t, two.Network, g.Owner(a, 7*second))
}

// TestOwnerAtItsTime: an address goes from pod to pod and back. Who had it is the same
// in whichever order the receivers tell.
func TestOwnerAtItsTime(t *testing.T) {
	const rounds = 6
	for seed := range uint64(50) {
		g := New(Limits{Entities: 100, OperationsPerService: 10})
		pods := []Ref{podOf(g, "one", "c1", second), podOf(g, "two", "c2", second), podOf(g, "three", "c3", second)}
		has := func(n int) record.EntityID { return pods[n%len(pods)].Network }
		a := g.Address(0, "10.88.0.5", 8081, second)
		told := rand.New(rand.NewPCG(seed, 0)).Perm(2 * rounds)
		for _, n := range told {
			from := int64(n/2+1) * 10 * second
			if n%2 == 0 {
				g.Attached(has(n/2), iface("10.88.0.5"), from)
			} else {
				g.Detached(has(n/2), iface("10.88.0.5"), from+5*second)
			}
		}
		for n := range rounds {
			from := int64(n+1) * 10 * second
			require.Equal(t, has(n), g.Owner(a, from+second), "told in the order %v", told)
			require.Equal(t, has(n), g.Owner(a, from+7*second), "gone, and nobody else's: %v", told)
			require.Equal(t, has(n), g.Holder(a, from+second), "told in the order %v", told)
			require.Zero(t, g.Holder(a, from+7*second), "gone: %v", told)
		}
	}
}

func TestHolderWhoeverAnswered(t *testing.T) {
	g := New(Limits{Entities: 100, OperationsPerService: 10})
	one, two := podOf(g, "one", "c1", second), podOf(g, "two", "c2", second)
	payment := g.Resolve(&Resource{Service: "payment"}, second)
	a := g.Address(0, "10.88.0.5", 8081, second)
	assert.Zero(t, g.Holder(a, second), "nobody's yet")
	assert.Zero(t, g.Holder(0, second))
	assert.Zero(t, g.Holder(payment.Subject, second), "no address")

	g.Attached(one.Network, iface("10.88.0.5"), 2*second)
	g.Owned(a, payment.Subject, 3*second)
	assert.Equal(t, payment.Subject, g.Owner(a, 4*second))
	assert.Equal(t, one.Network, g.Holder(a, 4*second))
	assert.Zero(t, g.Holder(a, second), "not before")
	g.Detached(two.Network, iface("10.88.0.5"), 4*second) // one that never had it
	assert.Equal(t, one.Network, g.Holder(a, 5*second))
	g.Detached(one.Network, iface("10.88.0.5"), 6*second)
	assert.Equal(t, one.Network, g.Holder(a, 5*second), "until then")
	assert.Zero(t, g.Holder(a, 6*second))
	g.Attached(one.Network, iface("10.88.0.5"), 8*second)
	assert.Equal(t, one.Network, g.Holder(a, 9*second), "it has it again")
	assert.Zero(t, g.Holder(a, 7*second))

	for _, loopback := range []string{"127.0.0.1", "::1", "localhost", "::ffff:127.0.0.1"} {
		g.Attached(one.Network, iface(loopback), 2*second)
		assert.Zero(t, g.Holder(g.Address(one.Network, loopback, 8081, second), 4*second), loopback)
	}
}

// TestDeparturesAreBounded: an address that goes round keeps the newest of them.
func TestDeparturesAreBounded(t *testing.T) {
	g := New(Limits{Entities: 100, OperationsPerService: 10})
	one, two := podOf(g, "one", "c1", second), podOf(g, "two", "c2", second)
	a := g.Address(0, "10.88.0.5", 8081, second)
	var at int64
	for n := range 100 {
		at = int64(n+1) * 10 * second
		pod := []Ref{one, two}[n%2]
		g.Attached(pod.Network, iface("10.88.0.5"), at)
		require.Equal(t, pod.Network, g.Holder(a, at+second))
		g.Detached(pod.Network, iface("10.88.0.5"), at+2*second)
		g.Detached(pod.Network, iface("10.88.0.5"), at+2*second) // told twice
	}
	assert.Zero(t, g.Holder(a, at+3*second))
	assert.Len(t, g.entity(g.wholeAddress(0, "10.88.0.5", at)).left, maxOwners)
}

// TestLastOwnerIsRememberedWhileCalled: as long as callers try the address of a pod that
// is gone, it is known whose it was.
func TestLastOwnerIsRememberedWhileCalled(t *testing.T) {
	g := New(Limits{Entities: 100, OperationsPerService: 10})
	one := podOf(g, "one", "c1", second)
	g.Attached(one.Network, iface("10.88.0.5"), second)
	g.Detached(one.Network, iface("10.88.0.5"), 2*second)
	for at := 3 * second; at < 100*second; at += 5 * second {
		a := g.Address(0, "10.88.0.5", 8081, at)
		require.Equal(t, one.Network, g.Owner(a, at))
		g.Sweep(at - 10*second)
	}
	e, ok := g.Entity(one.Network)
	require.True(t, ok)
	assert.True(t, g.Known(e.Host), "and what it was part of")
	g.Sweep(200 * second)
	assert.False(t, g.Known(one.Network), "nobody calls it any more")
}

func TestWhoAnsweredIsMoreExactThanTheInterface(t *testing.T) {
	g := New(Limits{Entities: 100, OperationsPerService: 10})
	one, two := podOf(g, "one", "c1", second), podOf(g, "two", "c2", second)
	g.Attached(one.Network, iface("10.88.0.5"), second)
	process := g.Resolve(&Resource{Host: "n1", Container: "app", PodUID: "uid-one", PodName: "one", Namespace: "shop", PID: 7}, 2*second)
	a := g.Address(0, "10.88.0.5", 8081, 2*second)
	g.Owned(a, process.Subject, 2*second)
	assert.Equal(t, process.Subject, g.Owner(a, 3*second), "a process of that pod")
	g.Attached(one.Network, iface("10.88.0.5"), 4*second) // told again
	assert.Equal(t, process.Subject, g.Owner(a, 5*second))
	g.Attached(two.Network, iface("10.88.0.5"), 6*second)
	assert.Equal(t, two.Network, g.Owner(a, 7*second), "the address has moved")
}

func TestAddressInUseIsRemembered(t *testing.T) {
	g := New(Limits{Entities: 100, OperationsPerService: 10})
	one := podOf(g, "one", "c1", second)
	g.Attached(one.Network, iface("10.88.0.5"), second)
	g.Sweep(1000 * second)
	assert.Equal(t, one.Network, g.Owner(g.Address(0, "10.88.0.5", 8081, 1000*second), 1000*second))
	g.Detached(one.Network, iface("10.88.0.5"), 1001*second)
	g.Sweep(2000 * second)
	assert.Zero(t, g.Owner(g.Address(0, "10.88.0.5", 8081, 2000*second), 2000*second))
	assert.False(t, g.Known(one.Network))
}

func TestUnitRunsProcess(t *testing.T) {
	g := New(Limits{Entities: 100, OperationsPerService: 10})
	unit := g.Resolve(&Resource{Host: "n1", Unit: "pay.service"}, second).Subject
	sdk := g.Resolve(&Resource{Host: "n1", PID: 7, Service: "payment"}, 10*second)
	g.Runs(unit, 7, 5*second, 11*second)
	by, ok := g.Concerns(unit, sdk.Subject)
	require.True(t, ok)
	assert.Equal(t, "owner", string(by))
	assert.Equal(t, "payment", g.ServiceName(unit))
	assert.Equal(t, unit, g.PlaceOf(sdk.Subject).Workload)

	// The same pid again, another process: what was known of the old one stays its own.
	g.Runs(unit, 7, 60*second, 61*second)
	again := g.Resolve(&Resource{Host: "n1", PID: 7, Service: "payment"}, 62*second)
	assert.NotEqual(t, sdk.Subject, again.Subject)
	assert.Equal(t, unit, g.PlaceOf(again.Subject).Workload)

	// The kernel knows the start of the process exactly, systemd a little later.
	kernel := g.Resolve(&Resource{Host: "n1", PID: 8, Created: 70 * second}, 70*second)
	g.Runs(unit, 8, 70*second+second/20, 71*second)
	assert.Equal(t, unit, g.PlaceOf(kernel.Subject).Workload)

	for _, bad := range []record.EntityID{0, 999, sdk.Subject} {
		g.Runs(bad, 9, second, second)
	}
	g.Runs(unit, 0, second, second)
}

func TestNetworkIsOfAHost(t *testing.T) {
	g := New(Limits{Entities: 100, OperationsPerService: 10})
	one, two := g.Resolve(&Resource{Host: "n1"}, second).Host, g.Resolve(&Resource{Host: "n2"}, second).Host
	n := g.Network(one, "pods", second)
	assert.Equal(t, n, g.Network(one, "pods", 2*second))
	assert.NotEqual(t, n, g.Network(two, "pods", second))
	assert.Equal(t, one, g.PlaceOf(n).Host)
	e, _ := g.Entity(n)
	assert.Equal(t, "network", e.Kind.String())
	assert.Zero(t, g.Network(one, "", second))
	assert.Zero(t, g.Network(0, "pods", second))
}
