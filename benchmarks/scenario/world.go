package scenario

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// world is the system that is simulated. It does not change after it is made.
type world struct {
	options Options
	// services take requests, workers do not: of them there are only logs and metrics.
	services, workers []*service
	nodes             []*node
	entries           []*operation
	// rate is requests per second from outside, over all entries.
	rate float64
}

type node struct {
	name string
	skew int64 // ns
	disk float64
}

type service struct {
	name, version string
	tier          int
	pods          []*pod
	operations    []*operation
	// pool is the size of its connection pool, 0 for none: with one it asks a database.
	pool int
	// unit is set where systemd runs it on a node, and not Kubernetes; jvm where its
	// runtime is measured, volume where it has one.
	unit, jvm, volume bool
	// callers is how many others call it.
	callers int
}

type pod struct {
	service        *service
	node           *node
	name, uid      string
	container, ip  string
	pid            int
	created        time.Time
	cpu, cpuLimit  float64 // cores
	memory, memMax float64 // bytes
}

// operation is what a service does for a request.
type operation struct {
	service *service
	name    string
	// work is the time of its own at the median, spread over its steps.
	work  time.Duration
	steps []step
	// visits per second that the load brings, for choosing what to break.
	visits float64
}

// step is a statement that is logged, and then a call, if there is one.
type step struct {
	statement string
	call      *operation
	// chance is how often the call is made.
	chance float64
	// query is what a database is asked that sends no spans, "" for nothing.
	query string
}

// epoch is when the system started; all recordings are after it.
var epoch = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

// tiers are the shares of services by their distance from the user.
var tiers = [...]float64{0.1, 0.35, 0.7, 1}

func newWorld(o Options) *world {
	r := rand.New(rand.NewPCG(o.Seed, 1))
	w := &world{options: o, rate: min(max(float64(o.Services)/30, 2), 10)}
	for i := range max(3, o.Services/8) {
		w.nodes = append(w.nodes, &node{
			name: fmt.Sprintf("node-%d", i), disk: 0.4 + 0.3*r.Float64(), skew: int64((2*r.Float64() - 1) * float64(o.Skew)),
		})
	}
	for i := range o.Services {
		w.services = append(w.services, w.newService(r, i))
	}
	w.connect(r)
	w.count()
	w.hire()
	for _, s := range w.services {
		if s.tier == 0 {
			w.entries = append(w.entries, s.operations...)
		}
	}
	for _, e := range w.entries {
		e.load(w.rate / float64(len(w.entries)))
	}
	return w
}

var syllables = []string{"ba", "ko", "ri", "tu", "me", "sa", "lo", "vi", "ne", "da", "pu", "ze"}

func word(r *rand.Rand) string {
	text := ""
	for range 3 {
		text += syllables[r.IntN(len(syllables))]
	}
	return text
}

func (w *world) newService(r *rand.Rand, i int) *service {
	s := &service{
		name: fmt.Sprintf("%s-%d", word(r), i), version: fmt.Sprintf("1.%d.0", r.IntN(9)), unit: i%7 == 5 && i < w.options.Services, jvm: i%2 == 0, volume: i%3 == 0,
	}
	for s.tier < len(tiers)-1 && float64(i) >= tiers[s.tier]*float64(w.options.Services) {
		s.tier++
	}
	if r.Float64() < 0.4 {
		s.pool = 5 + r.IntN(20)
	}
	for p := range 1 + r.IntN(3) {
		memMax := float64(int64(128) << r.IntN(4) << 20)
		s.pods = append(s.pods, &pod{
			service: s, node: w.nodes[r.IntN(len(w.nodes))], name: fmt.Sprintf("%s-%s-%d", s.name, word(r), p),
			uid: fmt.Sprintf("%08x-0000-4000-8000-%012x", r.Uint32(), i*10+p), container: fmt.Sprintf("%064x", uint64(i*10+p)+1<<40),
			ip: fmt.Sprintf("10.%d.%d.%d", i/200, i%200, p+1), pid: 1000 + i*10 + p, created: epoch.Add(time.Duration(i) * time.Second),
			cpu: 0.03 + 0.15*r.Float64(), cpuLimit: 0.5 + 0.5*float64(r.IntN(3)), memory: (0.3 + 0.3*r.Float64()) * memMax, memMax: memMax,
		})
	}
	if s.unit {
		s.pods = s.pods[:1]
	}
	for range 1 + r.IntN(2) {
		op := &operation{service: s, name: "GET /" + word(r), work: time.Duration(2+r.IntN(20)) * time.Millisecond}
		for range 2 + r.IntN(3) {
			op.steps = append(op.steps, step{statement: fmt.Sprintf("%s %s of %%d: %s", word(r), word(r), word(r))})
		}
		if s.pool > 0 {
			op.steps[0].query = "SELECT " + word(r)
		}
		s.operations = append(s.operations, op)
	}
	return s
}

// hire adds services that work without being asked: one for ten others.
func (w *world) hire() {
	r := rand.New(rand.NewPCG(w.options.Seed, 3))
	n := len(w.services)
	for i := range max(2, n/10) {
		s := w.newService(r, n+i)
		s.operations, s.pool = nil, 0
		w.workers = append(w.workers, s)
	}
}

// all are all services.
func (w *world) all() []*service { return slices.Concat(w.services, w.workers) }

// maxSteps bounds the calls of an operation.
const maxSteps = 5

// connect gives every operation behind the entries a caller of the tier before, and
// some a second one.
func (w *world) connect(r *rand.Rand) {
	byTier := map[int][]*operation{}
	for _, s := range w.services {
		byTier[s.tier] = append(byTier[s.tier], s.operations...)
	}
	for _, s := range w.services {
		for _, op := range s.operations {
			for tries, callers := 0, 1+r.IntN(2); s.tier > 0 && tries < 20 && callers > 0; tries++ {
				from := byTier[s.tier-1]
				caller := from[r.IntN(len(from))]
				if len(caller.steps) >= maxSteps && tries < 10 || len(caller.steps) >= 2*maxSteps {
					continue
				}
				chance := 1.0
				if r.Float64() < 0.2 {
					chance = 0.5
				}
				caller.steps = append(caller.steps, step{statement: fmt.Sprintf("ask %s for %%d", word(r)), call: op, chance: chance})
				callers--
			}
		}
	}
}

// count counts who calls whom.
func (w *world) count() {
	for _, s := range w.services {
		calls := map[*service]bool{}
		for _, op := range s.operations {
			for _, step := range op.steps {
				if step.call != nil && !calls[step.call.service] {
					calls[step.call.service] = true
					step.call.service.callers++
				}
			}
		}
	}
}

// load adds the visits that a rate brings to an operation and all below it.
func (op *operation) load(rate float64) {
	op.visits += rate
	for _, s := range op.steps {
		if s.call != nil {
			s.call.load(rate * s.chance)
		}
	}
}

func (s *service) visits() (sum float64) {
	for _, op := range s.operations {
		sum += op.visits
	}
	return sum
}
