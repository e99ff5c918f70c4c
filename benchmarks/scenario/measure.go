package scenario

import (
	"math"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/internal/event"
)

// scrape is how often resources are measured.
const scrape = 15 * second

// measure writes what kubelets and connection pools report.
func (s *simulation) measure(from, to int64) {
	for at := from; at < to; at += scrape {
		var f *fault
		if s.fault.visible(at) {
			f = s.fault
		}
		for _, n := range s.world.nodes {
			if f == nil || f.dead == nil || n != f.node {
				s.node(n, f, at)
			}
		}
		for _, service := range s.world.all() {
			for _, p := range service.pods {
				if !s.down(p, at) && !s.dead(p, at) {
					s.container(p, f, at)
				}
			}
		}
	}
}

// factor is 1 with noise.
func (s *simulation) factor() float64 {
	return math.Exp((0.05 + 0.15*s.world.options.Noise) * s.random.NormFloat64())
}

func (s *simulation) container(p *pod, f *fault, at int64) {
	if p.service.unit {
		s.attached(p, f, at)
		return
	}
	cpu, memory := p.cpu*s.factor(), p.memory*(1+0.02*s.random.NormFloat64())
	if s.random.Float64() < 0.002*s.world.options.Noise {
		cpu *= 4 // a job, a collection
	}
	cpu = min(cpu, p.cpuLimit)
	if v := share(f, p, at, func(e *effects) func(*fault, *pod, int64) float64 { return e.cpu }); v >= 0 {
		cpu = v * p.cpuLimit * (0.98 + 0.02*s.random.Float64())
	}
	if v := share(f, p, at, func(e *effects) func(*fault, *pod, int64) float64 { return e.memory }); v >= 0 {
		memory = v * p.memMax
	}
	memory = min(memory, p.memMax)
	ms := s.out.resource(func(m pcommon.Map) {
		p.kubernetes(m)
		put(m, event.KeyContainerName, "app", event.KeyContainerID, p.container)
	})
	s.out.gauge(ms, "container.cpu.usage", at, p.node, cpu)
	s.out.gauge(ms, "k8s.container.cpu_limit_utilization", at, p.node, cpu/p.cpuLimit)
	s.out.gauge(ms, "container.memory.working_set", at, p.node, memory)
	s.out.gauge(ms, "container.memory.available", at, p.node, p.memMax-memory)
	s.attached(p, f, at)
}

// measured is a quantity that a fault can change, beside those that have an effect of their own.
type measured string

const (
	// Shares of the time: of collections of garbage, and of a disk that works.
	collecting measured = "collecting"
	diskBusy   measured = "disk busy"
	// Shares of what there is: files that a process may open, a volume, inodes of a node,
	// connections that its kernel tracks.
	openFiles measured = "open files"
	volume    measured = "volume"
	inodes    measured = "inodes"
	tracked   measured = "tracked connections"
	// packetErrors a second, and seconds that a request takes.
	packetErrors measured = "packet errors"
	requestTime  measured = "request time"
)

// total is a counter of a pod or node.
type total struct {
	of   any
	what measured
}

// level is what is measured: as ever, or what a fault says of whom is at fault.
func level(f *fault, atFault bool, what measured, usual float64) float64 {
	if f != nil && atFault {
		if v, ok := f.levels[what]; ok {
			return v
		}
	}
	return usual
}

// served are the visits at a pod that ended before the scrape with a number and after the
// one before it, took how many they were and how long in seconds.
type served struct {
	pod       *pod
	operation *operation
	scrape    int64
}

type took struct{ visits, seconds float64 }

func (s *simulation) serve(p *pod, op *operation, from, to int64) {
	key := served{p, op, (to - s.since + scrape - 1) / scrape}
	t := s.served[key]
	s.served[key] = took{t.visits + 1, t.seconds + float64(to-from)/1e9}
}

// requests is what the SDK of a pod says of how long requests take.
func (s *simulation) requests(sdk pmetric.MetricSlice, p *pod, at int64) {
	for _, op := range p.service.operations {
		visits, seconds := total{served{p, op, 0}, "requests"}, total{served{p, op, 0}, requestTime}
		now := s.served[served{p, op, (at - s.since) / scrape}]
		s.totals[visits] += now.visits
		s.totals[seconds] += now.seconds
		if s.totals[visits] > 0 {
			method, route, _ := strings.Cut(op.name, " ")
			s.out.histogram(sdk, "http.server.request.duration", s.since, at, p.node, s.totals[visits], s.totals[seconds], "http.request.method", method, "http.route", route)
		}
	}
}

// grow adds what there is in the time between two scrapes to a counter.
func (s *simulation) grow(of any, what measured, perSecond float64) float64 {
	key := total{of, what}
	s.totals[key] += perSecond * float64(scrape/second)
	return s.totals[key]
}

// attached is what belongs to a pod beside its container: what its runtime says and what the
// kubelet says of its network and volume.
func (s *simulation) attached(p *pod, f *fault, at int64) {
	hit := f != nil && p == f.pod
	sdk := s.out.resource(p.sdk)
	if p.service.jvm {
		spent := s.grow(p, collecting, level(f, hit, collecting, 0.01*s.factor()))
		s.out.histogram(sdk, "jvm.gc.duration", s.since, at, p.node, 10*spent, spent, "jvm.gc.name", "G1 Young Generation", "jvm.gc.action", "end of minor GC")
		const files = 1024
		s.out.gauge(sdk, "jvm.file_descriptor.count", at, p.node, math.Floor(files*level(f, hit, openFiles, 0.2*s.factor())))
		s.out.gauge(sdk, "jvm.file_descriptor.limit", at, p.node, files)
	}
	if p.service.pool > 0 {
		s.pool(p, f, at)
	}
	s.requests(sdk, p, at)
	if len(p.service.operations) == 0 {
		// Its callers are elsewhere, and it sends no spans.
		took := level(f, hit, requestTime, 0.04*s.factor())
		count := s.grow(p, "requests", 2)
		s.out.histogram(sdk, "http.server.request.duration", s.since, at, p.node, count, s.grow(p, requestTime, 2*took), "http.request.method", "POST", "http.route", "/items")
	}
	if p.service.unit {
		return
	}
	kubelet := s.out.resource(p.kubernetes)
	lost := s.grow(p, packetErrors, level(f, hit, packetErrors, 0))
	s.out.counter(kubelet, "k8s.pod.network.errors", s.since, at, p.node, lost, "interface", "eth0", "direction", "receive")
	if p.service.volume {
		const size, nodes = 10e9, 655360
		used := level(f, hit, volume, 0.4)
		ms := s.out.resource(func(m pcommon.Map) {
			p.kubernetes(m)
			put(m, "k8s.volume.name", "data", "k8s.volume.type", "persistentVolumeClaim", event.KeyClaimName, "data-"+p.name)
		})
		s.out.gauge(ms, "k8s.volume.capacity", at, p.node, size)
		s.out.gauge(ms, "k8s.volume.available", at, p.node, size*(1-used))
		s.out.gauge(ms, "k8s.volume.inodes", at, p.node, nodes)
		s.out.gauge(ms, "k8s.volume.inodes.free", at, p.node, nodes*0.9)
	}
}

// share is the effect of a fault on a pod, below 0 for none.
func share(f *fault, p *pod, at int64, of func(*effects) func(*fault, *pod, int64) float64) float64 {
	if f == nil {
		return -1
	}
	if effect := of(&f.effects); effect != nil {
		return effect(f, p, at)
	}
	return -1
}

func (s *simulation) pool(p *pod, f *fault, at int64) {
	size := float64(p.service.pool)
	used := math.Floor(min(size*0.3*s.factor(), size-1))
	waiting := 0.0
	if f != nil && f.pool != nil {
		if v := f.pool(f, p.service); v >= 0 {
			used, waiting = v*size, 3
		}
	}
	ms := s.out.resource(p.sdk)
	s.out.gauge(ms, "db.client.connection.count", at, p.node, used, "db.client.connection.pool.name", "main", "db.client.connection.state", "used")
	s.out.gauge(ms, "db.client.connection.max", at, p.node, size, "db.client.connection.pool.name", "main")
	s.out.gauge(ms, "db.client.connection.pending_requests", at, p.node, waiting, "db.client.connection.pool.name", "main")
}

// diskSize is that of every node, in bytes.
const diskSize = 100e9

func (s *simulation) node(n *node, f *fault, at int64) {
	used := n.disk + 0.001*s.random.NormFloat64()
	if f != nil && f.disk != nil {
		if v := f.disk(f, n, at); v >= 0 {
			used = v
		}
	}
	ms := s.out.resource(n.attributes)
	s.out.gauge(ms, "k8s.node.filesystem.usage", at, n, used*diskSize)
	s.out.gauge(ms, "k8s.node.filesystem.available", at, n, (1-used)*diskSize)
	s.out.gauge(ms, "k8s.node.cpu.usage", at, n, 2*s.factor())
	hit := f != nil && n == f.node
	host := s.out.resource(func(m pcommon.Map) { put(m, event.KeyHostName, n.name, event.KeyNodeName, n.name) })
	s.out.counter(host, "system.disk.io_time", s.since, at, n, s.grow(n, diskBusy, level(f, hit, diskBusy, 0.1*s.factor())), "device", "sda")
	const nodes, connections = 6e6, 262144
	free := 1 - level(f, hit, inodes, 0.2)
	onRoot := []any{"device", "sda1", "mountpoint", "/", "mode", "rw", "type", "ext4", "state"}
	s.out.gauge(host, "system.filesystem.inodes.usage", at, n, math.Floor(nodes*free), append(onRoot, "free")...)
	s.out.gauge(host, "system.filesystem.inodes.usage", at, n, math.Floor(nodes*(1-free)), append(onRoot, "used")...)
	s.out.gauge(host, "system.network.conntrack.count", at, n, math.Floor(connections*level(f, hit, tracked, 0.1*s.factor())))
	s.out.gauge(host, "system.network.conntrack.max", at, n, connections)
}
