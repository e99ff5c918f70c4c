package scenario

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/yairfalse/tapio/internal/event"
)

// Why a call does not get through.
const (
	unresolved   = "server misbehaving"
	unknownName  = "no such host"
	untrusted    = "tls: certificate has expired"
	timedOut     = "timeout"
	refusedThere = "connection_refused"
	unanswered   = "context deadline exceeded"
	unlisted     = "no instances"
	optional     = "no instances, and no need for one"
)

// network, placing and others are failures beside those of fault.go.
var network = []kind{
	{name: "dns failing", calls: true, effects: effects{blocked: outgoing(unresolved), events: lookupsFail("SERVFAIL", fatal)}},
	{name: "certificate expired", effects: effects{blocked: func(f *fault, _, to *pod, _ *rand.Rand) string {
		if to.service == f.service {
			return untrusted
		}
		return ""
	}}},
	{name: "partition", effects: effects{blocked: func(f *fault, _, to *pod, _ *rand.Rand) string {
		if to.service == f.service {
			return timedOut
		}
		return ""
	}}},
}

var placing = []kind{
	{name: "quota reached", ofNamespace: true, effects: exceeded("limits.memory=1Gi, used: limits.memory=10Gi, limited: limits.memory=10Gi")},
	{name: "unschedulable", effects: effects{down: always, events: noRoom}},
	{name: "volume missing", effects: effects{down: always, events: noVolume}},
}

var others = []kind{
	{name: "bad rollout", effects: effects{fails: exception, events: rollout}},
	{name: "bad config", effects: effects{fails: exception, events: configured}},
	{name: "retry storm", effects: effects{fails: mostly, retries: 4}},
	{name: "impatient callers", calls: true, effects: effects{retries: 2, limit: hasty}},
	{name: "thundering herd", effects: effects{rush: 80, slower: overrun}},
	{name: "cascading failure", starves: true, effects: effects{slower: starving}},
	{name: "two faults", two: true, effects: effects{fails: func(f *fault, op *operation, p *pod, r *rand.Rand) string {
		if op == f.other {
			return "java.lang.IllegalStateException: not initialised"
		}
		return exception(f, op, p, r)
	}}},
}

// unseen are failures that no request shows, or not yet.
var unseen = []kind{
	{name: "leak foretold", lead: 6 * time.Minute, foretold: true, effects: effects{down: restarting(40, 12), memory: leaking, events: oomKills}},
	{name: "errors without requests", ofWorker: true, effects: effects{cries: func(f *fault, p *pod) string {
		if p.service == f.service {
			return "cannot write item %d: broken pipe"
		}
		return ""
	}}},
}

// hasty is less than who is called mostly takes.
func hasty(f *fault, from *pod, op *operation) time.Duration {
	if from.service != f.service {
		return 0
	}
	return op.work * 8 / 10
}

// overrun is the time that requests wait for each other.
func overrun(f *fault, op *operation, _ *pod, r *rand.Rand) time.Duration {
	if op != f.operation {
		return 0
	}
	return time.Duration(400+400*r.Float64()) * time.Millisecond
}

// starving is slow, and so is what its callers do beside calling it.
func starving(f *fault, op *operation, _ *pod, r *rand.Rand) time.Duration {
	switch {
	case op == f.operation:
		return time.Duration(2000+1000*r.Float64()) * time.Millisecond
	case op.starves(f.operation):
		return time.Duration(300+300*r.Float64()) * time.Millisecond
	}
	return 0
}

// starves tells whether an operation does without another one that its service calls.
func (op *operation) starves(slow *operation) bool {
	return op.service != slow.service && !op.reaches(slow) && slices.ContainsFunc(op.service.operations, func(o *operation) bool {
		return slices.ContainsFunc(o.steps, func(s step) bool { return s.call == slow })
	})
}

// mostly fails in four of five visits, so that trying again is of some use.
func mostly(f *fault, op *operation, p *pod, r *rand.Rand) string {
	if r.Float64() < 0.2 {
		return ""
	}
	return exception(f, op, p, r)
}

// said is what an SDK says of a call that does not get through.
func said(why string, to *pod) string {
	switch why {
	case timedOut:
		return text("dial tcp %s:%d: i/o timeout", to.ip, servicePort)
	case refusedThere:
		return text("dial tcp %s:%d: connect: connection refused", to.ip, servicePort)
	case unanswered:
		return "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
	case unresolved, unknownName:
		return "dial tcp: lookup " + to.service.name + " on 10.96.0.10:53: " + why
	case untrusted:
		return "tls: failed to verify certificate: x509: certificate has expired or is not yet valid"
	case unknownAuthority:
		return "tls: failed to verify certificate: x509: certificate signed by unknown authority"
	}
	return why
}

// blockedCall writes what is seen of a call that does not get through, and returns
// when its caller gives up.
func (s *simulation) blockedCall(why string, from, to *pod, trace, parent uint64, at int64) int64 {
	const soon = second / 500
	switch why {
	case timedOut:
		s.connectFailed(from, to, at+patience, "connection_timed_out")
		return at + patience
	case unanswered:
		return at + patience // it is connected
	default:
		s.out.log(from, at+soon, trace, parent, fatal, said(why, to))
	}
	return at + soon
}

// noRoom is what Kubernetes says of pods that no node can take.
func noRoom(f *fault, w *writer) {
	unschedulable(f, w, text("0/%d nodes are available: %d Insufficient memory.", len(w.world.nodes), len(w.world.nodes)), event.KeyNodesNoMemory, len(w.world.nodes))
}

func noVolume(f *fault, w *writer) {
	for at := f.from; at < f.to; at += 60 * second {
		w.event(LayerKubernetes, event.K8sClaimPending, at, f.pod.node, warn, "claim data is not bound: no volume", f.service.workload,
			event.KeyClaimName, "data", event.KeyClaimClass, "fast", event.KeyClaimReason, "no_volume")
	}
	unschedulable(f, w, "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.", event.KeyVolumesUnbound, true)
}

func unschedulable(f *fault, w *writer, body string, why ...any) {
	for at := f.from + second; at < f.to; at += 60 * second {
		for _, p := range f.service.pods {
			w.event(LayerKubernetes, event.K8sPodUnschedulable, at, p.node, warn, body, p.reported,
				append([]any{event.KeyNodesTotal, len(w.world.nodes)}, why...)...)
		}
	}
	w.unavailable(f, 0)
}

func configured(f *fault, w *writer) {
	w.event(LayerKubernetes, event.K8sConfigChanged, f.from-5*second, f.pod.node, info,
		text("config map %s-settings was changed", f.service.name), f.service.workload,
		event.KeyReferenceKind, "configmap", event.KeyReferenceName, f.service.name+"-settings")
}

func rollout(f *fault, w *writer) {
	w.event(LayerKubernetes, event.K8sWorkloadChanged, f.from-5*second, f.pod.node, info,
		text("deployment %s: revision 8 is rolled out", f.service.name), f.service.workload, event.KeyWorkloadRevision, "8")
}
