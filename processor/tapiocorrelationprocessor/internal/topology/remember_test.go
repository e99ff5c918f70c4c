package topology

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// again puts entities through what a store keeps of them, into an empty graph.
func again(t *testing.T, g *Graph, ids ...record.EntityID) (*Graph, []record.EntityID) {
	t.Helper()
	list, at := g.Remember(ids...)
	kept, err := json.Marshal(list)
	require.NoError(t, err)
	var read []Remembered
	require.NoError(t, json.Unmarshal(kept, &read))
	g = New(Limits{Entities: 1000, OperationsPerService: 10})
	all := g.Recall(read)
	var out []record.EntityID
	for _, id := range ids {
		require.NotZero(t, at[id])
		out = append(out, all[at[id]-1])
	}
	return g, out
}

func TestWhatIsRememberedIsTheSameAgain(t *testing.T) {
	g := New(Limits{Entities: 1000, OperationsPerService: 10})
	inPod := Resource{
		Service: "payment", ServiceVersion: "2", Host: "a", PID: 7, Created: 5e9, Container: "0123456789abcdef", ContainerName: "main", VPID: 1,
		PodUID: "uid", PodName: "payment-1", Namespace: "shop", Deployment: "payment", WorkloadKind: "deployment", Workload: "payment", Node: "node-a",
	}
	onHost := Resource{Service: "ledger", Host: "a", PID: 9, Executable: "ledger", Unit: "ledger.service"}
	pod, host := g.Resolve(&inPod, 100), g.Resolve(&onHost, 100)
	local := g.Address(host.Host, "127.0.0.1", 8082, 100)
	g.Owned(local, host.Subject, 100)
	network := g.Network(host.Host, "net", 100)

	h, ids := again(t, g, pod.Subject, host.Subject, local, network)
	after := h.Resolve(&inPod, 200)
	assert.Equal(t, ids[0], after.Subject)
	byName := Resource{PodName: "payment-1", Namespace: "shop"}
	assert.Equal(t, h.PlaceOf(ids[0]).Pod, h.Resolve(&byName, 200).Subject)
	byNode := Resource{Node: "node-a"}
	assert.Equal(t, h.PlaceOf(ids[0]).Host, h.Resolve(&byNode, 200).Host)
	assert.Equal(t, ids[1], h.Resolve(&onHost, 200).Subject)
	assert.Equal(t, ids[2], h.Address(h.Resolve(&onHost, 200).Network, "localhost", 8082, 200))
	assert.Equal(t, ids[1], h.Owner(ids[2], 200))
	assert.Equal(t, ids[3], h.Network(h.PlaceOf(ids[1]).Host, "net", 200))
	for i, id := range []record.EntityID{pod.Subject, host.Subject, local, network} {
		was, _ := g.Entity(id)
		is, _ := h.Entity(ids[i])
		assert.Equal(t, was.Attributes, is.Attributes)
		assert.Equal(t, was.Key, is.Key)
		assert.Equal(t, g.ServiceName(id), h.ServiceName(ids[i]))
		assert.Equal(t, g.Key(g.PlaceOf(id).Workload), h.Key(h.PlaceOf(ids[i]).Workload))
	}
}

func TestRecallTwiceIsTheSameEntity(t *testing.T) {
	g := New(Limits{Entities: 1000, OperationsPerService: 10})
	r := Resource{Service: "ledger", Host: "a", PID: 9, Created: 5e9}
	ref := g.Resolve(&r, 100)
	address := g.Address(ref.Host, "127.0.0.1", 8082, 100)
	list, _ := g.Remember(ref.Subject, address)
	before := g.Stats().Entities
	g.Recall(list)
	assert.Equal(t, before, g.Stats().Entities)
}

func TestRecallOfDamage(t *testing.T) {
	g := New(Limits{Entities: 1000, OperationsPerService: 10})
	for _, text := range []string{
		`[{}]`, `[{"key":"x"}]`, `[{"key":"x","entity":{"kind":"nonsense"}}]`, `[{"key":"operation/x","entity":{"kind":"operation"}}]`,
		`[{"key":"pod/x","entity":{"kind":"pod","name":"x"},"pod":1,"host":-1,"service":99,"owner":1}]`,
		`[{"key":"address//x","entity":{"kind":"address"},"network":1,"owner":1}]`,
	} {
		var list []Remembered
		require.NoError(t, json.Unmarshal([]byte(text), &list))
		assert.Len(t, g.Recall(list), 1)
	}
	many := make([]Remembered, maxRemembered+1)
	assert.Len(t, g.Recall(many), maxRemembered)
}
