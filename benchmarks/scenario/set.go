package scenario

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

const (
	// baselines is how many fault-free recordings there are.
	baselines = 3
	// before and during are how long a case is without and with its fault.
	before, during = 4 * time.Minute, 3 * time.Minute
)

// New returns the cases and fault-free recordings of the options.
func New(o Options) (*dataset.Set, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	w := newWorld(o)
	set := &dataset.Set{Name: "generated scenarios"}
	start := epoch.Add(time.Hour)
	for i := range baselines {
		length := time.Duration(o.Minutes) * time.Minute
		set.Baselines = append(set.Baselines, w.recording(fmt.Sprintf("fault-free-%d", i+1), start, length, nil, uint64(i)+1))
		start = start.Add(length + time.Minute)
	}
	r := rand.New(rand.NewPCG(o.Seed, 2))
	for _, k := range o.kinds() {
		before := leadOf(k)
		for i := range o.Cases {
			f := w.newFault(k, r, start.Add(before))
			if k.two && f.other == nil {
				continue // it is too small for two that no request visits together
			}
			c := &dataset.Case{
				Recording: *w.recording(fmt.Sprintf("%s %d", k.name, i+1), start, before+during, f, uint64(len(set.Cases))+100),
				Onset:     time.Unix(0, f.from).UTC(), Group: k.name, Truth: truth{w, f},
			}
			set.Cases = append(set.Cases, c)
			start = start.Add(before + during + time.Minute)
		}
	}
	return set, nil
}

func (w *world) recording(id string, start time.Time, length time.Duration, f *fault, seed uint64) *dataset.Recording {
	r := &dataset.Recording{ID: id, Start: start, End: start.Add(length)}
	for _, s := range w.all() {
		r.Services = append(r.Services, s.name)
	}
	slices.Sort(r.Services)
	r.Load = func(shift time.Duration) (dataset.Telemetry, error) {
		s := newSimulation(w, f, shift, seed)
		s.run(start.UnixNano(), start.Add(length).UnixNano())
		return s.out.telemetry(), nil
	}
	return r
}

// minVisits per second of what breaks: nobody notices what nobody uses.
const minVisits = 0.2

// newFault chooses what breaks.
func (w *world) newFault(k kind, r *rand.Rand, from time.Time) *fault {
	f := &fault{kind: k, from: from.UnixNano(), to: from.Add(during).UnixNano()}
	var busy []*service
	for _, s := range w.services {
		// An entry has no caller who sees it fail.
		if s.tier > 0 && s.unit == k.ofUnit && s.visits() >= minVisits && (k.of == nil || k.of(s)) && (!k.calls || s.calls()) && (!k.starves || w.starvedBy(s.main())) {
			busy = append(busy, s)
		}
	}
	if k.ofWorker {
		f.service = w.workers[r.IntN(len(w.workers))]
		f.pod = f.service.pods[r.IntN(len(f.service.pods))]
		f.node = f.pod.node
		return f
	}
	if len(busy) == 0 {
		busy = slices.DeleteFunc(slices.Clone(w.services[len(w.services)/2:]), func(s *service) bool { return s.unit != k.ofUnit || k.of != nil && !k.of(s) })
	}
	if k.brief {
		slices.SortStableFunc(busy, func(a, b *service) int {
			return cmp.Compare(b.visits()/float64(len(b.pods)), a.visits()/float64(len(a.pods)))
		})
		busy = busy[:max(1, len(busy)/4)]
	}
	f.service = busy[r.IntN(len(busy))]
	f.operation = f.service.main()
	if k.two {
		// One pair of all.
		var pairs [][2]*service
		for i, a := range busy {
			for _, b := range busy[i+1:] {
				if !w.together(a.main(), b.main()) {
					pairs = append(pairs, [2]*service{a, b})
				}
			}
		}
		if len(pairs) > 0 {
			pair := pairs[r.IntN(len(pairs))]
			f.service, f.operation, f.other = pair[0], pair[0].main(), pair[1].main()
		}
	}
	f.pod = f.service.pods[r.IntN(len(f.service.pods))]
	f.node = f.pod.node
	return f
}

// starvedBy tells whether some operation is starved by another one that is slow.
func (w *world) starvedBy(slow *operation) bool {
	return slices.ContainsFunc(w.services, func(s *service) bool {
		return slices.ContainsFunc(s.operations, func(o *operation) bool { return o.visits >= minVisits && o.starves(slow) })
	})
}

// together tells whether a request from outside can visit both operations: if the first
// one fails, nobody sees the other fail.
func (w *world) together(a, b *operation) bool {
	return slices.ContainsFunc(w.entries, func(e *operation) bool { return e.reaches(a) && e.reaches(b) })
}

func (op *operation) reaches(to *operation) bool {
	return op == to || slices.ContainsFunc(op.steps, func(s step) bool { return s.call != nil && s.call.reaches(to) })
}

// main is the operation of a service that is visited most.
func (s *service) main() *operation {
	return slices.MaxFunc(s.operations, func(a, b *operation) int { return cmp.Compare(a.visits, b.visits) })
}

// calls tells whether the operation of a service that is visited most calls others.
func (s *service) calls() bool {
	return slices.ContainsFunc(s.main().steps, func(x step) bool { return x.call != nil })
}

// truth is what broke.
type truth struct {
	world *world
	fault *fault
}

var _ dataset.Truth = truth{}

// String implements dataset.Truth.
func (t truth) String() string {
	if t.fault.ofNode {
		return "node " + t.fault.node.name
	}
	if t.fault.ofNamespace {
		return "namespace " + namespace
	}
	return t.fault.service.name
}

// Judge implements dataset.Truth.
func (t truth) Judge(findings []*finding.Finding) dataset.Verdict {
	if t.fault.foretold {
		findings = slices.DeleteFunc(slices.Clone(findings), func(f *finding.Finding) bool { return f.DetectedAt.UnixNano() >= t.fault.from })
	}
	ranking := dataset.Ranking(findings, t.name)
	rank := slices.IndexFunc(ranking, t.is) + 1
	if t.fault.other != nil {
		// Both, each as the cause of a finding of its own: the first two of all.
		second := slices.Index(ranking, t.fault.other.service.name) + 1
		if rank == 0 || second == 0 || len(findings) < 2 {
			return dataset.Verdict{}
		}
		rank = max(rank, second) - 1
	}
	return dataset.Verdict{Rank: rank, Exact: rank == 1 && slices.Contains(accepted[t.fault.name], findings[0].Pattern)}
}

// is tells whether a name in the words of the truth is what is at fault.
func (t truth) is(name string) bool {
	return name == t.String() || t.fault.victim && name == t.fault.service.name
}

// Right implements dataset.Truth.
func (t truth) Right(f *finding.Finding) bool {
	name := t.name(&f.RootCause.Entity)
	return t.is(name) || t.fault.other != nil && name == t.fault.other.service.name
}

// has tells whether there is a service with a name.
func (w *world) has(name string) bool {
	return slices.ContainsFunc(w.services, func(s *service) bool { return s.name == name })
}

// name says an entity in the words of the truth.
func (t truth) name(e *finding.Entity) string {
	value := func(key string) string {
		s, _ := e.Attributes[key].(string)
		return s
	}
	switch e.Kind {
	case "host", "node":
		return "node " + e.Name
	case "namespace":
		return "namespace " + e.Name
	case "service", "workload":
		return e.Name
	case "unit":
		if name := strings.TrimSuffix(e.Name, ".service"); t.world.has(name) {
			return name
		}
		return "node " + value(event.KeyHostName) // a unit that belongs to it
	}
	for _, key := range []string{event.KeyServiceName, event.KeyDeploymentName} {
		if s := value(key); s != "" {
			return s
		}
	}
	for _, s := range t.world.all() {
		for _, p := range s.pods {
			if uid := value(event.KeyPodUID); uid == p.uid || uid == "" && value(event.KeyPodName) == p.name || e.Name == p.ip {
				return s.name
			}
		}
	}
	return ""
}
