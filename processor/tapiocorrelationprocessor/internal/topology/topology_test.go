package topology

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const sec = int64(time.Second)

var base = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano()

func newGraph() *Graph { return New(Limits{Entities: 1000, OperationsPerService: 10}) }

// entity returns an entity that must be there.
func entity(t *testing.T, g *Graph, id record.EntityID) Snapshot {
	t.Helper()
	e, ok := g.Entity(id)
	require.True(t, ok)
	return e
}

func TestReadResource(t *testing.T) {
	m := pcommon.NewMap()
	require.NoError(t, m.FromRaw(map[string]any{
		event.KeyServiceName: "payment", event.KeyServiceNamespace: "shop", event.KeyServiceInstanceID: "i", event.KeyServiceVersion: "2",
		event.KeyHostName: "node1", event.KeyProcessPID: "42", event.KeyProcessVPID: 1,
		event.KeyProcessCreationTime: "2026-11-23T12:00:00.5Z", event.KeyProcessExecutableName: "java", event.KeyProcessCgroup: "/a",
		event.KeyContainerID: "c", event.KeyContainerName: "app", event.KeyPodUID: "u", event.KeyPodName: "p",
		event.KeyNamespaceName: "ns", event.KeyDeploymentName: "d", event.KeyNodeName: "n", "something.else": []any{1},
	}))
	want := Resource{
		Service: "payment", ServiceNamespace: "shop", ServiceInstance: "i", ServiceVersion: "2", Host: "node1", PID: 42, VPID: 1,
		Created: base + sec/2, Executable: "java", Cgroup: "/a", Container: "c", ContainerName: "app",
		PodUID: "u", PodName: "p", Namespace: "ns", Deployment: "d", Node: "n", WorkloadKind: "deployment", Workload: "d",
	}
	got := ReadResource(m)
	assert.Equal(t, want, got)
}

func TestReadResourceIgnoresNonsense(t *testing.T) {
	m := pcommon.NewMap()
	m.PutStr(event.KeyProcessPID, "twelve")
	m.PutDouble(event.KeyProcessVPID, 1.5)
	m.PutStr(event.KeyProcessCreationTime, "yesterday")
	assert.Equal(t, Resource{}, ReadResource(m))
}

func TestReadResourceBoundsTexts(t *testing.T) {
	m := pcommon.NewMap()
	m.PutStr(event.KeyServiceName, strings.Repeat("x", 1<<20))
	m.PutStr(event.KeyHostName, "a\xffb")
	r := ReadResource(m)
	assert.LessOrEqual(t, len(r.Service), 1024)
	assert.Equal(t, "a\uFFFDb", r.Host, "OTLP texts are UTF-8")
}

// An SDK and the kernel name one process by host and pid; each says something else.
func TestSDKAndKernelAreOneProcess(t *testing.T) {
	sdk := Resource{Service: "payment", ServiceVersion: "2", Host: "node1", PID: 42}
	kernel := Resource{Host: "node1", PID: 42, Created: base - 10*sec, Executable: "java", Cgroup: "/shop/payment"}
	for name, order := range map[string][]Resource{"SDK first": {sdk, kernel}, "kernel first": {kernel, sdk}} {
		t.Run(name, func(t *testing.T) {
			g := newGraph()
			a, b := g.Resolve(&order[0], base), g.Resolve(&order[1], base+sec)
			assert.Equal(t, a.Subject, b.Subject)
			p := entity(t, g, a.Subject)
			assert.Equal(t, KindProcess, p.Kind)
			assert.Equal(t, "payment", p.Name)
			assert.Equal(t, "java", p.Executable)
			assert.Equal(t, "/shop/payment", p.Cgroup)
			assert.Equal(t, "2", p.Version)
			assert.Equal(t, base-10*sec, p.Created)
			assert.Equal(t, "payment", g.ServiceName(p.ID))
			assert.EqualValues(t, 42, p.Attributes[event.KeyProcessPID])
			assert.Equal(t, "node1", p.Attributes[event.KeyHostName])
			kind, ok := g.Concerns(p.ID, p.ID)
			assert.True(t, ok)
			assert.Equal(t, finding.LinkedByProcess, kind)
		})
	}
}

// TestProcessBecomesAnotherProgram: it is called by what it ran last.
func TestProcessBecomesAnotherProgram(t *testing.T) {
	running := func(executable, comm string) *Resource {
		return &Resource{Host: "node1", PID: 42, Created: base, Executable: executable, Comm: comm}
	}
	g := newGraph()
	id := g.Resolve(running("env", "env"), base).Subject
	assert.Equal(t, "env", g.ServiceName(id))
	require.Equal(t, id, g.Resolve(running("python3.11", "python3"), base+sec).Subject)
	assert.Equal(t, "python3.11", g.ServiceName(id))
	assert.Equal(t, "python3.11", entity(t, g, id).Attributes[event.KeyProcessExecutableName])
	g.Resolve(running("env", "env"), base+sec/2)
	assert.Equal(t, "python3.11", g.ServiceName(id), "an event that came late")
	g.Resolve(running("python3", "python3"), base+2*sec)
	assert.Equal(t, "python3.11", g.ServiceName(id), "the kernel had let go of the executable")
	g.Resolve(&Resource{Host: "node1", PID: 42, Created: base, Service: "payment"}, base+3*sec)
	g.Resolve(running("bash", "bash"), base+4*sec)
	assert.Equal(t, "payment", g.ServiceName(id), "its service names it")
}

func TestReusedPIDIsAnotherProcess(t *testing.T) {
	for name, tc := range map[string]struct {
		r    Resource
		same bool
	}{
		"another start":                   {Resource{Host: "node1", PID: 42, Created: base + 100*sec}, false},
		"the start in clock ticks":        {Resource{Host: "node1", PID: 42, Created: base + creationSlack/2}, true},
		"another host":                    {Resource{Host: "node2", PID: 42, Created: base}, false},
		"no host: nobody knows which one": {Resource{PID: 42, Created: base}, false},
		"another pid":                     {Resource{Host: "node1", PID: 43, Created: base}, false},
		"a negative pid is none":          {Resource{Host: "node1", PID: -42, Created: base}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGraph()
			old := g.Resolve(&Resource{Host: "node1", PID: 42, Created: base}, base)
			got := g.Resolve(&tc.r, base+200*sec)
			assert.Equal(t, tc.same, got.Subject == old.Subject)
		})
	}
}

func TestReusedPIDByAnotherService(t *testing.T) {
	g := newGraph()
	a := g.Resolve(&Resource{Service: "a", Host: "node1", PID: 42}, base)
	b := g.Resolve(&Resource{Service: "b", Host: "node1", PID: 42}, base+sec)
	assert.NotEqual(t, a.Subject, b.Subject)
}

// Inside a container an SDK knows only the pid of its namespace.
func TestContainerAndInnerPID(t *testing.T) {
	g := newGraph()
	kernel := g.Resolve(&Resource{Host: "node1", PID: 4242, VPID: 1, Container: "c1", Created: base - sec}, base)
	sdk := g.Resolve(&Resource{Service: "payment", Host: "pod-name", PID: 1, Container: "c1"}, base+sec)
	assert.Equal(t, kernel.Subject, sdk.Subject)
	other := g.Resolve(&Resource{Service: "payment", Host: "pod-name", PID: 1, Container: "c2"}, base+sec)
	assert.NotEqual(t, kernel.Subject, other.Subject, "pid 1 of another container")
	p := entity(t, g, kernel.Subject)
	assert.EqualValues(t, 1, p.VPID)
	assert.Equal(t, KindContainer, entity(t, g, p.Container).Kind)
	by, ok := g.Concerns(p.Container, p.ID)
	assert.True(t, ok)
	assert.Equal(t, finding.LinkedByContainer, by)
	_, ok = g.Concerns(p.ID, other.Subject)
	assert.False(t, ok)
}

// A pod is often known by name before anybody says its uid.
func TestPodUIDThatComesLate(t *testing.T) {
	g := newGraph()
	early := g.Resolve(&Resource{Namespace: "shop", PodName: "payment-1"}, base)
	late := g.Resolve(&Resource{Namespace: "shop", PodName: "payment-1", PodUID: "uid-1"}, base+sec)
	byUID := g.Resolve(&Resource{PodUID: "uid-1"}, base+2*sec)
	byName := g.Resolve(&Resource{Namespace: "shop", PodName: "payment-1"}, base+3*sec)
	assert.Equal(t, early.Subject, late.Subject)
	assert.Equal(t, late.Subject, byUID.Subject)
	assert.Equal(t, late.Subject, byName.Subject)
	assert.Equal(t, "payment-1", entity(t, g, early.Subject).Name)

	reborn := g.Resolve(&Resource{Namespace: "shop", PodName: "payment-1", PodUID: "uid-2"}, base+4*sec)
	assert.NotEqual(t, early.Subject, reborn.Subject, "a stateful set gives the name to another pod")
	assert.Equal(t, reborn.Subject, g.Resolve(&Resource{Namespace: "shop", PodName: "payment-1"}, base+5*sec).Subject)
	assert.NotEqual(t, early.Subject, g.Resolve(&Resource{Namespace: "other", PodName: "payment-1"}, base).Subject)
}

func TestConcernsThroughPod(t *testing.T) {
	g := newGraph()
	a := g.Resolve(&Resource{Host: "n", PID: 1, VPID: 1, Container: "c1", PodUID: "u", PodName: "p"}, base)
	b := g.Resolve(&Resource{Host: "n", PID: 2, VPID: 1, Container: "c2", PodUID: "u", PodName: "p"}, base)
	by, ok := g.Concerns(a.Subject, b.Subject)
	assert.True(t, ok)
	assert.Equal(t, finding.LinkedByPod, by)
	_, ok = g.Concerns(a.Subject, 0)
	assert.False(t, ok)
	_, ok = g.Concerns(9999, a.Subject)
	assert.False(t, ok)
}

func TestUnknownServiceIsNoService(t *testing.T) {
	g := newGraph()
	ref := g.Resolve(&Resource{Service: "unknown_service:java"}, base)
	assert.Zero(t, ref.Service)
	assert.Equal(t, KindUnknown, entity(t, g, ref.Subject).Kind)
	assert.Equal(t, ref.Subject, g.Resolve(&Resource{}, base).Subject, "sources without identity are one")
}

func TestAddressMovesToAnotherOwner(t *testing.T) {
	g := newGraph()
	a := g.Resolve(&Resource{Service: "a", Host: "n", PID: 1}, base).Subject
	b := g.Resolve(&Resource{Service: "b", Host: "n", PID: 2}, base).Subject
	ip := g.Address(0, "10.0.0.7", 80, base)
	assert.Zero(t, g.Owner(ip, base), "nobody answered yet")
	g.Owned(ip, a, base)
	g.Owned(ip, a, base+10*sec)
	g.Owned(ip, b, base+20*sec)
	assert.Zero(t, g.Owner(ip, base-sec))
	assert.Equal(t, a, g.Owner(ip, base))
	assert.Equal(t, a, g.Owner(ip, base+19*sec), "the last who answered before that time")
	assert.Equal(t, b, g.Owner(ip, base+20*sec))
	assert.Equal(t, b, g.Owner(ip, base+3600*sec))
	g.Owned(ip, a, base+30*sec) // and back
	assert.Equal(t, a, g.Owner(ip, base+40*sec))

	for n := range 10 {
		g.Owned(ip, g.Resolve(&Resource{Host: "n", PID: int64(100 + n)}, base).Subject, base+int64(100+n)*sec)
	}
	assert.LessOrEqual(t, len(g.entity(ip).owners), maxOwners)
	assert.EqualValues(t, 109, entity(t, g, g.Owner(ip, base+200*sec)).PID)
	g.Owned(a, b, base) // not an address
	g.Owned(0, b, base)
	assert.Zero(t, g.Owner(a, base+sec))
}

func TestListenerIsOwnerUntilSomebodyAnswers(t *testing.T) {
	g := newGraph()
	process := func(pid int64) record.EntityID { return g.Resolve(&Resource{Host: "n", PID: pid}, base).Subject }
	ip := g.Address(0, "10.0.0.7", 80, base)
	g.Listens(ip, process(1), base)
	assert.Zero(t, g.Owner(ip, base), "who hands over sockets does not answer")
	g.Listens(ip, process(2), base)
	assert.Equal(t, process(2), g.Owner(ip, base))
	assert.Zero(t, g.Owner(ip, base-sec), "not before it listened")

	service := g.Resolve(&Resource{Service: "payment"}, base).Subject
	g.Owned(ip, service, base+sec)
	g.Listens(ip, process(2), base+2*sec)
	assert.Equal(t, service, g.Owner(ip, base+3*sec), "who answered is known better")

	g.Owned(ip, process(3), base+4*sec)
	g.End(process(3), base+5*sec)
	g.Listens(ip, process(4), base+6*sec)
	assert.Equal(t, process(3), g.Owner(ip, base+5*sec))
	assert.Equal(t, process(4), g.Owner(ip, base+7*sec), "the one after it")
	g.Listens(process(2), process(4), base) // not an address
	g.Listens(0, process(4), base)
	g.Listens(ip, 0, base)
	assert.Equal(t, process(4), g.Owner(ip, base+7*sec))
}

func TestAddresses(t *testing.T) {
	g := newGraph()
	n1 := g.Resolve(&Resource{Host: "node1"}, base).Host
	n2 := g.Resolve(&Resource{Host: "node2"}, base).Host
	id := g.Address(n1, "127.0.0.1", 80, base)
	for _, same := range []string{"localhost", "::1", "127.0.0.1", "::ffff:127.0.0.1"} {
		assert.Equal(t, id, g.Address(n1, same, 80, base), same)
	}
	assert.NotEqual(t, id, g.Address(n1, "127.0.0.53", 80, base), "another server can have that, as systemd-resolved does")
	assert.NotEqual(t, g.Address(n2, "127.0.0.53", 80, base), g.Address(n1, "127.0.0.53", 80, base))
	assert.NotEqual(t, id, g.Address(n2, "127.0.0.1", 80, base), "another machine's own")
	assert.NotEqual(t, id, g.Address(n1, "127.0.0.1", 81, base))
	assert.Equal(t, g.Address(n1, "10.0.0.1", 80, base), g.Address(n2, "10.0.0.1", 80, base), "seen from anywhere")
	assert.Equal(t, "10.0.0.1:80", entity(t, g, g.Address(0, "10.0.0.1", 80, base)).Name)
	assert.Equal(t, "[fd00::1]:80", entity(t, g, g.Address(0, "fd00::1", 80, base)).Name)
	odd := g.Address(0, "a\xffb", 80, base)
	assert.Equal(t, odd, g.Address(0, "a\xffb", 80, base))
	assert.Equal(t, "a\uFFFDb:80", entity(t, g, odd).Name)
	for _, bad := range []struct {
		address string
		port    int64
	}{{"", 80}, {"a", 0}, {"a", -1}, {"a", 65536}, {strings.Repeat("a", 1<<20), 80}} {
		assert.Zero(t, g.Address(n1, bad.address, bad.port, base))
	}
}

func TestLinkerPairsInEitherOrder(t *testing.T) {
	for _, serverFirst := range []bool{false, true} {
		t.Run(fmt.Sprint("server first: ", serverFirst), func(t *testing.T) {
			g := newGraph()
			a := g.Resolve(&Resource{Service: "a", Host: "n", PID: 1}, base)
			b := g.Resolve(&Resource{Service: "b", Host: "n", PID: 2}, base)
			ip := g.Address(0, "10.0.0.7", 80, base)
			span := record.SpanID{1, 2, 3, 4, 5, 6, 7, 8}
			if serverFirst {
				g.Server(span, b, base)
				g.Client(span, a, [2]record.EntityID{ip}, base)
			} else {
				g.Client(span, a, [2]record.EntityID{ip}, base)
				g.Server(span, b, base)
			}
			assert.Equal(t, b.Subject, g.Owner(ip, base))
			assert.Equal(t, []record.EntityID{b.Service}, g.Callees(a.Service, base))
			assert.Empty(t, g.Callees(b.Service, base))
			assert.Empty(t, g.Callees(a.Service, base+sec), "not since then")
		})
	}
}

func TestLinkerKeepsApartWhatDoesNotBelongTogether(t *testing.T) {
	g := newGraph()
	a := g.Resolve(&Resource{Service: "a", Host: "n", PID: 1}, base)
	b := g.Resolve(&Resource{Service: "b", Host: "n", PID: 2}, base)
	ip := g.Address(0, "10.0.0.7", 80, base)
	one, sameSlot := record.SpanID{1, 0, 0, 0, 0, 6, 7, 8}, record.SpanID{2, 0, 0, 0, 0, 6, 7, 8}
	g.Client(one, a, [2]record.EntityID{ip}, base)
	g.Server(sameSlot, b, base)
	g.Client(one, a, [2]record.EntityID{ip}, base)
	g.Client(one, b, [2]record.EntityID{ip}, base) // two client spans are no call
	g.Server(record.SpanID{}, b, base)
	assert.Zero(t, g.Owner(ip, base))
	assert.Zero(t, g.Stats().Calls)
	g.Called(a.Service, a.Service, base)
	assert.Zero(t, g.Stats().Calls, "a service that calls itself depends on nobody")
}

func TestOperations(t *testing.T) {
	g := newGraph()
	s := g.Resolve(&Resource{Service: "a"}, base).Service
	id, slow, created := g.Operation(s, record.SpanServer, "GET /", base)
	assert.Zero(t, slow)
	assert.True(t, created)
	assert.True(t, g.SetSlowOver(id, 5))
	again, slow, created := g.Operation(s, record.SpanServer, "GET /", base)
	assert.False(t, created)
	assert.Equal(t, id, again)
	assert.EqualValues(t, 5, slow)
	assert.False(t, g.Waits(id))
	g.SetSlowOver(id, Waits)
	assert.True(t, g.Waits(id))
	assert.False(t, g.SetSlowOver(id, 5), "it goes on waiting")
	assert.True(t, g.Waits(id))
	client, _, _ := g.Operation(s, record.SpanClient, "GET /", base)
	assert.NotEqual(t, id, client)
	assert.NotEqual(t, g.Key(id), g.Key(client))
	assert.Equal(t, []record.EntityID{id}, g.Operations(s), "those through which it is called")

	long, _, _ := g.Operation(s, record.SpanServer, strings.Repeat("x", 1<<20)+"\xff", base)
	assert.LessOrEqual(t, len(entity(t, g, long).Name), 1024)
}

func TestOperationsOverflow(t *testing.T) {
	g := newGraph() // ten operations a service
	s := g.Resolve(&Resource{Service: "a"}, base).Service
	ids := map[record.EntityID]bool{}
	for n := range 100 {
		id, _, created := g.Operation(s, record.SpanServer, fmt.Sprint("GET /", n), base)
		assert.Equal(t, n < 10, created, "what is said of one is not said of all others")
		ids[id] = true
	}
	assert.Len(t, ids, 11, "ten, and one for all others")
	assert.EqualValues(t, 90, g.Stats().Overflow)
	other := g.Resolve(&Resource{Service: "b"}, base).Service
	id, _, _ := g.Operation(other, record.SpanServer, "GET /", base)
	assert.Equal(t, "GET /", entity(t, g, id).Name, "each service has its own bound")
}

func TestSweepForgetsWhatNobodyNames(t *testing.T) {
	g := newGraph()
	old := g.Resolve(&Resource{Service: "old", Host: "h1", PID: 1, Container: "c1", PodUID: "u1"}, base)
	young := g.Resolve(&Resource{Service: "young", Host: "h1", PID: 2}, base)
	ip := g.Address(0, "10.0.0.7", 80, base)
	g.Owned(ip, old.Subject, base)
	g.Called(young.Service, old.Service, base)
	id, _, _ := g.Operation(old.Service, record.SpanServer, "GET /", base)
	g.Resolve(&Resource{Host: "h9", PID: 2, Service: "young"}, base+100*sec)

	g.Sweep(base + 50*sec)
	for _, gone := range []record.EntityID{old.Subject, old.Service, ip, id, young.Subject} {
		_, ok := g.Entity(gone)
		assert.False(t, ok)
		assert.False(t, g.Known(gone))
	}
	assert.True(t, g.Known(young.Service))
	stats := g.Stats()
	assert.Zero(t, stats.Calls)
	assert.Zero(t, stats.Evicted, "forgotten in time, not for want of space")
	assert.Zero(t, g.Owner(ip, base), "nothing of it is left")
	assert.NotEqual(t, old.Subject, g.Resolve(&Resource{Host: "h1", PID: 1}, base+100*sec).Subject, "ids are never used twice")
}

// What a living process is part of stays, also when only the process is named.
func TestSweepKeepsWhatIsInUse(t *testing.T) {
	g := newGraph()
	p := g.Resolve(&Resource{Service: "a", Host: "h", PID: 1, Container: "c", PodUID: "u"}, base)
	g.entity(p.Subject).touch(base + 100*sec)
	g.Sweep(base + 50*sec)
	e := entity(t, g, p.Subject)
	for _, part := range []record.EntityID{e.Service, e.Host, e.Container, e.Pod} {
		assert.True(t, g.Known(part))
	}
}

func TestEvictionForgetsTheOldest(t *testing.T) {
	g := New(Limits{Entities: 160, OperationsPerService: 10})
	for n := range 1000 {
		g.Resolve(&Resource{Host: "h", PID: int64(n + 1)}, base+int64(n)*sec)
	}
	stats := g.Stats()
	assert.LessOrEqual(t, stats.Entities, 160)
	assert.EqualValues(t, 1001-stats.Entities, stats.Evicted, "the host too is an entity")
	newest := g.Resolve(&Resource{Host: "h", PID: 1000}, base+1001*sec)
	assert.EqualValues(t, 1000, entity(t, g, newest.Subject).PID)
	assert.Equal(t, stats, g.Stats(), "the newest was still there")
	assert.LessOrEqual(t, len(g.byPID), 160)
	assert.LessOrEqual(t, len(g.byKey), 160)
}

func TestEnd(t *testing.T) {
	g := newGraph()
	p := g.Resolve(&Resource{Service: "a", Host: "h", PID: 1}, base)
	g.End(p.Subject, base+sec)
	assert.Equal(t, base+sec, entity(t, g, p.Subject).Ended)
	g.End(p.Service, base+sec)
	assert.Zero(t, entity(t, g, p.Service).Ended, "only processes end")
}

func TestKeyNamesTheSameThingInEveryEngine(t *testing.T) {
	keys := func(noise int) (out []string) {
		g := newGraph()
		for n := range noise {
			g.Resolve(&Resource{Service: fmt.Sprint("noise", n)}, base)
		}
		ref := g.Resolve(&Resource{Service: "a", ServiceNamespace: "n", Host: "h", PID: 1, Container: "c", PodUID: "u"}, base)
		op, _, _ := g.Operation(ref.Service, record.SpanServer, "GET /", base)
		e := entity(t, g, ref.Subject)
		for _, id := range []record.EntityID{ref.Subject, ref.Service, ref.Host, e.Container, e.Pod, op, g.Address(ref.Host, "::1", 1, base)} {
			out = append(out, g.Key(id))
		}
		return out
	}
	a := keys(0)
	assert.Equal(t, a, keys(7))
	slices.Sort(a)
	assert.Len(t, slices.Compact(a), 7, "all different")
	assert.NotContains(t, a, "")
}

func TestConcurrentUse(t *testing.T) {
	g := New(Limits{Entities: 200, OperationsPerService: 5})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			b := g.NewBatch()
			for n := range 500 {
				at := base + int64(n)*sec
				r := g.Resolve(&Resource{Service: fmt.Sprint("s", n%20), Host: "h", PID: int64(w*500 + n + 1)}, at)
				ip := g.Address(r.Host, "127.0.0.1", int64(1+n%50), at)
				id, _, _ := g.Operation(r.Service, record.SpanServer, fmt.Sprint(n%8), at)
				g.Client(record.SpanID{7: byte(n)}, r, [2]record.EntityID{ip}, at)
				g.Server(record.SpanID{7: byte(n)}, r, at)
				b.Operation(r.Service, record.SpanServer, fmt.Sprint(n%8), at)
				b.Client(record.SpanID{7: byte(n)}, r, [2]record.EntityID{b.Address(r.Host, "127.0.0.1", int64(1+n%50), at)}, at)
				b.Server(record.SpanID{7: byte(n)}, r, at)
				b.Flush()
				g.SetSlowOver(id, 5)
				g.Concerns(r.Subject, r.Service)
				g.Callees(r.Service, base)
				g.Owner(ip, at)
				pod := podOf(g, fmt.Sprint("pod", n%7), fmt.Sprint("c", n%7), at)
				g.Attached(pod.Network, iface("10.88.0.5"), at)
				g.Holder(g.Address(0, "10.88.0.5", 8081, at), at)
				if n%3 == 0 {
					g.Detached(pod.Network, iface("10.88.0.5"), at)
				}
				if n%100 == 0 {
					g.Sweep(at - 50*sec)
				}
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, g.Stats().Entities, 200)
}

// Two pods of one host have a loopback interface each: an address on it says
// nothing about the other's.
func TestLoopbackIsThePodsOwn(t *testing.T) {
	g := New(Limits{Entities: 100, OperationsPerService: 10})
	one := g.Resolve(&Resource{Host: "node1", Service: "a", PodUID: "pod-1"}, base)
	kernel := g.Resolve(&Resource{Host: "node1", PodUID: "pod-1", Container: "c1", Cgroup: "/kubepods/c1", PID: 4711, VPID: 1}, base)
	inner := g.Resolve(&Resource{Host: "c1", Service: "a", Container: "c1", PID: 1}, base)
	two := g.Resolve(&Resource{Host: "node1", Service: "b", PodUID: "pod-2"}, base)
	bare := g.Resolve(&Resource{Host: "node1", Service: "c", PID: 12}, base)

	assert.Equal(t, one.Network, kernel.Network, "the kernel and the SDK of one pod")
	assert.Equal(t, one.Network, inner.Network, "an SDK that knows only its container, once the kernel has told the pod")
	address := func(r Ref) record.EntityID { return g.Address(r.Network, "127.0.0.1", 8080, base) }
	assert.NotEqual(t, address(one), address(two))
	assert.NotEqual(t, address(one), address(bare))
	assert.Equal(t, bare.Host, bare.Network)
	a, _ := g.Entity(address(one))
	assert.Equal(t, one.Host, a.Host)
}

// TestProcessWithoutPID: one outside of its observer's pid namespace is itself, not its
// host; what happened to another one or to the host did not happen to it, and what it
// calls loopback is nobody else's.
func TestProcessWithoutPID(t *testing.T) {
	g := newGraph()
	host := g.Resolve(&Resource{Host: "node1"}, base)
	hidden := &Resource{Host: "node1", VPID: 7, Created: base - sec, Executable: "test", Cgroup: "/limit"}
	one := g.Resolve(hidden, base)
	two := g.Resolve(&Resource{Host: "node1", VPID: 7, Created: base - 2*sec, Executable: "test", Cgroup: "/limit"}, base)
	assert.Equal(t, one, g.Resolve(hidden, base+sec), "it is the same one later")
	assert.NotEqual(t, host.Subject, one.Subject)
	assert.NotEqual(t, two.Subject, one.Subject)
	for _, other := range []record.EntityID{host.Subject, two.Subject} {
		_, ok := g.Concerns(one.Subject, other)
		assert.False(t, ok)
	}
	p := entity(t, g, one.Subject)
	assert.Equal(t, KindProcess, p.Kind)
	assert.Equal(t, "test", p.Name)
	assert.Equal(t, host.Subject, p.Host)
	assert.Zero(t, p.PID)
	assert.NotContains(t, p.Attributes, event.KeyProcessPID)
	assert.NotEqual(t, p.Key, entity(t, g, two.Subject).Key)

	address := func(r Ref, a string) record.EntityID { return g.Address(r.Network, a, 8080, base) }
	assert.NotEqual(t, address(host, "127.0.0.1"), address(one, "127.0.0.1"))
	assert.NotEqual(t, address(two, "127.0.0.1"), address(one, "127.0.0.1"))
	assert.Equal(t, address(host, "10.0.0.7"), address(one, "10.0.0.7"))
	assert.Equal(t, address(host, "172.17.0.2"), address(one, "172.17.0.2"), "it is on that host")

	list, places := g.Remember(one.Subject)
	again := newGraph()
	ids := again.Recall(list)
	assert.Equal(t, again.Resolve(hidden, base+sec).Subject, ids[places[one.Subject]-1])
}

// TestWhoseProcessWithoutPID: what it is part of, where that is known, but never the host.
func TestWhoseProcessWithoutPID(t *testing.T) {
	for name, c := range map[string]struct {
		r    Resource
		kind Kind
	}{
		"container": {Resource{Container: "c1"}, KindContainer},
		"pod":       {Resource{PodUID: "uid"}, KindPod},
		"unit":      {Resource{Unit: "a.service"}, KindUnit},
		"service":   {Resource{Service: "payment"}, KindService},
		"cgroup":    {Resource{Cgroup: "/limit"}, KindProcess},
		"nothing":   {Resource{}, KindProcess},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGraph()
			host := g.Resolve(&Resource{Host: "node1"}, base)
			c.r.Host, c.r.Created, c.r.Executable = "node1", base-sec, "test"
			ref := g.Resolve(&c.r, base)
			assert.Equal(t, c.kind, entity(t, g, ref.Subject).Kind)
			assert.Equal(t, host.Subject, ref.Host)
			assert.NotEqual(t, host.Network, ref.Network)
		})
	}
}

// TestHostListensNowhere: which process of it did is not known, and the first process of
// another pid namespace holds the sockets of others as that of the host does.
func TestHostListensNowhere(t *testing.T) {
	g := newGraph()
	host := g.Resolve(&Resource{Host: "node1"}, base)
	address := g.Address(host.Network, "10.0.0.7", 8080, base)
	g.Listens(address, host.Subject, base)
	assert.Zero(t, g.Owner(address, base))
	g.Listens(address, g.Resolve(&Resource{Host: "node1", VPID: 1, Created: base - sec, Executable: "systemd"}, base).Subject, base)
	assert.Zero(t, g.Owner(address, base))
	hidden := g.Resolve(&Resource{Host: "node1", VPID: 7, Created: base - sec/2, Executable: "test"}, base)
	g.Listens(address, hidden.Subject, base)
	assert.Equal(t, hidden.Subject, g.Owner(address, base))
}
