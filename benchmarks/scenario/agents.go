package scenario

import (
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

// record is what the agent of a node says of whom is at fault.
type record struct {
	name string
	of   subject
	// every is how often it is said while the fault lasts, 0 for once; after is when
	// first, from the begin of the fault.
	every, after time.Duration
	severity     plog.SeverityNumber
	body         string
	pairs        []any
	// joined is set where it is known which request it happened in.
	joined bool
}

// subject are the resource attributes of whom a record is about.
type subject func(f *fault) func(pcommon.Map)

func process(f *fault) func(pcommon.Map)     { return f.pod.process }
func cgroup(f *fault) func(pcommon.Map)      { return f.pod.cgroup }
func podNetwork(f *fault) func(pcommon.Map)  { return f.pod.network }
func host(f *fault) func(pcommon.Map)        { return f.node.host }
func unitAtFault(f *fault) func(pcommon.Map) { return f.pod.ofUnit }
func (n *node) host(m pcommon.Map)           { put(m, event.KeyHostName, n.name) }
func unitOfNode(name string) subject {
	return func(f *fault) func(pcommon.Map) {
		return func(m pcommon.Map) { put(m, event.KeyHostName, f.node.name, event.KeySystemdUnit, name) }
	}
}

func (r *record) write(f *fault, w *writer, at int64, trace, span uint64) {
	if !r.joined {
		trace, span = 0, 0
	}
	w.traced(trace, span, LayerKernel, r.name, at, f.node, r.severity, r.body, r.of(f), r.pairs...)
}

// tells writes records.
func tells(records ...record) func(*fault, *writer) {
	return func(f *fault, w *writer) {
		for i := range records {
			r := &records[i]
			for at := f.from + int64(r.after); at < f.to; at += int64(r.every) {
				r.write(f, w, at, 0, 0)
				if r.every == 0 {
					break
				}
			}
		}
	}
}

// both writes what two say.
func both(a, b func(*fault, *writer)) func(*fault, *writer) {
	return func(f *fault, w *writer) { a(f, w); b(f, w) }
}

// sample is the interval in which the agent of a node measures.
const sample = 10 * time.Second

// sampled is a record of each sample of the processes of a pod, from the second that shows it.
func sampled(name, body string, pairs ...any) record {
	return record{name: name, of: cgroup, every: sample, after: 2 * sample, severity: warn, body: body, pairs: append(pairs, event.KeyInterval, sample.Seconds())}
}

// agents are failures that the agents of nodes tell of: the kernel, systemd and the container
// network. Those of services that systemd runs are as they look where only systemd is
// watched.
var agents = []kind{
	// Processors and memory.
	{name: "cpu throttled", effects: effects{slower: starved, cpu: ofPod(0.97), events: tells(sampled(event.CPUThrottled,
		"Cgroup used up its CPU quota of 0.50 CPUs in 96 of 100 periods (10s): stopped for 31s in sum",
		event.KeyCPUPeriods, 100, event.KeyCPUThrottledPeriods, 96, event.KeyCPUThrottledShare, 0.96, event.KeyCPUThrottledTime, 31.0, event.KeyCPULimit, 0.5))}},
	{name: "cpu starved", effects: effects{slower: starved, events: tells(sampled(event.CPUStarved,
		"3.2 tasks of the cgroup wait for a processor: 90 % of 4100 waits took up to 42ms, usual are 120us",
		"tapio.cpu.waits", 4100, event.KeyCPUWaiting, 3.2, "tapio.cpu.wait.p50", 0.011, event.KeyCPUWaitP90, 0.042, event.KeyCPUWaitUsual, 0.00012))}},
	{name: "processes begin", effects: effects{slower: starved, events: tells(sampled(event.ProcessForkStorm,
		"812 processes begin in the cgroup each second, usual are 2",
		event.KeyProcessForks, 8120, "tapio.process.threads", 0, event.KeyProcessForksUsual, 20.0))}},
	{name: "memory short", effects: effects{slower: starved, memory: ofPod(0.96), events: tells(sampled(event.MemoryReclaim,
		"Tasks of the cgroup had to free memory 5210 times in 10s before they got some: 4.1s in sum, 99th percentile about 9ms, 310.0 MiB freed",
		event.KeyReclaimStalls, 5210, event.KeyReclaimTime, 4.1, "tapio.memory.reclaim.p99", 0.009, event.KeyReclaimShare, 0.41, event.KeyReclaimFreed, 310<<20))}},
	{name: "memory grows", lead: 3 * time.Minute, effects: effects{down: restarting(40, 12), memory: leaking, events: both(growth, oomKills)}},
	{name: "child out of memory", effects: effects{fails: atPod("java.io.IOException: worker process ended"), events: func(f *fault, w *writer) {
		for at := f.from; at < f.to; at += 20 * second {
			w.outOfMemory(f, at, childOf(f.pod), "cgroup", event.KeyOOMSurvives, true)
		}
	}}},
	{name: "node memory gone", ofNode: true, victim: true, effects: effects{down: restarting(40, 12), events: func(f *fault, w *writer) {
		for at, n := f.from, 1; at < f.to; at, n = at+40*second, n+1 {
			w.outOfMemory(f, at, f.pod.process, "node")
			w.terminated(f.pod, at, "Error", 137, n)
		}
	}}},
	// Disks and files.
	{name: "volume slow", effects: effects{slower: starved, events: tells(slowDisk(host, "nvme1n1"), slowDisk(cgroup, "nvme1n1"))}},
	{name: "node disk slow", ofNode: true, effects: effects{slower: nodeSlow, events: func(f *fault, w *writer) {
		tells(slowDisk(host, "sda"))(f, w)
		for _, p := range w.world.podsOn(f.node) {
			tells(slowDisk(func(*fault) func(pcommon.Map) { return p.cgroup }, "sda"))(f, w)
		}
	}}},
	{name: "disk busy", ofNode: true, effects: effects{slower: nodeSlow, levels: map[measured]float64{diskBusy: 0.99}}},
	{name: "inodes gone", ofNode: true, effects: effects{fails: noSpace, levels: map[measured]float64{inodes: 1}, events: pressure("DiskPressure", "KubeletHasDiskPressure")}},
	{name: "images fill disk", ofNode: true, effects: effects{fails: evicted, events: pressure("DiskPressure", "KubeletHasDiskPressure")}},
	{name: "volume fills", of: func(s *service) bool { return s.volume }, effects: effects{
		fails: atPod("ERROR: could not extend file \"base/16384/2619\": No space left on device"), levels: map[measured]float64{volume: 0.99},
	}},
	{name: "descriptors gone", of: runtime, effects: effects{fails: atPod("java.net.SocketException: Too many open files"), levels: map[measured]float64{openFiles: 1}}},
	{name: "files refused", effects: effects{fails: atPod("java.lang.IllegalStateException: no channel"), inSpan: refusedCall("accept4", "EMFILE", "too many open files")}},
	{name: "space refused", effects: effects{fails: atPod("java.lang.IllegalStateException: not stored"), inSpan: refusedCall("write", "EDQUOT", "quota exceeded")}},
	{name: "space refused in request", effects: effects{fails: atPod("java.lang.IllegalStateException: not stored"), inSpan: refusedInRequest()}},
	{name: "collections of garbage", of: runtime, effects: effects{slower: pauses, levels: map[measured]float64{collecting: 0.45}}},
	// Names and connections.
	{name: "dns slow", calls: true, effects: effects{slower: lookups, events: tells(record{
		name: event.DNSSlow, of: process, every: sample, after: time.Second, severity: warn,
		body: "Answers to questions for payments.shop.svc.cluster.local took up to 2.5s",
		pairs: []any{
			event.KeyDNSQuestion, "payments.shop.svc.cluster.local", event.KeyDNSTypes,
			[]string{"A"},
			event.KeyDNSCount, 9, event.KeyDNSDuration, 2.5,
			event.KeyServerAddress, "10.96.0.10", event.KeyServerPort, 53, event.KeyNetworkTransport, "udp",
		},
	})}},
	{name: "name unknown", calls: true, effects: effects{blocked: toCalled(unknownName), events: lookupsFail("NXDOMAIN", warn)}},
	{name: "accept queue full", effects: effects{delay: handshakes, events: tells(record{
		name: event.TCPListenOverflow, of: process, every: sample, after: time.Second, severity: fatal,
		body: "37 attempts to connect to app at 0.0.0.0:8080 were dropped: 129 wait to be accepted, 128 may",
		pairs: []any{
			event.KeyNetworkTransport, "tcp", event.KeyNetworkType, "ipv4", event.KeyLocalAddress, "0.0.0.0", event.KeyLocalPort, servicePort,
			event.KeyListenDropped, 37, event.KeyListenQueue, 129, event.KeyListenBacklog, 128,
		},
	})}},
	{name: "packets lost", effects: effects{delay: retransmitted, levels: map[measured]float64{packetErrors: 40}}},
	{name: "connections tracked", ofNode: true, effects: effects{blocked: throughNode, levels: map[measured]float64{tracked: 1}}},
	{name: "connections not tracked", ofNode: true, effects: effects{blocked: throughNode, events: tells(
		record{name: "tapio.kernel.conntrack_full", of: host, every: sample, severity: fatal, body: "nf_conntrack: table full, dropping packet"},
		record{
			name: event.PacketsDropped, of: host, every: sample, after: sample, severity: warn, body: "The kernel dropped 40 packets of tcp port 8080 in 10s: netfilter_drop",
			pairs: []any{event.KeyDropReason, "netfilter_drop", event.KeyPacketsCount, 40, event.KeyNetworkTransport, "tcp", event.KeyDestinationPort, servicePort},
		})}},
	// The container network.
	{name: "address twice", effects: effects{blocked: toPod(0.5), events: tells(record{
		name: event.CNIAddressDuplicate, of: podNetwork, severity: fatal,
		body:  "The address of the pod is also that of another container",
		pairs: []any{event.KeyCNIAddress, "10.0.7.1", event.KeyCNINetwork, "pods", event.KeyInterfaceName, "eth0", event.KeyCNIOther, "4f1d"},
	})}},
	{name: "mtu too large", effects: effects{blocked: toPod(0.5), events: tells(record{
		name: event.CNIInterfaceMTUMismatch, of: podNetwork, severity: warn,
		body:  "The pod has MTU 1500 at eth0 and veth1 on the host has 1400: larger packets may be lost",
		pairs: []any{event.KeyInterfaceName, "eth0", event.KeyCNIMTU, 1500, event.KeyCNIMTUExpected, 1400, event.KeyCNIOther, "veth1", event.KeyCNINetwork, "pods"},
	})}},
	{name: "addresses gone", ofNode: true, effects: noSandbox("no IP addresses available in range set: 10.0.7.1-10.0.7.254",
		record{
			name: event.CNIPoolExhausted, of: host, severity: fatal, body: "Address pool 10.0.7.1-10.0.7.254 of network pods is exhausted: 253 of 253 addresses are used, 41 of them by nobody who lives",
			pairs: []any{event.KeyCNINetwork, "pods", event.KeyCNIPlugin, "host-local", event.KeyCNIPoolUsed, 253, event.KeyCNIPoolSize, 253, event.KeyCNIPoolLeaked, 41},
		},
		record{
			name: event.CNIOperation, of: podNetwork, every: 15 * time.Second, after: time.Second, severity: fatal,
			body: "CNI plugin host-local failed at ADD: no IP addresses available in range set: 10.0.7.1-10.0.7.254",
			pairs: []any{
				event.KeyCNICommand, "ADD", event.KeyCNIPlugin, "host-local", event.KeyCNINetwork, "pods",
				event.KeyCNIErrorMessage, "no IP addresses available in range set: 10.0.7.1-10.0.7.254",
			},
		})},
	{name: "network configuration broken", ofNode: true, effects: noSandbox("cni config uninitialized",
		record{
			name: event.CNIConfigInvalid, of: host, severity: fatal, body: "Network configuration /etc/cni/net.d/10-pods.conflist is invalid: line 3: unexpected end of JSON input",
			pairs: []any{event.KeyFilePath, "/etc/cni/net.d/10-pods.conflist", event.KeyCNIConfigLine, 3, event.KeyCNIReason, "unexpected end of JSON input", event.KeyCNIConfigInUse, true},
		})},
	{name: "network plugin missing", ofNode: true, effects: noSandbox("failed to find plugin \"bridge\" in path [/opt/cni/bin]",
		record{
			name: event.CNIPluginMissing, of: host, severity: fatal, body: "CNI plugin bridge of network pods cannot be run: it is in none of the directories",
			pairs: []any{
				event.KeyCNIPlugin, "bridge", event.KeyCNINetwork, "pods", event.KeyFilePath, "/etc/cni/net.d/10-pods.conflist",
				event.KeyCNIReason, "it is in none of the directories", event.KeyCNIConfigInUse, true,
			},
		})},
	// Nodes.
	{name: "node loses power", ofNode: true, effects: effects{dead: func(f *fault, p *pod, at int64) bool { return p.node == f.node && at < f.from+70*second }, events: both(nodeDown, tells(
		record{
			name: event.SystemBooted, of: host, after: 70 * time.Second, severity: info, body: "The system has booted",
			pairs: []any{"tapio.system.boot.kernel_duration", 3.1, "tapio.system.boot.userspace_duration", 12.4},
		}))}},
	{name: "control plane down", ofNode: true, effects: effects{events: tells(unitFailed(unitOfNode("etcd.service"), "etcd.service"))}},
	{name: "scheduler down", ofNode: true, effects: effects{down: always, events: both(tells(unitStopped(unitOfNode("kube-scheduler.service"), "kube-scheduler.service")), func(f *fault, w *writer) {
		for at := f.from + 30*second; at < f.to; at += 60 * second {
			for _, p := range f.service.pods {
				w.event(LayerKubernetes, event.K8sPodPending, at, p.node, warn, "pod "+p.name+" waits for a scheduler", p.reported)
			}
		}
		w.unavailable(f, 0)
	})}},
	{name: "kube-proxy down", ofNode: true, effects: effects{blocked: func(f *fault, from, _ *pod, r *rand.Rand) string {
		if from.node == f.node && r.Float64() < 0.5 {
			return timedOut // to where a pod was
		}
		return ""
	}, events: tells(unitFailed(unitOfNode("kube-proxy.service"), "kube-proxy.service"))}},
	// Services that systemd runs.
	{name: "unit fails", ofUnit: true, effects: effects{down: always, events: tells(unitFailed(unitAtFault, "The unit"))}},
	{name: "unit stopped", ofUnit: true, effects: effects{down: always, events: tells(unitStopped(unitAtFault, "The unit"))}},
	{name: "unit out of memory", ofUnit: true, effects: effects{down: always, events: tells(
		ofUnit(event.SystemdUnitOOMKilled, "The unit failed: oom-kill", 0, event.KeyErrorType, "oom-kill", "tapio.systemd.unit.result", "oom-kill", event.KeyMemoryLimit, 64<<20))}},
	{name: "unit out of space", ofUnit: true, effects: effects{down: always, events: tells(*refusedCall("write", "ENOSPC", "no space left on device"), unitFailed(unitAtFault, "The unit"))}},
	{name: "unit loops", ofUnit: true, effects: effects{down: restarting(20, 15), events: tells(restarts(1), restarts(2), restarts(4), restarts(8))}},
	{name: "unit given up", ofUnit: true, effects: effects{down: always, events: tells(restarts(1), restarts(2), restarts(4),
		ofUnit(event.SystemdUnitStartLimitHit, "The unit failed: start-limit-hit", time.Second, event.KeyErrorType, "start-limit-hit", "tapio.systemd.unit.restarts", 5))}},
	{name: "unit hangs", ofUnit: true, effects: effects{down: always, events: tells(
		ofUnit(event.SystemdUnitWatchdog, "The unit failed: watchdog", 0, event.KeyErrorType, "watchdog", "tapio.systemd.unit.result", "watchdog",
			event.KeyExitSignal, 6, event.KeyExitSignalName, "SIGABRT"))}},
	{name: "unit lacks another", ofUnit: true, effects: effects{down: always, events: tells(
		record{
			name: event.SystemdUnitDependencyFailed, of: unitAtFault, severity: fatal, body: "The unit was not started because it requires data.mount",
			pairs: []any{event.KeyErrorType, "dependency", "tapio.systemd.job.id", 4711, "tapio.systemd.job.type", "start", "tapio.systemd.dependencies", []string{"data.mount"}},
		})}},
	// Databases, which send nothing themselves.
	{name: "certificate of database expired", effects: says("tls: failed to verify certificate: x509: certificate has expired or is not yet valid")},
	{name: "certificate of database untrusted", effects: says("javax.net.ssl.SSLHandshakeException: PKIX path building failed: unable to find valid certification path to requested target")},
	{name: "name of database unknown", effects: effects{fails: says("java.net.UnknownHostException: orders-db: Name or service not known").fails, events: func(f *fault, w *writer) {
		for at := f.from + second; at < f.to; at += int64(sample) {
			for _, p := range f.service.pods {
				w.lookupFailed(p, at, "orders-db", "NXDOMAIN", warn)
			}
		}
	}}},
	// One of several that serve.
	{name: "one hangs", of: func(s *service) bool { return len(s.pods) > 1 }, effects: effects{blocked: func(f *fault, _, to *pod, _ *rand.Rand) string {
		if to == f.pod {
			return unanswered
		}
		return ""
	}}},
}

// ofUnit is what systemd says of the unit at fault, whose main process has ended.
func ofUnit(name, body string, after time.Duration, pairs ...any) record {
	return record{
		name: name, of: unitAtFault, after: after, severity: fatal, body: body,
		pairs: append([]any{"systemd.unit.active_state", "failed", "systemd.unit.state", "failed"}, pairs...),
	}
}

func unitFailed(of subject, who string) record {
	return record{name: event.SystemdUnitFailed, of: of, severity: fatal, body: who + " failed: exit-code, exit status 1", pairs: []any{
		"systemd.unit.active_state", "failed", "systemd.unit.state", "failed", event.KeyErrorType, "exit-code", "tapio.systemd.unit.result", "exit-code", event.KeyProcessExitCode, 1,
	}}
}

func unitStopped(of subject, who string) record {
	return record{name: "tapio.systemd.unit.deactivated", of: of, severity: info, body: who + " is inactive", pairs: []any{
		"systemd.unit.active_state", "inactive", "systemd.unit.state", "dead", event.KeyProcessExitCode, 0,
	}}
}

// restarts is what systemd says at a number of restarts, each of which takes half a second.
func restarts(n int) record {
	return record{
		name: event.SystemdUnitRestarting, of: unitAtFault, after: time.Duration(n) * 500 * time.Millisecond, severity: warn,
		body: text("The unit is restarted again and again: %d times", n),
		pairs: []any{
			"systemd.unit.active_state", "activating", "systemd.unit.state", "auto-restart", event.KeyErrorType, "exit-code",
			"tapio.systemd.unit.result", "exit-code", event.KeyProcessExitCode, 1, "tapio.systemd.unit.restarts", n, "tapio.systemd.restart.count", n,
		},
	}
}

// units is what systemd says of all units when it is first seen.
func (s *simulation) units(at int64) {
	for _, of := range s.world.services {
		for _, p := range of.pods {
			if of.unit {
				s.out.event(LayerKernel, "tapio.systemd.unit.running", at, p.node, info, of.unitName()+" is running", p.ofUnit,
					"systemd.unit.active_state", "active", "systemd.unit.state", "running", event.KeyProcessPID, p.pid,
					event.KeyProcessCreationTime, p.created.Format(time.RFC3339Nano), event.KeyProcessCgroup, p.cgroupPath())
			}
		}
	}
}

// refusedCall is a system call of the pod at fault that the kernel refuses.
func refusedCall(name, errno, why string) *record {
	return &record{
		name: event.SyscallFailed, of: process, severity: fatal, body: "app failed " + name + ": " + why,
		pairs: []any{event.KeySyscall, name, event.KeyErrorType, errno},
	}
}

func refusedInRequest() *record {
	r := refusedCall("write", "ENOSPC", "no space left on device")
	r.joined, r.pairs = true, append(r.pairs, event.KeyTraceAssociation, event.AssociationThread)
	return r
}

func slowDisk(of subject, device string) record {
	return record{
		name: event.BlockIOSlow, of: of, every: sample, after: 2 * sample, severity: warn,
		body: "Block device " + device + " is slow: 90 % of 104 requests (READ) took up to 183ms, usual for the device are 2ms and 150 requests",
		pairs: []any{
			event.KeyBlockDevice, device, event.KeyBlockOperation, "READ", event.KeyBlockRequests, 104, event.KeyBlockRequestsUsual, 150.0,
			event.KeyBlockLatencyP50, 0.061, event.KeyBlockLatencyP90, 0.183, event.KeyBlockLatencyUsual, 0.002, event.KeyInterval, sample.Seconds(),
		},
	}
}

// growth is what the kernel says of a process a minute before its memory is full.
func growth(f *fault, w *writer) {
	at := f.from - 60*second
	usual, held := f.pod.memory, leaking(f, f.pod, at)*f.pod.memMax
	w.event(LayerKernel, event.MemoryGrowth, at, f.node, warn, "app grows steadily: its cgroup is at its limit in 1m0s at this slope", f.pod.process,
		event.KeyMemoryRSS, int64(held), event.KeyMemoryGrowth, int64(held-usual), event.KeyMemorySlope, (held-usual)/120, event.KeyInterval, 120.0,
		event.KeyMemoryCgroup, f.pod.cgroupPath(), event.KeyMemoryLimit, int64(f.pod.memMax), event.KeyMemoryUsage, int64(held),
		"tapio.memory.used_share", held/f.pod.memMax, event.KeyMemoryTimeToLimit, 60.0)
}

// childOf are the attributes of a process that the first one of a pod began.
func childOf(p *pod) func(pcommon.Map) {
	return func(m pcommon.Map) {
		p.process(m)
		put(m, event.KeyProcessPID, p.pid+50_000, event.KeyProcessVPID, 42, event.KeyProcessParentPID, p.pid, event.KeyProcessExecutableName, "worker")
	}
}

// outOfMemory is what the kernel says of a process that it ends for want of memory.
func (w *writer) outOfMemory(f *fault, at int64, victim func(pcommon.Map), scope string, pairs ...any) {
	pairs = append(pairs, event.KeyOOMScope, scope, event.KeyOOMRSS, int64(0.8*f.pod.memMax), event.KeyOOMScoreAdj, 900)
	if scope == "cgroup" {
		pairs = append(pairs, event.KeyMemoryCgroup, f.pod.cgroupPath(), event.KeyMemoryLimit, int64(f.pod.memMax),
			event.KeyMemoryUsage, int64(f.pod.memMax), event.KeyMemoryPeak, int64(f.pod.memMax))
	}
	w.event(LayerKernel, event.OOMKill, at, f.node, fatal, "out of memory", victim, pairs...)
	w.event(LayerKernel, event.ProcessExit, at+int64(20*time.Millisecond), f.node, warn, "process ended", victim, event.KeyExitSignal, 9, event.KeyExitSignalName, "SIGKILL")
}

// noSandbox is a pod that a node cannot start again because it has no network for it.
func noSandbox(why string, records ...record) effects {
	return effects{down: func(f *fault, p *pod, _ int64) bool { return p == f.pod }, events: both(tells(records...), func(f *fault, w *writer) {
		for at, n := f.from+2*second, 1; at < f.to; at, n = at+15*second, n+1 {
			w.k8sEvent(f.pod, at, "FailedCreatePodSandBox", "Failed to create pod sandbox: plugin type=\"bridge\" failed (add): "+why, n)
		}
		w.event(LayerKubernetes, event.K8sContainerWaiting, f.from+3*second, f.node, warn, "container app waits: ContainerCreating", f.pod.reported,
			event.KeyContainerName, "app", event.KeyContainerReason, "ContainerCreating", event.KeyContainerRestart, 0)
		w.notReady(f.pod, f.from+5*second)
		w.unavailable(f, len(f.service.pods)-1)
	})}
}

// lookupFailed is what the kernel says of lookups of a name.
func (w *writer) lookupFailed(p *pod, at int64, name, code string, severity plog.SeverityNumber) {
	w.event(LayerKernel, event.DNSFailed, at, p.node, severity, "lookups failed", p.process,
		event.KeyDNSQuestion, name+".shop.svc.cluster.local", event.KeyErrorType, code, event.KeyDNSCount, 5,
		event.KeyServerAddress, "10.96.0.10", event.KeyServerPort, 53)
}

// lookupsFail is what the kernel says of lookups of the names that a service calls.
func lookupsFail(code string, severity plog.SeverityNumber) func(*fault, *writer) {
	return func(f *fault, w *writer) {
		for at := f.from + second; at < f.to; at += int64(sample) {
			for _, p := range f.service.pods {
				for _, s := range f.operation.steps {
					// A name that is not there is that of one of them.
					if s.call != nil && (code != "NXDOMAIN" || s.call.service.name == f.operation.called()) {
						w.lookupFailed(p, at, s.call.service.name, code, severity)
					}
				}
			}
		}
	}
}

func runtime(s *service) bool { return s.jvm }
func pooled(s *service) bool  { return s.pool > 0 }

// atPod is a pod that fails most of its visits with a statement.
func atPod(statement string) func(*fault, *operation, *pod, *rand.Rand) string {
	return func(f *fault, _ *operation, p *pod, r *rand.Rand) string {
		if p != f.pod || r.Float64() < 0.3 {
			return ""
		}
		return statement
	}
}

// nodeSlow is the time that visits at the pods of a node wait for it.
func nodeSlow(f *fault, op *operation, p *pod, r *rand.Rand) time.Duration {
	if p.node != f.node {
		return 0
	}
	return time.Duration(float64(op.work)*(8+8*r.Float64())) + time.Duration(100*r.Float64())*time.Millisecond
}

// pauses is the time that visits at a pod wait for collections of garbage.
func pauses(f *fault, _ *operation, p *pod, r *rand.Rand) time.Duration {
	if p != f.pod || r.Float64() < 0.4 {
		return 0
	}
	return time.Duration(200+400*r.Float64()) * time.Millisecond
}

// lookups is the time that the operation at fault waits for names.
func lookups(f *fault, op *operation, _ *pod, r *rand.Rand) time.Duration {
	if op != f.operation {
		return 0
	}
	return time.Duration(500+2000*r.Float64()) * time.Millisecond
}

// handshakes is the time until a connection is tried again, half of which is added each way.
func handshakes(f *fault, _ *operation, p *pod, r *rand.Rand) time.Duration {
	if p != f.pod || r.Float64() < 0.5 {
		return 0
	}
	return 500 * time.Millisecond
}

// retransmitted is the time until a packet is sent again.
func retransmitted(f *fault, _ *operation, p *pod, r *rand.Rand) time.Duration {
	if p != f.pod || r.Float64() < 0.5 {
		return 0
	}
	return time.Duration(100+100*r.Float64()) * time.Millisecond
}

// toPod, throughNode and outgoing are connections that do not come about: a share of those
// to a pod, to and from a node, and all from a service.
func toPod(share float64) func(*fault, *pod, *pod, *rand.Rand) string {
	return func(f *fault, _, to *pod, r *rand.Rand) string {
		if to == f.pod && r.Float64() < share {
			return timedOut
		}
		return ""
	}
}

func throughNode(f *fault, from, to *pod, r *rand.Rand) string {
	if (from.node == f.node || to.node == f.node) && r.Float64() < 0.4 {
		return timedOut
	}
	return ""
}

func outgoing(why string) func(*fault, *pod, *pod, *rand.Rand) string {
	return func(f *fault, from, _ *pod, _ *rand.Rand) string {
		if from.service == f.service {
			return why
		}
		return ""
	}
}

// toCalled are those from the service at fault to one that it calls.
func toCalled(why string) func(*fault, *pod, *pod, *rand.Rand) string {
	return func(f *fault, from, to *pod, _ *rand.Rand) string {
		if from.service == f.service && to.service.name == f.operation.called() {
			return why
		}
		return ""
	}
}
