package scenario

import (
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/internal/event"
)

// told are failures that look like one of kinds to users, and differ in who says
// what is wrong, and in which words.
var told = []kind{
	// The application says it in the requests that fail.
	{name: "database locked", effects: says("ERROR: deadlock detected (SQLSTATE 40P01)")},
	{name: "database read-only", effects: says("ERROR: cannot execute INSERT in a read-only transaction (SQLSTATE 25006)")},
	{name: "database password", effects: says("FATAL: password authentication failed for user \"app\" (SQLSTATE 28P01)")},
	{name: "database gone", effects: says("could not connect to server: Connection refused. Is the server running on host \"db\" and accepting TCP/IP connections on port 5432?")},
	{name: "heap exhausted", effects: says("java.lang.OutOfMemoryError: Java heap space")},
	{name: "threads exhausted", effects: says("java.lang.OutOfMemoryError: unable to create native thread: possibly out of memory or process/resource limits reached")},
	{name: "files exhausted", effects: says("accept4: too many open files")},
	{name: "ports exhausted", effects: says("dial tcp 10.96.3.4:5432: connect: cannot assign requested address")},
	{name: "clock wrong", effects: says("rpc error: code = Unauthenticated desc = token used before issued")},
	{name: "read-only file system", effects: says("open /data/state.json: read-only file system")},
	{name: "volume full", effects: says("write /data/journal.log: no space left on device")},
	{name: "certificate untrusted", effects: effects{blocked: func(f *fault, _, to *pod, _ *rand.Rand) string {
		if to.service == f.service {
			return unknownAuthority
		}
		return ""
	}}},
	// Kubernetes says why pods do not start.
	{name: "secret missing", effects: refused("Failed", "CreateContainerConfigError", "Error: secret \"db-password\" not found")},
	{name: "account missing", effects: refused("FailedCreate", "", "Error creating: pods \"app-7c9d\" is forbidden: error looking up service account shop/app: serviceaccount \"app\" not found")},
	{name: "image unauthorized", effects: refused("Failed", "ImagePullBackOff", "Failed to pull image \"registry.example/app:v9\": failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized")},
	{name: "registry unreachable", effects: refused("Failed", "ImagePullBackOff", "Failed to pull image \"registry.example/app:v9\": failed to do request: Head \"https://registry.example/v2/app/manifests/v9\": dial tcp 192.0.2.7:443: connect: connection refused")},
	{name: "registry unresolved", effects: refused("Failed", "ImagePullBackOff", "Failed to pull image \"registry.example/app:v9\": failed to do request: Head \"https://registry.example/v2/app/manifests/v9\": dial tcp: lookup registry.example on 10.96.0.10:53: no such host")},
	{name: "mount failed", effects: refused("FailedMount", "ContainerCreating", "MountVolume.SetUp failed for volume \"data\": mount failed: exit status 32")},
	{name: "limit too low", effects: refused("FailedCreatePodSandBox", "ContainerCreating", "Failed to create pod sandbox: OCI runtime create failed: runc create failed: unable to start container process: container init was OOM-killed (memory limit too low?)")},
	{name: "cpu insufficient", effects: unplaced("%d Insufficient cpu.", event.KeyNodesNoCPU)},
	{name: "taint", effects: unplaced("%d node(s) had untolerated taint {team: batch}.", event.KeyNodesTainted)},
	{name: "node affinity", effects: unplaced("%d node(s) didn't match Pod's node affinity/selector.", event.KeyNodesAffinity)},
	{name: "anti-affinity", effects: unplaced("%d node(s) didn't match pod anti-affinity rules.", event.KeyNodesAntiAff)},
	{name: "storage class missing", effects: claimPending("storage_class_not_found", "claim data is not bound: storage class not found")},
	{name: "volume occupied", effects: claimPending("volumes_bound", "claim data is not bound: volumes bound")},
	// Kubernetes says why pods that run get no requests.
	{name: "readiness port", effects: probed("Readiness", "readiness")},
	{name: "liveness port", effects: probed("Liveness", "liveness")},
	{name: "selector wrong", effects: effects{down: always, events: func(f *fault, w *writer) {
		w.stated(f, event.K8sServiceNoEndpoints, "service "+f.service.name+" has no ready endpoint", event.KeyServicePods, 0, event.KeyServiceWorkloads, 0,
			event.KeyServiceReplicas, 0, event.KeyStateAge, 20, event.KeyServiceSelector, "app="+f.service.name+"-typo")
	}}},
	{name: "target port wrong", effects: effects{down: always, events: func(f *fault, w *writer) {
		w.stated(f, event.K8sServicePortMismatch, "service "+f.service.name+" sends port 80 to 8081; declared: 8080", event.KeyPort, "8081", event.KeyPortsDeclared, []string{"8080"})
	}}},
	// Nodes say what they lack.
	{name: "kubelet down", ofNode: true, effects: effects{dead: onNode, events: unitDown("kubelet.service")}},
	{name: "container runtime down", ofNode: true, effects: effects{dead: onNode, events: unitDown("containerd.service")}},
	{name: "node out of memory", ofNode: true, effects: effects{fails: evicted, events: pressure("MemoryPressure", "KubeletHasInsufficientMemory")}},
	{name: "node out of pids", ofNode: true, effects: effects{fails: evicted, events: pressure("PIDPressure", "KubeletHasInsufficientPID")}},
	{name: "node interface down", ofNode: true, effects: effects{dead: onNode, events: ofNode(event.CNIInterfaceDown, "Interface ens3 of the host is not enabled",
		event.KeyInterfaceName, "ens3", event.KeyCNIInterfaceState, "down")}},
	{name: "disk failing", ofNode: true, effects: effects{fails: ioErrors, events: ofNode(event.BlockIOError, "critical medium error of block device sda: READ of 4.0 KiB at sector 1234567 failed",
		event.KeyBlockDevice, "sda", event.KeyBlockOperation, "READ", event.KeyBlockSector, 1234567, event.KeyErrorType, "critical medium")}},
}

// unknownAuthority is why a call to a service does not get through whose certificate
// nobody signed that its callers know.
const unknownAuthority = "tls: unknown authority"

// says is a service that fails most of its visits with a statement.
func says(statement string) effects {
	return effects{fails: func(f *fault, op *operation, _ *pod, r *rand.Rand) string {
		if op.service != f.service || r.Float64() < 0.3 {
			return ""
		}
		return statement
	}}
}

// refused are pods that are not started, for a reason in Kubernetes' words.
func refused(reason, waiting, body string) effects {
	return effects{down: always, events: func(f *fault, w *writer) {
		if waiting != "" {
			notStarting(f, w, reason, waiting, body)
			return
		}
		for at := f.from; at < f.to; at += 30 * second {
			w.event(LayerKubernetes, event.K8sEvent, at, f.pod.node, warn, body, f.service.workload,
				event.KeyK8sEventReason, reason, event.KeyK8sEventCount, 5)
		}
		w.unavailable(f, 0)
	}}
}

// unplaced are pods that no node takes; why has a place for how many nodes say so. more
// are other attributes of the record.
func unplaced(why, key string, more ...any) effects {
	return effects{down: always, events: func(f *fault, w *writer) {
		n := len(w.world.nodes)
		unschedulable(f, w, text("0/%d nodes are available: ", n)+text(why, n), append([]any{key, n}, more...)...)
	}}
}

// claimPending are pods whose volume is not there.
func claimPending(reason, body string) effects {
	return effects{down: always, events: func(f *fault, w *writer) {
		for at := f.from; at < f.to; at += 60 * second {
			w.event(LayerKubernetes, event.K8sClaimPending, at, f.pod.node, warn, body, f.service.workload,
				event.KeyClaimName, "data", event.KeyClaimClass, "fast", event.KeyClaimReason, reason)
		}
		unschedulable(f, w, "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.", event.KeyVolumesUnbound, true)
	}}
}

// probed are pods that get no requests because a probe asks the wrong port.
func probed(title, name string) effects {
	return effects{down: always, events: func(f *fault, w *writer) {
		for at := f.from; at < f.to; at += 30 * second {
			for _, p := range f.service.pods {
				w.event(LayerKubernetes, event.K8sEvent, at, p.node, warn, title+" probe failed: dial tcp "+p.ip+":8081: connect: connection refused", p.reported,
					event.KeyK8sEventReason, "Unhealthy", event.KeyK8sObjectKind, "Pod", event.KeyK8sObjectName, p.name, event.KeyK8sEventCount, 5,
					event.KeyProbe, name, event.KeyProbeBudget, 35)
			}
		}
		w.stated(f, event.K8sProbePortMismatch, "the "+name+" probe asks port 8081; declared: 8080",
			event.KeyProbe, name, event.KeyPort, "8081", event.KeyPortsDeclared, []string{"8080"}, event.KeyContainerName, "app")
		for _, p := range f.service.pods {
			w.notReady(p, f.from+10*second)
		}
		w.unavailable(f, 0)
	}}
}

// stated is what Kubernetes says of a workload and its service, every minute.
func (w *writer) stated(f *fault, name, body string, pairs ...any) {
	for at := f.from + second; at < f.to; at += 60 * second {
		w.event(LayerKubernetes, name, at, f.pod.node, warn, body, func(m pcommon.Map) {
			f.service.workload(m)
			put(m, event.KeyK8sServiceName, f.service.name)
		}, pairs...)
	}
}

// unitDown is a unit of systemd on a node that ends, and what follows from that in
// Kubernetes.
func unitDown(unit string) func(*fault, *writer) {
	return func(f *fault, w *writer) {
		w.event(LayerKernel, "tapio.systemd.unit.deactivated", f.from, f.node, warn, unit+" is inactive", func(m pcommon.Map) {
			put(m, event.KeyHostName, f.node.name, event.KeySystemdUnit, unit)
		}, "systemd.unit.active_state", "inactive", "systemd.unit.state", "dead")
		nodeDown(f, w)
	}
}

// pressure is a condition of a node, and what it does about it.
func pressure(condition, reason string) func(*fault, *writer) {
	return func(f *fault, w *writer) {
		w.condition(f.node, f.from+5*second, condition, "true", reason, "kubelet has "+condition)
		for _, p := range w.world.podsOn(f.node) {
			w.k8sEvent(p, f.from+10*second, "Evicted", "The node was low on resource", 1)
		}
	}
}

// evicted are the visits at pods of a node that are ended.
func evicted(f *fault, _ *operation, p *pod, r *rand.Rand) string {
	if p.node != f.node || r.Float64() < 0.3 {
		return ""
	}
	return "java.lang.InterruptedException: shutting down"
}

// ofNode is what the agent of a node says, every ten seconds.
func ofNode(name, body string, pairs ...any) func(*fault, *writer) {
	return func(f *fault, w *writer) {
		for at := f.from; at < f.to; at += 10 * second {
			w.event(LayerKernel, name, at, f.node, fatal, body, func(m pcommon.Map) { put(m, event.KeyHostName, f.node.name) }, pairs...)
		}
		// Whoever runs there misses it soon.
		if f.dead != nil {
			w.condition(f.node, f.from+heartbeats, "Ready", "unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
		}
	}
}

// ioErrors are the visits at pods of a node that read what cannot be read.
func ioErrors(f *fault, _ *operation, p *pod, r *rand.Rand) string {
	if p.node != f.node || r.Float64() < 0.3 {
		return ""
	}
	return "java.io.IOException: Input/output error"
}

// leadOf is at least how long a case is before its fault.
func leadOf(k kind) time.Duration { return max(before, k.lead+time.Minute) }
