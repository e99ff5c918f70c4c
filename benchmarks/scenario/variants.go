package scenario

import (
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/internal/event"
)

// variants differ from told in what is refused, what is asked and which part of a node
// or pod fails.
var variants = []kind{
	// Quotas, nodes and claims.
	{name: "quota of cpu", ofNamespace: true, effects: exceeded("requests.cpu=1, used: requests.cpu=10, limited: requests.cpu=10")},
	{name: "quota of pods", ofNamespace: true, effects: exceeded("pods=1, used: pods=10, limited: pods=10")},
	{name: "quota of storage", ofNamespace: true, effects: exceeded("requests.storage=9Gi, used: requests.storage=10Gi, limited: requests.storage=10Gi")},
	{name: "node selector", effects: unplaced("%d node(s) didn't match Pod's node affinity/selector.", event.KeyNodesAffinity, event.KeyNodeSelector, "disk=ssd")},
	{name: "nodes cordoned", effects: unplaced("%d node(s) were unschedulable.", event.KeyNodesCordoned, event.KeyNodesWouldFit, 1)},
	{name: "resource insufficient", effects: unplaced("%d Insufficient nvidia.com/gpu.", event.KeyNodesNoOther)},
	{name: "claim missing", effects: effects{down: always, events: func(f *fault, w *writer) {
		w.stated(f, event.K8sReferenceMissing, "persistentvolumeclaim data does not exist", event.KeyReferenceKind, "persistentvolumeclaim", event.KeyReferenceName, "data")
		unschedulable(f, w, "0/3 nodes are available: persistentvolumeclaim \"data\" not found.")
	}}},
	{name: "volume does not fit", effects: claimPending("volumes_do_not_fit", "claim data is not bound: volumes do not fit")},
	// Containers that start and end.
	{name: "port conflict", effects: ending("listen tcp :8080: bind: address already in use", func(f *fault, w *writer) {
		w.stated(f, event.K8sPortConflict, "two containers listen on port 8080", event.KeyPort, "8080")
	})},
	{name: "volume forbidden", effects: ending("failed to open /data/state.json: permission denied", nil)},
	{name: "container restarts", effects: ending("bye", nil)},
	// Probes.
	{name: "liveness too tight", effects: unhealthy("liveness", "Liveness probe failed: context deadline exceeded", 3)},
	{name: "liveness protocol", effects: unhealthy("liveness", "Liveness probe failed: malformed HTTP response", 35)},
	{name: "readiness protocol", effects: unhealthy("readiness", "Readiness probe failed: malformed HTTP response", 35)},
	{name: "startup protocol", effects: unhealthy("startup", "Startup probe failed: malformed HTTP response", 35)},
	{name: "startup port", effects: probed("Startup", "startup")},
	{name: "scaled to zero", effects: effects{down: always, events: func(f *fault, w *writer) {
		w.stated(f, event.K8sServiceNoEndpoints, "service "+f.service.name+" has no ready endpoint", event.KeyServicePods, 0, event.KeyServiceWorkloads, 1,
			event.KeyServiceReplicas, 0, event.KeyStateAge, 20)
	}}},
	// What the kernel, units and the container network of a node say.
	{name: "node network unavailable", ofNode: true, effects: effects{dead: onNode, events: func(f *fault, w *writer) {
		w.condition(f.node, f.from+second, "NetworkUnavailable", "true", "NoRouteCreated", "the network is not ready")
	}}},
	{name: "host file system read-only", ofNode: true, effects: effects{fails: ioErrors, events: ofNode("tapio.kernel.filesystem_readonly", "EXT4-fs (sda1): Remounting filesystem read-only")}},
	{name: "disk error", ofNode: true, effects: effects{fails: ioErrors, events: ofNode("tapio.kernel.disk_error", "sda: unrecovered read error")}},
	{name: "hardware error", ofNode: true, effects: effects{dead: onNode, events: ofNode("tapio.kernel.hardware_error", "mce: machine check: uncorrected")}},
	{name: "kernel lockup", ofNode: true, effects: effects{dead: onNode, events: ofNode("tapio.kernel.soft_lockup", "watchdog: BUG: soft lockup - CPU#1 stuck for 26s")}},
	{name: "node reboots", ofNode: true, effects: effects{dead: onNode, events: func(f *fault, w *writer) {
		w.event(LayerKernel, event.SystemShutdown, f.from, f.node, warn, "the system goes down", func(m pcommon.Map) { put(m, event.KeyHostName, f.node.name) })
		nodeDown(f, w)
	}}},
	{name: "pod interface down", effects: ofNetwork(event.CNIInterfaceDown, "eth0 is not enabled", event.KeyInterfaceName, "eth0", event.KeyCNIInterfaceState, "down")},
	{name: "pod address missing", effects: ofNetwork(event.CNIAddressMissing, "the pod has lost its address", event.KeyInterfaceName, "eth0")},
	// Kubernetes says what is not there.
	{name: "quota of services", ofNamespace: true, calls: true, effects: effects{blocked: toCalled(unknownName), events: both(lookupsFail("NXDOMAIN", warn), func(f *fault, w *writer) {
		w.event(LayerKubernetes, event.K8sQuotaReached, f.from, f.node, warn, "quota compute: 10 of 10 services are used", func(m pcommon.Map) { put(m, event.KeyNamespaceName, namespace) },
			event.KeyQuotaName, "compute", event.KeyQuotaResource, "services", event.KeyQuotaUsed, "10", event.KeyQuotaHard, "10")
		w.referenceMissing(f, "service", f.operation.called())
	})}},
	{name: "address wrong", calls: true, effects: effects{blocked: toCalled(unknownName), events: both(lookupsFail("NXDOMAIN", warn), func(f *fault, w *writer) {
		w.referenceMissing(f, "service", f.operation.called())
	})}},
	{name: "port of address wrong", calls: true, effects: effects{blocked: toCalled(timedOut), events: func(f *fault, w *writer) {
		w.referenceMissing(f, "service port", f.operation.called()+":9999")
	}}},
	{name: "slow restarts", effects: effects{down: restarting(60, 25), events: func(f *fault, w *writer) {
		for at, n := f.from, 5; at < f.to; at, n = at+60*second, n+1 {
			w.terminated(f.pod, at, "Error", 1, n)
		}
		w.unavailable(f, len(f.service.pods)-1)
	}}},
	// Requests alone say it.
	{name: "slow query", of: pooled, effects: effects{stalls: func(f *fault, op *operation, r *rand.Rand) time.Duration {
		return slowCode(f, op, nil, r)
	}}},
	{name: "calls multiplied", calls: true, effects: effects{repeats: 11}},
	{name: "nobody listens", effects: effects{down: always}},
	{name: "instances unlisted", of: func(s *service) bool { return s.callers > 1 }, effects: effects{blocked: func(f *fault, _, to *pod, _ *rand.Rand) string {
		if to.service == f.service {
			return unlisted
		}
		return ""
	}}},
	{name: "hangs", effects: effects{blocked: func(f *fault, _, to *pod, _ *rand.Rand) string {
		if to.service == f.service {
			return unanswered
		}
		return ""
	}}},
	{name: "done without", of: func(s *service) bool { return s.callers > 1 }, effects: effects{blocked: func(f *fault, _, to *pod, _ *rand.Rand) string {
		if to.service == f.service {
			return optional
		}
		return ""
	}}},
	{name: "processor busy", effects: effects{cpu: ofPod(0.7), slower: func(f *fault, op *operation, p *pod, r *rand.Rand) time.Duration {
		if p != f.pod {
			return 0
		}
		return time.Duration(float64(op.work) * (3 + 2*r.Float64()))
	}}},
	// Metrics alone say it.
	{name: "slow without spans", ofWorker: true, effects: effects{levels: map[measured]float64{requestTime: 0.6}}},
	{name: "pod route missing", effects: ofNetwork(event.CNIRouteMissing, "the pod has no default route", event.KeyCNIRoute, "0.0.0.0/0")},
}

// called is a service that the operation calls.
func (op *operation) called() string {
	for _, s := range op.steps {
		if s.call != nil {
			return s.call.service.name
		}
	}
	return ""
}

// referenceMissing is what Kubernetes says of an address in the environment of a container
// that names what does not exist.
func (w *writer) referenceMissing(f *fault, kind, name string) {
	w.event(LayerKubernetes, event.K8sReferenceMissing, f.from, f.node, warn, text("UPSTREAM of container app names %s %s, which does not exist", kind, name), f.service.workload,
		event.KeyReferenceKind, kind, event.KeyReferenceName, name, event.KeyReferenceFrom, "env UPSTREAM", event.KeyContainerName, "app")
}

// exceeded are pods that a quota refuses.
func exceeded(what string) effects {
	return effects{down: always, events: func(f *fault, w *writer) {
		for at := f.from; at < f.to; at += 30 * second {
			w.event(LayerKubernetes, event.K8sEvent, at, f.pod.node, warn,
				text("Error creating: pods %q is forbidden: exceeded quota: compute, requested: %s", f.pod.name, what),
				f.service.workload, event.KeyK8sEventReason, "FailedCreate", event.KeyK8sEventCount, 5)
		}
		w.unavailable(f, 0)
	}}
}

// ending are containers that log a statement and end, every half minute; more says what
// else is known of them, nil for nothing.
func ending(statement string, more func(*fault, *writer)) effects {
	return effects{down: always, events: func(f *fault, w *writer) {
		for at, n := f.from, 1; at < f.to; at, n = at+30*second, n+1 {
			for _, p := range f.service.pods {
				w.log(p, at-second/10, 0, 0, fatal, statement)
				w.exit(p, at, event.KeyProcessExitCode, 1)
				w.terminated(p, at, "Error", 1, n)
				w.event(LayerKubernetes, event.K8sContainerWaiting, at+2*second, p.node, warn, "container app waits: CrashLoopBackOff", p.reported,
					event.KeyContainerName, "app", event.KeyContainerReason, "CrashLoopBackOff", event.KeyContainerRestart, n)
			}
		}
		if more != nil {
			more(f, w)
		}
		w.unavailable(f, 0)
	}}
}

// unhealthy are pods that a probe fails, with what it says and how long it waits until
// it gives up, in seconds.
func unhealthy(probe, body string, budget int) effects {
	return effects{down: always, events: func(f *fault, w *writer) {
		for at, n := f.from, 1; at < f.to; at, n = at+30*second, n+1 {
			for _, p := range f.service.pods {
				w.event(LayerKubernetes, event.K8sEvent, at, p.node, warn, body, p.reported, event.KeyK8sEventReason, "Unhealthy",
					event.KeyK8sObjectKind, "Pod", event.KeyK8sObjectName, p.name, event.KeyK8sEventCount, 5, event.KeyProbe, probe, event.KeyProbeBudget, budget)
				if probe == "readiness" {
					w.notReady(p, at+second)
					continue
				}
				w.exit(p, at+second, event.KeyExitSignal, 15, event.KeyExitSignalName, "SIGTERM")
				w.terminated(p, at+second, "Error", 143, n)
			}
		}
		w.unavailable(f, 0)
	}}
}

// ofNetwork is a pod that cannot be reached, and what the container network says of it.
func ofNetwork(name, body string, pairs ...any) effects {
	return effects{dead: func(f *fault, p *pod, _ int64) bool { return p == f.pod }, events: func(f *fault, w *writer) {
		w.event(LayerKernel, name, f.from, f.pod.node, fatal, body, f.pod.network, append(pairs, event.KeyCNINetwork, "pods", event.KeyCNIAddress, f.pod.ip)...)
		w.notReady(f.pod, f.from+10*second)
	}}
}

// network are the attributes of what is said of the network of a pod.
func (p *pod) network(m pcommon.Map) {
	p.kubernetes(m)
	put(m, event.KeyHostName, p.node.name, event.KeyContainerID, p.container)
}
