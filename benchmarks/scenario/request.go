package scenario

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// simulation lets time pass.
type simulation struct {
	world  *world
	fault  *fault
	out    *writer
	random *rand.Rand
	serial uint64
	// since is when it began, totals are counters since then, served is what they grow by
	// of requests.
	since  int64
	totals map[total]float64
	served map[served]took
}

// patience is how long a caller waits for an answer.
const patience = 2 * second

// endpoints is how long Kubernetes sends requests to a pod that is down, and
// heartbeats to one on a node that is gone, in ns.
const (
	endpoints  = 5 * second
	heartbeats = 40 * second
)

// hiccups is the share of visits that fail for no reason, at a noise of 1: about one
// request of users in a hundred, which makes some twenty visits.
const hiccups = 0.0005

func newSimulation(w *world, f *fault, shift time.Duration, seed uint64) *simulation {
	return &simulation{
		world: w, fault: f, out: newWriter(w, shift, seed), random: rand.New(rand.NewPCG(w.options.Seed, seed+1<<32)), serial: seed << 32, totals: map[total]float64{}, served: map[served]took{},
	}
}

// run simulates the system between two times.
func (s *simulation) run(from, to int64) {
	s.since = from
	for at := from; ; {
		at += int64(s.random.ExpFloat64() / s.world.rate * float64(time.Second))
		if at >= to {
			break
		}
		s.serial++
		entry := s.world.entries[s.random.IntN(len(s.world.entries))]
		s.visit(entry, s.pick(entry.service, at), s.serial, 0, at)
	}
	s.rush(from, to)
	if s.world.options.has(LayerMetrics) {
		s.measure(from, to)
	}
	s.background(from, to)
	s.units(from)
	s.labour(from, to)
	if s.fault != nil && s.fault.events != nil {
		s.fault.events(s.fault, s.out)
	}
}

func (s *simulation) active(at int64) *fault {
	if s.fault.active(at) {
		return s.fault
	}
	return nil
}

// down tells whether a pod takes no connections.
func (s *simulation) down(p *pod, at int64) bool {
	f := s.active(at)
	return f != nil && f.down != nil && f.down(f, p, at)
}

// dead tells whether nothing answers at a pod's address.
func (s *simulation) dead(p *pod, at int64) bool {
	f := s.active(at)
	return f != nil && f.dead != nil && f.dead(f, p, at)
}

// pick chooses a pod as Kubernetes does: one that was up some seconds ago, if there is
// one.
func (s *simulation) pick(of *service, at int64) *pod {
	var up []*pod
	for _, p := range of.pods {
		gone := s.down(p, at) && s.down(p, at-endpoints) || s.dead(p, at) && s.dead(p, at-heartbeats)
		if !gone {
			up = append(up, p)
		}
	}
	if len(up) == 0 {
		up = of.pods
	}
	return up[s.random.IntN(len(up))]
}

// rush are the requests that all arrive when the fault begins, at what is at fault.
func (s *simulation) rush(from, to int64) {
	f := s.fault
	if f == nil || f.rush == 0 || f.from < from || f.from >= to {
		return
	}
	at := slices.IndexFunc(s.world.entries, func(e *operation) bool { return e.reaches(f.operation) })
	for range f.rush {
		s.serial++
		entry := s.world.entries[max(at, 0)]
		begun := f.from + s.random.Int64N(second/2)
		s.visit(entry, s.pick(entry.service, begun), s.serial, 0, begun)
	}
}

// spread is a factor around 1.
func (s *simulation) spread() float64 {
	return math.Exp((0.15 + 0.2*s.world.options.Noise) * s.random.NormFloat64())
}

// visit is a request at a pod that is up: it returns when it ends and whether it
// failed.
func (s *simulation) visit(op *operation, p *pod, trace, parent uint64, at int64) (end int64, failed bool) {
	s.serial++
	server := span{trace: trace, id: s.serial, parent: parent, pod: p, name: op.name, kind: ptrace.SpanKindServer, start: at}
	left := op.steps
	work := float64(op.work) * s.spread()
	exception := ""
	if f := s.active(at); f != nil {
		if f.slower != nil {
			work += float64(f.slower(f, op, p, s.random))
		}
		if f.fails != nil {
			exception = f.fails(f, op, p, s.random)
		}
		if f.skips != nil {
			if n := f.skips(f, op); n >= 0 {
				left = left[:min(n, len(left))]
			}
		}
	}
	if exception == "" && s.random.Float64() < hiccups*s.world.options.Noise {
		exception = "java.util.concurrent.TimeoutException: upstream hiccup" // it happens all the time
	}
	now := at
	for i, step := range left {
		now += int64(work / float64(len(left)+1))
		if exception != "" && i == len(left)/2 {
			break
		}
		s.out.log(p, now, trace, server.id, plog.SeverityNumberInfo, text(step.statement, s.random.IntN(1e6)))
		if step.query != "" {
			now = s.query(op, step.query, p, trace, server.id, now)
		}
		if step.call == nil || s.random.Float64() >= step.chance {
			continue
		}
		var broken bool
		if now, broken = s.calls(op, step.call, p, trace, server.id, now); broken {
			exception = "java.io.IOException: the call of " + step.call.name + " failed"
			break
		}
	}
	now += int64(work / float64(len(left)+1))
	if exception != "" {
		s.out.log(p, now, trace, server.id, plog.SeverityNumberError, exception)
		server.failed = "500"
		if f := s.active(now); f != nil && f.inSpan != nil && p == f.pod {
			f.inSpan.write(f, s.out, now, trace, server.id)
		}
	}
	server.end = now
	s.out.span(&server)
	s.serve(p, op, at, now)
	return now, exception != ""
}

// calls are a call that is tried again while it fails, or made more often than is of use.
func (s *simulation) calls(by, op *operation, p *pod, trace, parent uint64, at int64) (end int64, failed bool) {
	if f := s.active(at); f != nil && by == f.operation {
		for range f.repeats {
			at, _ = s.call(op, p, trace, parent, at)
		}
	}
	for range 1 + s.retries(at) {
		if at, failed = s.call(op, p, trace, parent, at); !failed {
			break
		}
	}
	return at, failed
}

// query asks a database, and returns when it has answered.
func (s *simulation) query(op *operation, name string, p *pod, trace, parent uint64, at int64) int64 {
	s.serial++
	asks := span{trace: trace, id: s.serial, parent: parent, pod: p, name: name, kind: ptrace.SpanKindClient, start: at, asks: "db-" + op.service.name}
	asks.end = at + int64(2e6*s.spread())
	if f := s.active(at); f != nil && f.stalls != nil {
		asks.end += int64(f.stalls(f, op, s.random))
	}
	s.out.span(&asks)
	return asks.end
}

// retries is how often a call that failed is tried again.
func (s *simulation) retries(at int64) int {
	if f := s.active(at); f != nil {
		return f.retries
	}
	return 0
}

// limit is how long a caller waits, 0 for as long as it takes.
func (s *simulation) limit(from *pod, op *operation, at int64) int64 {
	if f := s.active(at); f != nil && f.limit != nil {
		return int64(f.limit(f, from, op))
	}
	return 0
}

// blocked tells why a call does not get through.
func (s *simulation) blocked(from, to *pod, at int64) string {
	if f := s.active(at); f != nil && f.blocked != nil {
		return f.blocked(f, from, to, s.random)
	}
	return ""
}

// call is a request from a pod: it returns when it is over and whether it failed.
func (s *simulation) call(op *operation, from *pod, trace, parent uint64, at int64) (end int64, failed bool) {
	s.serial++
	to := s.pick(op.service, at)
	client := span{trace: trace, id: s.serial, parent: parent, pod: from, name: op.name, kind: ptrace.SpanKindClient, start: at, calls: to.service, peer: to}
	way := int64(400e3 * s.spread())
	if f := s.active(at); f != nil && f.delay != nil {
		way += int64(f.delay(f, op, to, s.random))
	}
	why := s.blocked(from, to, at)
	switch {
	case why == unlisted || why == optional:
		s.out.log(from, at, trace, parent, fatal, "No instances available for "+op.service.name)
		return at, why == unlisted // nobody was called
	case why != "":
		client.end, client.failed, client.message = s.blockedCall(why, from, to, trace, parent, at), why, said(why, to)
		if why == unresolved || why == unknownName {
			client.peer = nil // it has no address
		}
	case s.dead(to, at) || s.dead(from, at):
		client.end, client.failed, client.message = at+patience, timedOut, said(timedOut, to)
		s.connectFailed(from, to, client.end, "connection_timed_out")
	case s.down(to, at+way):
		client.end, client.failed, client.message = at+2*way, refusedThere, said(refusedThere, to)
		s.connectFailed(from, to, client.end, "connection_refused")
	default:
		ended, broken := s.visit(op, to, trace, client.id, at+way)
		client.end = ended + way
		if broken {
			client.failed = "500"
		}
		if limit := s.limit(from, op, at); limit > 0 && client.end > at+limit {
			client.end, client.failed, client.message = at+limit, timedOut, said(unanswered, to)
		}
	}
	s.out.span(&client)
	return client.end, client.failed != ""
}
