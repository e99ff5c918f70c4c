package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// resource is the resource of an SDK or of the kernel receiver, as it is sent.
type resource map[string]any

// spanOf hands over one span that ends now.
func (s *scenario) spanOf(r resource, trace, id, parent string, kind ptrace.SpanKind, took time.Duration, err string, attrs map[string]any) {
	td := ptrace.NewTraces()
	rs := td.ResourceSpans().AppendEmpty()
	require.NoError(s.t, rs.Resource().Attributes().FromRaw(r))
	sp := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	sp.SetTraceID(id16(trace))
	sp.SetSpanID(id8(trace + id))
	if parent != "" {
		sp.SetParentSpanID(id8(trace + parent))
	}
	sp.SetName("POST /pay")
	sp.SetKind(kind)
	sp.SetStartTimestamp(pcommon.NewTimestampFromTime(s.clock.Add(-took)))
	sp.SetEndTimestamp(pcommon.NewTimestampFromTime(s.clock))
	require.NoError(s.t, sp.Attributes().FromRaw(attrs))
	if err != "" {
		sp.Status().SetCode(ptrace.StatusCodeError)
		sp.Status().SetMessage(err)
	}
	s.deliver(item{traces: td})
}

// request is one call of a caller's server span to a callee, who answers or not.
func (s *scenario) request(caller, callee resource, trace, address string, err string, answered bool) {
	if answered {
		s.spanOf(callee, trace, "s", "c", ptrace.SpanKindServer, 2*time.Millisecond, err, nil)
	}
	s.spanOf(caller, trace, "c", "r", ptrace.SpanKindClient, 3*time.Millisecond, err,
		map[string]any{event.KeyServerAddress: address, event.KeyServerPort: 80})
	s.spanOf(caller, trace, "r", "", ptrace.SpanKindServer, 5*time.Millisecond, err, nil)
}

// requests sends n good requests, one each interval.
func (s *scenario) requests(n int, every time.Duration, caller, callee resource, name, address string) {
	for i := range n {
		s.request(caller, callee, fmt.Sprint(name, i), address, "", true)
		s.wait(every)
	}
}

// event hands over one event that happens now.
func (s *scenario) event(r resource, name string, attrs map[string]any) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	require.NoError(s.t, rl.Resource().Attributes().FromRaw(r))
	lr := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	lr.SetEventName(name)
	lr.SetTimestamp(pcommon.NewTimestampFromTime(s.clock))
	require.NoError(s.t, lr.Attributes().FromRaw(attrs))
	s.deliver(item{logs: ld})
}

var (
	front = resource{"service.name": "storefront", "k8s.pod.uid": "front-pod"}
	pay   = resource{"service.name": "payment", "k8s.pod.uid": "pay-pod"}

	limitHit = map[string]any{event.KeyOOMScope: "cgroup", event.KeyMemoryCgroup: "/pod", event.KeyMemoryLimit: 64 << 20}
)

// inner is a process of a container of payment's pod, as the kernel reports it.
func (s *scenario) inner(container string, pid, vpid int, age time.Duration) resource {
	return resource{
		"host.name": "node7", "process.pid": pid, "process.vpid": vpid, "container.id": container, "k8s.pod.uid": "pay-pod",
		"process.creation.time": s.clock.Add(-age).Format(time.RFC3339Nano), "process.linux.cgroup": "/kubepods/" + container,
	}
}

func TestInitContainerIsNoCause(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]int{"pod that had answered": 1, "new pod": 0} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			s.requests(before, time.Second, front, pay, "before", "payment")
			s.event(s.inner("init", 500, 1, 2*time.Second), event.ProcessExit, map[string]any{event.KeyProcessExitCode: 0})
			s.requests(400, 100*time.Millisecond, front, pay, "after", "payment")
			s.request(front, pay, "bad", "payment", "card declined", true)
			s.wait(10 * time.Second)
			assert.Empty(t, s.findings)
		})
	}
}

func TestErrorsAfterRecoveryAreNoEffects(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.requests(50, 100*time.Millisecond, front, pay, "before", "payment")
	s.event(s.inner("c1", 500, 1, time.Hour), event.OOMKill, limitHit)
	s.event(s.inner("c1", 500, 1, time.Hour), event.ProcessExit, killed)
	s.request(front, pay, "lost", "payment", "connection refused", false)
	s.wait(5 * time.Second)
	for round := range 10 {
		s.requests(240, time.Second, front, pay, fmt.Sprint("ok", round), "payment")
		s.request(front, pay, fmt.Sprint("declined", round), "payment", "card declined", true)
	}
	s.wait(5 * time.Second)
	f := s.one()
	assert.EqualValues(t, 1, f.Impact.FailedRequests)
	assert.Equal(t, finding.StateResolved, f.State)
}

func TestLongOutageKeepsItsCause(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(10 * time.Second)
	s.oom(payment)
	s.exit(payment, killed)
	for range 40 * 60 { // longer than the retention
		s.send(broken("u", 5, refused))
		s.wait(time.Second)
	}
	s.wait(30 * time.Second) // by which numbers may be late
	f := s.one()
	assert.Equal(t, "payment was killed by the kernel: out of memory", f.Title)
	assert.Equal(t, "payment", f.RootCause.Entity.Name)
	assert.EqualValues(t, 40*60, f.Impact.FailedRequests)
}

func TestBackOffIsOneIncident(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	for i := range 5 {
		victim := s.inner(fmt.Sprint("c", i), 500+i, 1, time.Minute)
		s.event(victim, event.OOMKill, limitHit)
		s.event(victim, event.ProcessExit, killed)
		s.wait(5*time.Minute + 20*time.Second)
	}
	assert.EqualValues(t, 5, s.one().RootCause.Evidence["tapio.cause.count"])
}

func TestDeliveredTwiceIsOnce(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(5 * time.Second)
	at := s.clock
	for range 3 {
		s.kernel(payment, event.OOMKill, at, map[string]any{event.KeyOOMScope: "cgroup", event.KeyMemoryCgroup: "/x", event.KeyMemoryLimit: 64 << 20})
		s.kernel(payment, event.ProcessExit, at, killed)
		s.wait(2 * time.Second)
	}
	f := s.one()
	assert.Nil(t, f.RootCause.Evidence["tapio.cause.count"])
	for _, l := range f.Chain {
		assert.EqualValues(t, 1, l.Count, l.Title)
	}
	assert.EqualValues(t, 4, s.engine.Counters.Duplicates.Load())
}

func TestProbesAreNoCrashes(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	worker := resource{"service.name": "payment", "host.name": "node7", "container.id": "c1", "process.pid": 7}
	s.requests(50, 100*time.Millisecond, front, worker, "before", "10.0.0.7")
	s.event(s.inner("c1", 507, 7, time.Hour), event.ProcessExit, map[string]any{event.KeyProcessExitCode: 1})
	s.request(front, worker, "lost", "10.0.0.7", "EOF", false)
	s.wait(5 * time.Second)
	for i := range 60 {
		s.event(s.inner("c1", 1000+i, 50+i, time.Second), event.ProcessExit, map[string]any{event.KeyProcessExitCode: 1})
		s.wait(10 * time.Second)
	}
	f := s.one()
	assert.Equal(t, "process-crashed", f.Pattern)
	assert.Nil(t, f.RootCause.Evidence["tapio.cause.count"])
	assert.Equal(t, finding.StateResolved, f.State)
}

// Successful calls tell the address that was dialled, refused ones only the name.
func TestDialledAndAskedForAreOneOwner(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	dialled := map[string]any{
		event.KeyServerAddress: "payment", event.KeyServerPort: 8080, event.KeyPeerAddress: "10.0.0.7", event.KeyPeerPort: 8080,
	}
	caller, callee := resource{"service.name": "storefront", "host.name": "n1", "process.pid": 3}, resource{"service.name": "payment", "host.name": "node1", "process.pid": 12}
	for i := range 50 {
		trace := fmt.Sprint("ok", i)
		s.spanOf(callee, trace, "s", "c", ptrace.SpanKindServer, time.Millisecond, "", nil)
		s.spanOf(caller, trace, "c", "", ptrace.SpanKindClient, 2*time.Millisecond, "", dialled)
		s.wait(100 * time.Millisecond)
	}
	s.exit(payment, killed)
	s.wait(time.Millisecond)
	for i := range 5 {
		s.spanOf(caller, fmt.Sprint("bad", i), "c", "", ptrace.SpanKindClient, time.Millisecond, "connection refused",
			map[string]any{event.KeyServerAddress: "payment", event.KeyServerPort: 8080})
		s.wait(100 * time.Millisecond)
	}
	s.wait(5 * time.Second)
	assert.Equal(t, "process-killed", s.one().Pattern)
}

// A client span that is the whole request: a cron job, a command line.
func TestRefusedRootClient(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	job := resource{"service.name": "job", "host.name": "n1", "process.pid": 3}
	for i := range 10 {
		s.spanOf(job, fmt.Sprint("bad", i), "c", "", ptrace.SpanKindClient, time.Millisecond, "connection refused",
			map[string]any{event.KeyServerAddress: "10.0.0.9", event.KeyServerPort: 80})
		s.wait(time.Second)
	}
	s.wait(5 * time.Second)
	f := s.one()
	assert.Equal(t, "connection-refused", f.Pattern)
	assert.EqualValues(t, 10, f.Impact.FailedRequests)
}

func TestReplicaAheadBlindsNobody(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	a := resource{"service.name": "payment", "host.name": "n1", "process.pid": 3}
	b := resource{"service.name": "payment", "host.name": "n2", "process.pid": 3}
	caller := resource{"service.name": "storefront", "host.name": "n1", "process.pid": 4}
	run := func(n int, name, err string) {
		for i := range n {
			s.request(caller, a, fmt.Sprint(name, i), "payment", err, true)
			if i%10 == 0 {
				s.clock = s.clock.Add(4 * time.Minute)
				s.spanOf(b, fmt.Sprint(name, "ahead", i), "s", "", ptrace.SpanKindServer, time.Millisecond, "", nil)
				s.clock = s.clock.Add(-4 * time.Minute)
			}
			s.wait(100 * time.Millisecond)
		}
	}
	run(3000, "good", "")
	require.Empty(t, s.findings)
	run(300, "bad", "database is down")
	assert.Equal(t, "callee-failing", s.one().Pattern)
}

// The same address of the container bridge on two hosts is two addresses, and one
// on loopback of nobody knows whom is none.
func TestSameAddressElsewhereIsAnother(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		address    string
		web, batch resource
		auth       resource
	}{
		"bridge": {
			"172.17.0.2",
			resource{"service.name": "web", "host.name": "h1", "process.pid": 10},
			resource{"service.name": "batch", "host.name": "h2", "process.pid": 20},
			resource{"service.name": "auth", "host.name": "h1", "container.id": "c1"},
		},
		"loopback": {"127.0.0.1", resource{"service.name": "web"}, resource{"service.name": "batch"}, resource{"service.name": "auth"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			cache := resource{"service.name": "cache", "host.name": "h2", "container.id": "c2"}
			for i := range 20 {
				s.request(c.web, c.auth, fmt.Sprint("a", i), c.address, "", true)
				s.wait(10 * time.Millisecond)
				s.request(c.batch, cache, fmt.Sprint("b", i), c.address, "", true)
				s.wait(500 * time.Millisecond)
			}
			victim := resource{
				"host.name": "h2", "process.pid": 500, "process.vpid": 1, "container.id": "c2", "process.linux.cgroup": "/docker/c2",
				"process.creation.time": epoch.Add(-time.Hour).Format(time.RFC3339Nano),
			}
			s.event(victim, event.OOMKill, limitHit)
			s.event(victim, event.ProcessExit, killed)
			s.wait(time.Second)
			for i := range 10 {
				s.request(c.web, c.auth, fmt.Sprint("bad", i), c.address, "context deadline exceeded", false)
				s.wait(500 * time.Millisecond)
			}
			s.wait(10 * time.Second)
			for _, f := range s.latest() {
				if f.Pattern == "not-responding" { // which is true, whatever happened to the other one
					assert.Equal(t, "auth", f.RootCause.Entity.Name)
					continue
				}
				assert.Zero(t, f.Impact.FailedRequests, f.Summary)
			}
		})
	}
}

func TestClockSetBack(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(10 * time.Second)
	s.oom(payment)
	s.exit(payment, killed)
	s.send(broken("u", 5, refused))
	s.wait(5 * time.Second)
	s.clock = s.clock.Add(-time.Hour)
	s.wait(5 * time.Second)
	assert.Empty(t, s.engine.waiting, "requests settle all the same")
}

// A service that hangs, and goes on when its callers have given up, makes those that
// it calls then fail too: they are not the cause.
func TestHangIsNotTheCallees(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	resourceOf := func(v service) resource {
		return resource{"service.name": v.name, "service.version": v.version, "host.name": v.host, "process.pid": v.pid}
	}
	to := func(v service) map[string]any {
		return map[string]any{event.KeyServerAddress: "127.0.0.1", event.KeyServerPort: v.port}
	}
	// order sends one order that reaches storefront now; payment holds it up for a
	// while, and storefront waits for it up to 2 s.
	order := func(trace string, hang time.Duration, gaveUp, late string) {
		began := s.clock
		waited := min(hang+5*time.Millisecond, 2*time.Second)
		s.clock = began.Add(waited)
		s.spanOf(resourceOf(storefront), trace, "c", "s", ptrace.SpanKindClient, waited, gaveUp, to(payment))
		s.spanOf(resourceOf(storefront), trace, "s", "", ptrace.SpanKindServer, waited, gaveUp, nil)
		s.clock = began.Add(hang + 4*time.Millisecond)
		s.spanOf(resourceOf(ledger), trace, "ls", "lc", ptrace.SpanKindServer, time.Millisecond, late, nil)
		s.spanOf(resourceOf(payment), trace, "lc", "ps", ptrace.SpanKindClient, 2*time.Millisecond, late, to(ledger))
		s.spanOf(resourceOf(payment), trace, "ps", "c", ptrace.SpanKindServer, hang+3*time.Millisecond, late, nil)
		s.clock = began
		s.wait(250 * time.Millisecond)
	}
	for n := range 4 * 90 {
		order(fmt.Sprint("good", n), time.Millisecond, "", "")
	}
	require.Empty(t, s.findings)
	// Payment wakes up 14 s later, calls ledger, and both find that nobody waits.
	for n := range 40 {
		order(fmt.Sprint("hung", n), 14*time.Second, "context deadline exceeded", "context canceled")
	}
	s.wait(30 * time.Second)
	assert.Equal(t, "payment", s.one().RootCause.Entity.Name)
}
