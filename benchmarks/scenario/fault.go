package scenario

import (
	"math/rand/v2"
	"slices"
	"time"
)

// fault is one failure.
type fault struct {
	kind
	service   *service
	operation *operation
	pod       *pod
	node      *node
	// other is an operation of another service that is at fault too, which no request
	// visits that visits operation; nil for none.
	other *operation
	// from and to bound it, in ns since 1970.
	from, to int64
}

// kind is what breaks.
type kind struct {
	name string
	// ofNode is set where a node is at fault, not a service.
	ofNode bool
	// ofNamespace is set where a namespace is at fault.
	ofNamespace bool
	// calls is set where only a service that calls others can be at fault, two where
	// two services are, which do not call each other.
	calls, two bool
	// starves is set where only a service can be at fault that is called by one which does
	// other work, too.
	starves bool
	// brief is set where one pod fails its callers for seconds only: it is one that is
	// called often, or else nobody would notice.
	brief bool
	// ofUnit is set where a service is at fault that systemd runs, of where only one can be
	// that has something.
	ofUnit bool
	of     func(*service) bool
	// victim is set where a node is at fault, and it is as right to name the service that
	// suffers.
	victim bool
	// ofWorker is set where a service is at fault that takes no requests.
	ofWorker bool
	// lead is how long before its first effect on users it shows in metrics.
	lead time.Duration
	// foretold is set where it must be named before its first effect on users.
	foretold bool
	// effects change what happens; nil for nothing.
	effects
}

// effects of a fault while it lasts. Each may be nil.
type effects struct {
	// down tells whether a pod takes no connections, dead whether nothing answers at
	// all.
	down, dead func(f *fault, p *pod, at int64) bool
	// slower is added to an operation's own time, delay to each way of a call to it.
	slower, delay func(f *fault, op *operation, p *pod, r *rand.Rand) time.Duration
	// fails tells with which exception a visit fails, skips from which step on it does
	// nothing.
	fails func(f *fault, op *operation, p *pod, r *rand.Rand) string
	skips func(f *fault, op *operation) int
	// blocked tells why a call does not get through, "" when it does. retries is how
	// often callers try again what failed.
	blocked func(f *fault, from, to *pod, r *rand.Rand) string
	retries int
	// limit is how long a caller waits for an answer, 0 for as long as it takes, rush how
	// many requests arrive within half a second when the fault begins.
	limit func(f *fault, from *pod, op *operation) time.Duration
	rush  int
	// stalls is how much longer a query takes, repeats how often more the operation at
	// fault makes its calls.
	stalls  func(f *fault, op *operation, r *rand.Rand) time.Duration
	repeats int
	// cpu, memory and pool are shares of the limit, disk that of the node's file
	// system; below 0 as ever.
	cpu, memory func(f *fault, p *pod, at int64) float64
	pool        func(f *fault, s *service) float64
	disk        func(f *fault, n *node, at int64) float64
	// levels are what else is measured of the pod or node at fault.
	levels map[measured]float64
	// cries is what a service without requests logs as an error all the time, "" for nothing.
	cries func(f *fault, p *pod) string
	// events writes what the kernel, systemd and Kubernetes say, inSpan what the kernel
	// says of a visit that fails.
	events func(f *fault, w *writer)
	inSpan *record
}

const second = int64(time.Second)

// kinds are the failures that are made by default, told those that are made with
// faults=all too.
var kinds = slices.Concat(basic, network, placing, others, unseen)

var basic = []kind{
	{name: "out of memory", lead: 3 * time.Minute, effects: effects{down: restarting(40, 12), memory: leaking, events: oomKills}},
	{name: "crash loop", effects: effects{down: restarting(30, 20), events: crashes}},
	{name: "killed", brief: true, effects: effects{down: restarting(3600, 30), events: killed}},
	{name: "stopped", effects: effects{down: always, events: stopped}},
	{name: "cpu starvation", effects: effects{slower: starved, cpu: ofPod(0.97)}},
	{name: "slow code", effects: effects{slower: slowCode}},
	{name: "network delay", effects: effects{delay: delayed}},
	{name: "exception", effects: effects{fails: exception}},
	{name: "wrong result", effects: effects{skips: func(f *fault, op *operation) int {
		if op == f.operation {
			return 1
		}
		return -1
	}}},
	{name: "pool exhausted", of: pooled, effects: effects{slower: waits, fails: noConnection, pool: func(f *fault, s *service) float64 {
		if s == f.service {
			return 1
		}
		return -1
	}}},
	{name: "disk full", ofNode: true, lead: time.Minute, effects: effects{fails: noSpace, disk: filling, events: diskPressure}},
	{name: "node down", ofNode: true, effects: effects{dead: onNode, events: nodeDown}},
	{name: "image missing", effects: effects{down: always, events: imageMissing}},
	{name: "config missing", effects: effects{down: always, events: configMissing}},
}

// restarting is down for some seconds of every period.
func restarting(period, down int64) func(*fault, *pod, int64) bool {
	return func(f *fault, p *pod, at int64) bool {
		return p == f.pod && (at-f.from)%(period*second) < down*second
	}
}

func always(f *fault, p *pod, _ int64) bool { return p.service == f.service }

func onNode(f *fault, p *pod, _ int64) bool { return p.node == f.node }

func ofPod(share float64) func(*fault, *pod, int64) float64 {
	return func(f *fault, p *pod, _ int64) float64 {
		if p == f.pod {
			return share
		}
		return -1
	}
}

// leaking grows from its usual size to the limit until the first kill, and again
// after each.
func leaking(f *fault, p *pod, at int64) float64 {
	if p != f.pod {
		return -1
	}
	usual := p.memory / p.memMax
	lead := int64(f.lead)
	if at < f.from {
		return usual + (1-usual)*float64(at-f.from+lead)/float64(lead)
	}
	return usual + (1-usual)*float64((at-f.from)%(40*second))/float64(40*second)
}

func starved(f *fault, op *operation, p *pod, r *rand.Rand) time.Duration {
	if p != f.pod {
		return 0
	}
	return time.Duration(float64(op.work)*(8+8*r.Float64())) + time.Duration(100*r.Float64())*time.Millisecond
}

func slowCode(f *fault, op *operation, _ *pod, r *rand.Rand) time.Duration {
	if op != f.operation {
		return 0
	}
	return time.Duration(300+300*r.Float64()) * time.Millisecond
}

func delayed(f *fault, _ *operation, p *pod, r *rand.Rand) time.Duration {
	if p.service != f.service {
		return 0
	}
	return time.Duration(100+50*r.Float64()) * time.Millisecond
}

func exception(f *fault, op *operation, _ *pod, _ *rand.Rand) string {
	if op != f.operation {
		return ""
	}
	return "java.lang.NullPointerException: value is null"
}

func waits(f *fault, op *operation, _ *pod, r *rand.Rand) time.Duration {
	if op.service != f.service {
		return 0
	}
	return time.Duration(500+1500*r.Float64()) * time.Millisecond
}

func noConnection(f *fault, op *operation, _ *pod, r *rand.Rand) string {
	if op.service != f.service || r.Float64() < 0.6 {
		return ""
	}
	return "java.sql.SQLTransientConnectionException: Connection is not available, request timed out after 2000ms"
}

func noSpace(f *fault, _ *operation, p *pod, r *rand.Rand) string {
	if p.node != f.node || r.Float64() < 0.3 {
		return ""
	}
	return "java.io.IOException: No space left on device"
}

// filling goes from the usual to all of the disk in the lead.
func filling(f *fault, n *node, at int64) float64 {
	if n != f.node {
		return -1
	}
	return min(n.disk+(1-n.disk)*float64(at-f.from+int64(f.lead))/float64(f.lead), 1)
}

// active tells whether a fault has begun to show at a time.
func (f *fault) active(at int64) bool { return f != nil && at >= f.from && at < f.to }

// visible tells whether it shows in metrics.
func (f *fault) visible(at int64) bool { return f != nil && at >= f.from-int64(f.lead) && at < f.to }
