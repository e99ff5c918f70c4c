package topology

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/yairfalse/tapio/internal/finding"
)

func TestPlaces(t *testing.T) {
	t.Parallel()
	g := New(Limits{Entities: 100, OperationsPerService: 10})
	pod := func(name, node string) Ref {
		return g.Resolve(&Resource{Service: "pay", Namespace: "shop", PodName: name, Node: node, WorkloadKind: "deployment", Workload: "pay"}, 1)
	}
	a, b := pod("pay-1", "node1"), pod("pay-2", "node2")
	workload := g.Resolve(&Resource{Namespace: "shop", WorkloadKind: "deployment", Workload: "pay"}, 1)
	host := g.Resolve(&Resource{Host: "node1"}, 1)
	unit := g.Resolve(&Resource{Host: "node1", Unit: "kubelet.service"}, 1)
	other := g.Resolve(&Resource{Namespace: "shop", WorkloadKind: "statefulset", Workload: "pay"}, 1)

	by, ok := g.Concerns(workload.Subject, a.Subject)
	assert.True(t, ok)
	assert.Equal(t, finding.LinkedByOwner, by)
	_, ok = g.Concerns(a.Subject, b.Subject)
	assert.False(t, ok, "one pod of a workload is not the other")
	_, ok = g.Concerns(other.Subject, a.Subject)
	assert.False(t, ok, "a stateful set of the same name")
	assert.Equal(t, host.Subject, g.PlaceOf(a.Subject).Host, "a node is the host of its name")
	assert.Equal(t, host.Subject, g.PlaceOf(unit.Subject).Host)
	assert.Equal(t, workload.Subject, g.PlaceOf(a.Subject).Workload)
	assert.Equal(t, workload.Namespace, g.PlaceOf(b.Subject).Namespace)
	assert.NotEqual(t, g.PlaceOf(a.Subject).Host, g.PlaceOf(b.Subject).Host)
	assert.Zero(t, g.PlaceOf(0))
}
