package visit

import (
	"math"
	"slices"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// eachAnomaly calls f for every anomaly that a visit takes part in, with the number
// of the feature that it lacks, -1 for none.
func (a *Analyzer) eachAnomaly(v *visit, f func(z float64, lacks int32, n *featureNow, m *measure)) {
	if len(v.operation.now.odd) > 0 {
		a.eachOdd(v, f)
	}
	for _, s := range v.samples {
		if s.measure.z != 0 && s.value > s.measure.threshold {
			f(s.measure.z, -1, nil, s.measure)
		}
	}
}

// eachOdd calls f for every feature that a visit has or lacks, and every step that does not
// follow another, where that is odd.
func (a *Analyzer) eachOdd(v *visit, f func(z float64, lacks int32, n *featureNow, m *measure)) {
	o := v.operation
	position := a.build.positions(v)
	for _, i := range o.now.odd {
		ft := &o.features[i]
		has := position[i] > 0
		if ft.now.z != 0 && has == (ft.now.z > 0) && (v.now.logged || !ft.token.logged()) && (has || !a.replaced(v, ft.token)) {
			lacks := int32(-1)
			if !has {
				lacks = int32(i)
			}
			f(ft.now.z, lacks, &ft.now, nil)
		}
		if !has {
			continue
		}
		for k := range ft.next {
			p := &ft.next[k]
			if p.now.z == 0 || position[p.to] > position[i] || p.logged && !v.now.logged {
				continue
			}
			if position[p.to] > 0 || !a.replaced(v, o.features[p.to].token) {
				f(p.now.z, int32(p.to), &p.now, nil)
			}
		}
	}
	a.build.reset(v)
}

// grade finds how abnormal each visit is, and which call it lost first.
func (a *Analyzer) grade() {
	a.eachVisit(func(_ int, _ *completed, v *visit) {
		features := v.operation.features
		other := false
		v.now.moved = len(v.operation.now.odd) > 0 && a.moved(v) // without, it lacks nothing
		a.eachAnomaly(v, func(z float64, lacks int32, n *featureNow, m *measure) {
			v.now.z = max(v.now.z, math.Abs(z))
			if m != nil {
				v.now.slow = true
				v.now.works = v.now.works || m.key.kind != measureGap
			}
			other = other || n != nil && !n.failure
			if lacks < 0 || features[lacks].token.kind() != tokenCall {
				return
			}
			if v.now.lost < 0 || features[lacks].place < features[v.now.lost].place {
				v.now.lost = lacks
			}
		})
		if v.now.strained = v.now.z > 0 && !other; v.now.strained {
			v.operation.now.strained++
		}
	})
}

// explain weighs anomalous visits by what lies below them.
func (a *Analyzer) explain() {
	for t := range a.window {
		visits := a.window[t].visits
		for i := range visits {
			v := &visits[i]
			if v.now.z == 0 || v.left || a.drivenBy(v) != 0 {
				continue
			}
			for n, p := 0, v.parent; p >= 0 && n < len(visits); n++ {
				up := &visits[p]
				if up.operation.service != v.operation.service {
					up.now.below = max(up.now.below, v.now.z)
				}
				p = up.parent
			}
		}
		for i := range visits {
			v := &visits[i]
			switch {
			case v.now.z == 0 || v.left:
			case a.drivenBy(v) != 0:
				v.now.weight, v.now.by, v.now.byZ = 0, a.drivenBy(v), v.now.z
			case v.now.below >= explains*v.now.z:
				v.now.weight = 0
			case v.now.ambient:
				v.now.weight = ambientWeight
			}
		}
		blame(visits)
	}
}

// blame names for each explained visit the most abnormal service below that nothing
// explains in turn.
func blame(visits []visit) {
	for i := range visits {
		v := &visits[i]
		if v.now.z == 0 || v.left || v.now.weight == 0 {
			continue
		}
		for n, p := 0, v.parent; p >= 0 && n < len(visits); n++ {
			up := &visits[p]
			if up.now.weight == 0 && up.operation.service != v.operation.service && v.now.z > up.now.byZ {
				up.now.by, up.now.byZ = v.operation.service, v.now.z
			}
			p = up.parent
		}
	}
}

func (a *Analyzer) ambient(v *visit) bool {
	return slices.ContainsFunc(v.exceptions, func(e exception) bool {
		since := a.exceptions[e].more
		return since != 0 && a.now-since >= ambientAfter
	})
}

// weigh counts the anomalous visits again, by weight, and those that hurt.
func (a *Analyzer) weigh() {
	a.eachVisit(func(_ int, c *completed, v *visit) {
		a.hurtCaller(v, c)
		if v.now.z == 0 {
			return
		}
		a.eachAnomaly(v, func(_ float64, _ int32, n *featureNow, m *measure) {
			switch {
			case n != nil:
				n.weighted += v.now.weight
				n.weighRun(v)
			case m.key.kind == measureGap:
				m.kw++
			default:
				m.kw += v.now.weight
			}
		})
		t := a.tally(v.operation.service)
		if v.now.weight == 0 {
			if v.now.by == 0 {
				return
			}
			by := a.tally(v.now.by)
			by.support = max(by.support, v.now.z)
			if v.now.lost >= 0 && v.now.below == 0 {
				by.suspect.hurt(v, c) // it has no visit of its own
			}
			if s := v.operation.service; !slices.Contains(by.suspect.Explains, s) {
				by.suspect.Explains = append(by.suspect.Explains, s)
			}
			return
		}
		t.suspect.hurt(v, c)
	})
}

// hurtCaller notes that a visit's caller waited for it, on the way, when that counts
// against the caller.
func (a *Analyzer) hurtCaller(v *visit, c *completed) {
	if v.parent < 0 || c.visits[v.parent].left || c.visits[v.parent].now.waits {
		return
	}
	for _, s := range v.samples {
		if m := s.measure; m.key.kind == measureGap && m.outward > 0 && s.value > m.threshold {
			up := &c.visits[v.parent]
			up.now.waits = true
			a.tally(m.key.a).suspect.hurt(up, c)
			return
		}
	}
}

// weighRun weighs a visit that is one of the newest that are all anomalous.
func (n *featureNow) weighRun(v *visit) {
	number := v.now.number
	if n.logged {
		number = v.now.numberLog
	}
	if n.run == 0 || number <= n.n-n.run {
		return
	}
	n.runK += v.now.weight
	n.runN++
	if v.now.ambient {
		n.runN -= 1 - ambientWeight
	}
}

// hurt notes an anomalous visit.
func (s *Suspect) hurt(v *visit, c *completed) {
	s.Hurt++
	if v.instance != 0 && v.operation.service == s.Service {
		if s.At == nil {
			s.At = map[record.EntityID]int{}
		}
		s.At[v.instance]++
	}
	if s.Since == 0 || v.start < s.Since {
		s.Since = v.start
	}
	n := len(s.Traces)
	if n > 0 && s.Traces[n-1] == c.id {
		return
	}
	s.Traces = append(s.Traces, c.id)
	if n == maxExamples {
		s.Traces = s.Traces[1:]
	}
	for i := range c.visits {
		other := &c.visits[i]
		if by := other.operation.service; other.now.z > 0 && !other.left && by != s.Service && !slices.Contains(s.Beside, by) {
			s.Beside = append(s.Beside, by)
		}
	}
}
