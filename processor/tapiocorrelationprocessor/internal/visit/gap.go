package visit

import (
	"math"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// gaps scores the calls of every service: those to it alone, and all of its. The
// slow share settles caller against callee: who is the cause has all of them slow.
// Slow calls of a caller that calls others as slowly are the caller's, not those of
// whom it calls.
func (a *Analyzer) gaps() {
	j := &a.judge
	out := map[record.EntityID]*fan{}
	for _, m := range j.measures {
		if m.key.kind != measureGap || m.threshold == 0 {
			continue
		}
		f := out[m.key.a]
		if f == nil {
			f = &fan{to: map[record.EntityID]*edges{}}
			out[m.key.a] = f
		}
		f.add(m)
	}
	for _, m := range j.measures {
		if m.key.kind != measureGap || m.threshold == 0 {
			continue
		}
		called, caller := a.tally(m.service), a.tally(m.key.a)
		caller.all.add(m)
		if m.caller = out[m.key.a].explains(m.service); m.caller {
			continue
		}
		called.in.add(m)
		called.all.add(m)
	}
	for _, id := range j.order {
		t := j.services[id]
		t.level, t.gap = settle(&t.in, &t.all, t.run)
	}
	for _, m := range j.measures {
		if m.key.kind != measureGap || m.threshold == 0 {
			continue
		}
		called, caller := a.tally(m.service), a.tally(m.key.a)
		if called.gap > 0 && !m.caller {
			m.at(called.level)
			m.z = called.gap
		} else if caller.gap > 0 {
			m.at(caller.level)
		}
		if m.k > 0 {
			m.outward = caller.gap
		} else {
			m.z = 0
		}
	}
}

// settle returns at which level calls are slow most surely, and how surely.
func settle(in, all *edges, run [levels]float64) (level int, z float64) {
	for l := range levels {
		if x := max(in.z(l), all.z(l), in.complete(l, run[l])); x > z {
			level, z = l, x
		}
	}
	return level, z
}

// edges are calls, pooled.
type edges struct {
	n, n0  float64
	k, k0  [levels]float64
	traces int
}

// less returns the edges without some of them.
func (e edges) less(o *edges) *edges {
	e.n, e.n0, e.traces = e.n-o.n, e.n0-o.n0, e.traces-o.traces
	for l := range levels {
		e.k[l] -= o.k[l]
		e.k0[l] -= o.k0[l]
	}
	return &e
}

func (e *edges) add(m *measure) {
	e.n += m.n
	e.n0 += m.n0
	e.traces += m.traces
	for l := range levels {
		e.k[l] += m.slow[l]
		e.k0[l] += m.slow0[l]
	}
}

// best is the highest score at any level.
func (e *edges) best() (z float64) {
	for l := range levels {
		z = max(z, e.z(l))
	}
	return z
}

// z scores how many calls are slow at a level.
func (e *edges) z(level int) float64 {
	k := e.k[level]
	if k == 0 {
		return 0
	}
	return reported(detect.Score(k, e.n, e.k0[level], e.n0) * math.Sqrt(k/e.n) * e.cluster())
}

// complete scores the newest calls alone when all of them are slow.
func (e *edges) complete(level int, run float64) float64 {
	if run < minRun || run > e.n {
		return 0
	}
	return reported(detect.Score(run, run, e.k0[level], e.n0) * e.cluster())
}

func (e *edges) cluster() float64 { return math.Sqrt(min(float64(e.traces)/e.n, 1)) }

// reported is a score, or 0 where it says nothing.
func reported(z float64) float64 {
	if z < report {
		return 0
	}
	return z
}

// fan is all that a service calls.
type fan struct {
	all edges
	to  map[record.EntityID]*edges
}

func (f *fan) add(m *measure) {
	e := f.to[m.service]
	if e == nil {
		e = &edges{}
		f.to[m.service] = e
	}
	e.add(m)
	f.all.add(m)
}

// explains tells whether the calls to others are slow as well, at least half as surely
// as those to one service.
func (f *fan) explains(called record.EntityID) bool {
	e := f.to[called]
	others := f.all.less(e)
	z := others.best()
	return z > 0 && z >= explains*e.best()
}

// collectGaps adds the gap of each service with its worst edge as the example.
func (a *Analyzer) collectGaps() {
	worst := map[record.EntityID]*measure{}
	for _, m := range a.judge.measures {
		if m.key.kind != measureGap || m.k == 0 {
			continue
		}
		for _, id := range [2]record.EntityID{m.service, m.key.a} {
			if w := worst[id]; w == nil || m.k > w.k {
				worst[id] = m
			}
		}
	}
	for _, id := range a.judge.order {
		t := a.judge.services[id]
		if t.gap == 0 || worst[id] == nil || t.starved || a.judge.driven[id] != 0 {
			continue
		}
		t.squares += t.gap * t.gap
		s := worst[id].signal(t.gap)
		s.Before, s.Now = Ratio{t.all.k0[t.level], t.all.n0}, Ratio{t.all.k[t.level], t.all.n}
		a.signal(t, s)
	}
}
