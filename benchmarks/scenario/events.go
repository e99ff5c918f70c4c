package scenario

import (
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

// Severities, as the receivers give them.
const (
	info  = plog.SeverityNumberInfo
	warn  = plog.SeverityNumberWarn
	fatal = plog.SeverityNumberError
)

// connectFailed is what the kernel of the caller's node says.
func (s *simulation) connectFailed(from, to *pod, at int64, why string) {
	s.out.event(LayerKernel, event.TCPConnectFailed, at, from.node, warn, "connect failed", from.process,
		event.KeyErrorType, why, event.KeyNetworkTransport, "tcp", event.KeyNetworkType, "ipv4",
		event.KeyPeerAddress, to.ip, event.KeyPeerPort, servicePort, event.KeyLocalAddress, from.ip)
}

func (w *writer) exit(p *pod, at int64, pairs ...any) {
	w.event(LayerKernel, event.ProcessExit, at, p.node, warn, "process ended", p.process, pairs...)
}

// terminated is what Kubernetes says of a container that ended.
func (w *writer) terminated(p *pod, at int64, reason string, code, restarts int) {
	w.event(LayerKubernetes, event.K8sContainerTerminated, at+second, p.node, warn, "container app ended: "+reason, p.reported,
		event.KeyContainerName, "app", event.KeyContainerReason, reason, event.KeyProcessExitCode, code, event.KeyContainerRestart, restarts)
}

// reported are the attributes of what Kubernetes says of a pod.
func (p *pod) reported(m pcommon.Map) {
	put(m, event.KeyServiceName, p.service.name)
	p.kubernetes(m)
}

func (s *service) workload(m pcommon.Map) {
	put(m, event.KeyNamespaceName, namespace, event.KeyDeploymentName, s.name, event.KeyServiceName, s.name)
}

// unavailable is what Kubernetes says of a deployment that lacks pods, every minute.
func (w *writer) unavailable(f *fault, have int) {
	for at := f.from + 5*second; at < f.to; at += 60 * second {
		w.event(LayerKubernetes, event.K8sWorkloadUnavailable, at, f.service.pods[0].node, fatal,
			text("%d of %d pods of deployment %s are available", have, len(f.service.pods), f.service.name), f.service.workload,
			event.KeyReplicasDesired, len(f.service.pods), event.KeyReplicasAvailable, have)
	}
}

func oomKills(f *fault, w *writer) {
	for at, n := f.from, 1; at < f.to; at, n = at+40*second, n+1 {
		w.event(LayerKernel, event.OOMKill, at, f.pod.node, fatal, "out of memory", f.pod.process,
			event.KeyOOMScope, "cgroup", event.KeyOOMRSS, int64(0.98*f.pod.memMax), event.KeyOOMScoreAdj, 900,
			event.KeyMemoryCgroup, f.pod.cgroupPath(),
			event.KeyMemoryLimit, int64(f.pod.memMax), event.KeyMemoryUsage, int64(f.pod.memMax), event.KeyMemoryPeak, int64(f.pod.memMax))
		w.exit(f.pod, at+int64(20*time.Millisecond), event.KeyExitSignal, 9, event.KeyExitSignalName, "SIGKILL")
		w.terminated(f.pod, at, "OOMKilled", 137, n)
	}
}

func crashes(f *fault, w *writer) {
	for at, n := f.from, 1; at < f.to; at, n = at+30*second, n+1 {
		w.exit(f.pod, at, event.KeyProcessExitCode, 2)
		w.terminated(f.pod, at, "Error", 2, n)
		if n > 1 {
			w.event(LayerKubernetes, event.K8sContainerWaiting, at+2*second, f.pod.node, warn, "container app waits: CrashLoopBackOff", f.pod.reported,
				event.KeyContainerName, "app", event.KeyContainerReason, "CrashLoopBackOff", event.KeyContainerRestart, n)
			w.k8sEvent(f.pod, at+2*second, "BackOff", "Back-off restarting failed container app in pod "+f.pod.name, 1)
		}
	}
	w.unavailable(f, len(f.service.pods)-1)
}

func killed(f *fault, w *writer) {
	w.exit(f.pod, f.from, event.KeyExitSignal, 9, event.KeyExitSignalName, "SIGKILL")
	w.terminated(f.pod, f.from, "Error", 137, 1)
}

func stopped(f *fault, w *writer) {
	for _, p := range f.service.pods {
		w.exit(p, f.from, event.KeyProcessExitCode, 0)
		w.terminated(p, f.from, "Completed", 0, 0)
	}
	w.unavailable(f, 0)
}

// k8sEvent is an Event object about a pod.
func (w *writer) k8sEvent(p *pod, at int64, reason, body string, count int) {
	w.event(LayerKubernetes, event.K8sEvent, at, p.node, warn, body, p.reported,
		event.KeyK8sEventReason, reason, event.KeyK8sObjectKind, "Pod", event.KeyK8sObjectName, p.name, event.KeyK8sEventCount, count)
}

// notStarting is what Kubernetes says, every half minute, of pods that do not start.
func notStarting(f *fault, w *writer, reason, waiting, body string) {
	for at := f.from; at < f.to; at += 30 * second {
		for _, p := range f.service.pods {
			w.k8sEvent(p, at, reason, body, 1+int((at-f.from)/(30*second))) // the kubelet counts how often
			w.event(LayerKubernetes, event.K8sContainerWaiting, at+second, p.node, warn, "container app waits: "+waiting, p.reported,
				event.KeyContainerName, "app", event.KeyContainerReason, waiting, event.KeyContainerRestart, 0)
		}
	}
	w.unavailable(f, 0)
}

func imageMissing(f *fault, w *writer) {
	image := "registry.example/" + f.service.name + ":v9"
	notStarting(f, w, "Failed", "ErrImagePull", text("Failed to pull image %q: rpc error: code = NotFound desc = failed to pull and unpack image %q: not found", image, image))
}

func configMissing(f *fault, w *writer) {
	notStarting(f, w, "Failed", "CreateContainerConfigError", text("Error: configmap %q not found", f.service.name+"-settings"))
}

func (n *node) attributes(m pcommon.Map) { put(m, event.KeyNodeName, n.name) }

// condition is what Kubernetes says of a node.
func (w *writer) condition(n *node, at int64, condition, status, reason, body string) {
	w.event(LayerKubernetes, event.K8sNodeCondition, at, n, fatal, "node "+n.name+": "+body, n.attributes,
		event.KeyNodeCondition, condition, event.KeyNodeConditionStatus, status, event.KeyK8sEventReason, reason)
}

func nodeDown(f *fault, w *writer) {
	// The control plane waits 40 seconds for a heartbeat.
	w.condition(f.node, f.from+40*second, "Ready", "unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
	for _, p := range w.world.podsOn(f.node) {
		w.notReady(p, f.from+45*second)
	}
}

func diskPressure(f *fault, w *writer) {
	w.condition(f.node, f.from+10*second, "DiskPressure", "true", "KubeletHasDiskPressure", "kubelet has disk pressure")
	for _, p := range w.world.podsOn(f.node) {
		w.event(LayerKernel, event.SyscallFailed, f.from+second, p.node, fatal, "write failed: no space", p.process,
			event.KeySyscall, "write", event.KeyErrorType, "ENOSPC")
	}
}

// notReady is what Kubernetes says of a pod that gets no requests.
func (w *writer) notReady(p *pod, at int64) {
	w.event(LayerKubernetes, event.K8sPodNotReady, at, p.node, warn, "pod "+p.name+" is not ready", p.reported)
}

// podsOn are the pods of Kubernetes on a node.
func (w *world) podsOn(n *node) (out []*pod) {
	for _, s := range w.all() {
		for _, p := range s.pods {
			if p.node == n && !s.unit {
				out = append(out, p)
			}
		}
	}
	return out
}

// labour is what services log that take no requests, and what they fail at now and then.
func (s *simulation) labour(from, to int64) {
	r := rand.New(rand.NewPCG(s.world.options.Seed, s.serial))
	for _, of := range s.world.workers {
		for _, p := range of.pods {
			for at := from + int64(r.ExpFloat64()*float64(2*second)); at < to; at += int64(r.ExpFloat64() * float64(2*second)) {
				cry := ""
				if f := s.active(at); f != nil && f.cries != nil {
					cry = f.cries(f, p)
				}
				switch {
				case s.down(p, at) || s.dead(p, at):
				case cry != "":
					s.out.log(p, at, 0, 0, fatal, text(cry, r.IntN(1e6)))
				case r.Float64() < 0.03*s.world.options.Noise:
					s.out.log(p, at, 0, 0, fatal, text("item %d is locked, trying again", r.IntN(1e6)))
				default:
					s.out.log(p, at, 0, 0, info, text("item %d is done", r.IntN(1e6)))
				}
			}
		}
	}
}

// background is what happens all the time and means nothing.
func (s *simulation) background(from, to int64) {
	noise := s.world.options.Noise
	if noise == 0 {
		return
	}
	every := func(mean time.Duration, do func(at int64)) {
		for at := from; ; {
			if at += int64(s.random.ExpFloat64() * float64(mean) / noise); at >= to {
				return
			}
			do(at)
		}
	}
	anyPod := func() *pod {
		of := s.world.services[s.random.IntN(len(s.world.services))]
		return of.pods[s.random.IntN(len(of.pods))]
	}
	// Scripts that fail.
	every(20*time.Second, func(at int64) {
		n := s.world.nodes[s.random.IntN(len(s.world.nodes))]
		pid := 100_000 + s.random.IntN(100_000)
		s.out.event(LayerKernel, event.ProcessExit, at, n, warn, "process ended", func(m pcommon.Map) {
			put(m, event.KeyHostName, n.name, event.KeyProcessPID, pid, event.KeyProcessExecutableName, "sh",
				event.KeyProcessCreationTime, time.Unix(0, at+s.out.shift-second).UTC().Format(time.RFC3339Nano), event.KeyProcessCgroup, "/system.slice/cron.service")
		}, event.KeyProcessExitCode, 1)
	})
	// A probe that fails once.
	every(2*time.Minute, func(at int64) {
		if p := anyPod(); !p.service.unit {
			s.out.k8sEvent(p, at, "Unhealthy", "Readiness probe failed: context deadline exceeded", 1)
		}
	})
	// Errors in logs that belong to no request.
	every(15*time.Second, func(at int64) {
		s.out.log(anyPod(), at, 0, 0, plog.SeverityNumberError, text("failed to refresh cache entry %d", s.random.IntN(1e6)))
	})
}
