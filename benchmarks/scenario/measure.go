package scenario

import (
	"math"

	"go.opentelemetry.io/collector/pdata/pcommon"

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
	if p.service.pool > 0 {
		s.pool(p, f, at)
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
}
