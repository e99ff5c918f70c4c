package scenario

import (
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
	{name: "pod route missing", effects: ofNetwork(event.CNIRouteMissing, "the pod has no default route", event.KeyCNIRoute, "0.0.0.0/0")},
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
					w.event(LayerKubernetes, event.K8sPodNotReady, at+second, p.node, warn, "pod "+p.name+" is not ready", p.reported)
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
		w.event(LayerKernel, name, f.from, f.pod.node, fatal, body, func(m pcommon.Map) {
			f.pod.kubernetes(m)
			put(m, event.KeyHostName, f.pod.node.name, event.KeyContainerID, f.pod.container)
		}, append(pairs, event.KeyCNINetwork, "pods", event.KeyCNIAddress, f.pod.ip)...)
		w.event(LayerKubernetes, event.K8sPodNotReady, f.from+10*second, f.pod.node, warn, "pod "+f.pod.name+" is not ready", f.pod.reported)
	}}
}
