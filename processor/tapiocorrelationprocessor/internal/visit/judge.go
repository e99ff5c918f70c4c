package visit

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// report is the |z| from which a deviation is looked at. 2 to 3.5 did equally well.
	report = 2.5
	// vanishFrom is the share of past visits with a feature from which its absence
	// says something: branch mixes swing by chance. .7 to .98 did equally well. It is
	// one of those that arrived: where spans get lost, what every visit has is missing
	// in as many as get lost. Beyond leastWhole it is not followed.
	vanishFrom, leastWhole = 0.95, 0.7
	// appearUpTo is the share of past visits up to which a feature is new.
	appearUpTo = 0.02
	// pairFrom and pairMin are the share and the number of past visits from which a
	// step is known to follow another.
	pairFrom, pairMin = 0.95, 5
	// minPast is how many past visits an operation needs to be judged.
	minPast = 5
	// explains is how abnormal a visit below must be against the one above.
	explains = 0.5
	// ambientWeight is what a visit counts that carries an exception which arises in
	// several services: an anomaly that is not this one's.
	ambientWeight = 0.3
	// minRun is from how many visits on the newest are looked at alone.
	minRun = 3
	// minEffect is by what share of the visits a feature must become more or less
	// frequent, minFailed by what share the failures: under load any drift of a
	// workload is significant, and so is the loss of a tenth of the telemetry.
	minEffect, minFailed = 0.25, 0.02
	// ambientAfter is how long it must have done so: what began just now is news.
	ambientAfter = int64(2 * time.Minute)
	// support is what the anomalies that a service explains add to its own, what
	// callers suffer is no chance; and what errors that appear add to steps that vanish:
	// a rare branch is not one that its authors call an error.
	support = 0.5
	// callers is how many services must lose their calls of another until that one is
	// to blame.
	callers = 2
)

// judge holds what one judgement needs.
type judge struct {
	round    uint64
	forgot   int64
	ops      []*operation
	measures []*measure
	lost     []lostCall
	storms   []*storm
	driven   map[record.EntityID]record.EntityID // who is strained by whose retries
	services map[record.EntityID]*tally
	order    []record.EntityID
}

// lostCall is a feature of an operation: a call that called does not answer.
type lostCall struct {
	operation *operation
	feature   *feature
	called    record.EntityID
}

// opNow is what the window says of an operation.
type opNow struct {
	round          uint64
	nearly         float64 // the share of past visits from which nearly all had a feature
	visits, logged float64
	trace, traces  int
	cluster        float64
	less, lessLog  float64  // what ambient visits count less
	odd            []uint16 // features that are anomalous
	z              float64  // highest |z| of what is not explained
	lost, bad      float64  // of what vanished, and of errors that appeared
	strained       int      // visits that are
}

// featureNow is what the window says of a feature or pair.
type featureNow struct {
	round    uint64
	n, k     float64
	last     float64 // number of the last visit with it, from 1
	begun    float64 // number of the first visit of those in a row up to last
	logged   bool    // it is of a log record
	failure  bool    // it is a span that failed
	run      float64 // the newest visits, without exception anomalous; 0 when too few
	runN     float64 // these, ambient ones by weight
	runK     float64 // and weighted
	z        float64 // 0 when it is not anomalous
	weighted float64 // anomalous visits, weighted
	less     float64 // of a pair: what ambient visits count less
	// unanswered are the visits that lost this call to a service that is to blame.
	unanswered float64
}

// see counts a visit with the feature; number is that of the visit among those that
// can have it.
func (n *featureNow) see(number float64) {
	n.k++
	if n.last != number-1 {
		n.begun = number
	}
	n.last = number
}

// visitNow is what the window says of a visit.
type visitNow struct {
	logged  bool
	ambient bool
	// number is which visit of its operation it is, numberLog which of those whose log
	// records can be judged, both from 1.
	number, numberLog float64
	z                 float64
	below             float64         // highest z of a visit below in another service
	by                record.EntityID // who explains it, with byZ
	byZ               float64
	lost              int32 // feature: the first call that is missing, -1 for none
	waits             bool  // for a call that is slow
	// slow: durations are abnormal, works: those of its own work; strained: nothing is but
	// durations and failures, as in one who is asked too much.
	slow, works, strained bool
	weight                float64
}

func (n *visitNow) of(t token) float64 {
	if t.logged() {
		return n.numberLog
	}
	return n.number
}

// tally collects what counts against a service.
type tally struct {
	suspect Suspect
	squares float64
	in, all edges
	run     [levels]float64 // the newest calls to it, all slow
	gap     float64
	level   int     // at which its calls are slow
	support float64 // highest z of a visit that this service explains
	// unanswered is the highest |z| of the calls to it that are lost.
	unanswered float64
	// lead is what tells why the service is in trouble, nil for nothing; spread are the
	// visits of others that its slowness starves, by operation; starved: it is one of these.
	lead    *Signal
	spread  map[*operation]float64
	starved bool
}

// edges are calls, pooled.
type edges struct {
	n, n0  float64
	k, k0  [levels]float64
	traces int
}

// Judge returns the suspects, most suspicious first. now is as of Advance, which
// it calls. It must be called at least once in ten seconds: what it finds abnormal
// does not become part of the past.
func (a *Analyzer) Judge(now int64) []Suspect {
	a.Advance(now)
	j := &a.judge
	j.round++
	j.ops, j.measures, j.order, j.lost = j.ops[:0], j.measures[:0], j.order[:0], j.lost[:0]
	j.services = map[record.EntityID]*tally{}
	j.storms, j.driven = j.storms[:0], map[record.EntityID]record.EntityID{}
	a.count()
	for _, o := range j.ops {
		a.deviations(o)
	}
	for _, m := range j.measures {
		m.deviation()
	}
	a.gaps()
	a.grade()
	a.storms()
	a.explain()
	a.unanswered()
	a.spread()
	a.weigh()
	a.collect()
	out := a.suspects()
	a.remember(out)
	return out
}

// Visits returns how many visits of a service the last judgement looked at.
func (a *Analyzer) Visits(service record.EntityID) int {
	n := 0.0
	for _, o := range a.judge.ops {
		if o.service == service {
			n += o.now.visits
		}
	}
	return int(n)
}

// remember marks the visits that raise an alarm, or are explained by one: whenever
// they leave, they do not become part of the past.
func (a *Analyzer) remember(suspects []Suspect) {
	alarm := map[record.EntityID]bool{}
	for i := range suspects {
		alarm[suspects[i].Service] = suspects[i].Score >= Alarm
	}
	a.eachVisit(func(_ int, _ *completed, v *visit) {
		if v.now.z > 0 && (alarm[v.operation.service] || v.now.weight == 0 && alarm[v.now.by]) {
			v.odd = true
		}
	})
}

// eachVisit calls f for every visit of the window with the number of its trace.
func (a *Analyzer) eachVisit(f func(trace int, c *completed, v *visit)) {
	for t := range a.window {
		c := &a.window[t]
		for i := range c.visits {
			if v := &c.visits[i]; !v.left {
				f(t, c, v)
			}
		}
	}
}

// count counts features, pairs and values of the window.
func (a *Analyzer) count() {
	j := &a.judge
	nearly := vanishFrom * max(1-a.Torn(), leastWhole)
	a.eachVisit(func(t int, _ *completed, v *visit) {
		o := v.operation
		if o.now.round != j.round {
			o.now = opNow{round: j.round, nearly: nearly, trace: -1, odd: o.now.odd[:0]}
			j.ops = append(j.ops, o)
		}
		v.now = visitNow{logged: a.judgeable(v), ambient: a.ambient(v), lost: -1, weight: 1}
		o.now.visits++
		if v.now.ambient {
			o.now.less += 1 - ambientWeight
		}
		if v.now.logged {
			o.now.logged++
			if v.now.ambient {
				o.now.lessLog += 1 - ambientWeight
			}
		}
		if o.now.trace != t {
			o.now.trace = t
			o.now.traces++
		}
		v.now.number, v.now.numberLog = o.now.visits, o.now.logged
		a.countTokens(v)
		for _, s := range v.samples {
			a.countSample(t, s)
		}
	})
}

func (n *featureNow) begin(round uint64) {
	if n.round != round {
		*n = featureNow{round: round}
	}
}

func (a *Analyzer) countTokens(v *visit) {
	o, round := v.operation, a.judge.round
	position := a.build.positions(v)
	for at, i := range v.tokens {
		f := &o.features[i]
		if f.token.logged() && !v.now.logged {
			continue
		}
		f.now.begin(round)
		f.now.see(v.now.of(f.token))
		for k := range f.next {
			p := &f.next[k]
			if p.logged && !v.now.logged {
				continue
			}
			p.now.begin(round)
			p.now.n++
			if v.now.ambient {
				p.now.less += 1 - ambientWeight
			}
			if position[p.to] > at+1 {
				p.now.k++
			}
		}
	}
	a.build.reset(v)
}

func (a *Analyzer) countSample(t int, s sample) {
	m, j := s.measure, &a.judge
	if m.round != j.round {
		m.round, m.n, m.k, m.kw, m.z, m.sum, m.traces, m.trace = j.round, 0, 0, 0, 0, 0, 0, -1
		m.outward, m.caller = 0, false
		if m.threshold = m.limit(); m.threshold > 0 {
			m.n0, m.k0 = float64(m.past.total), m.past.above(m.threshold)
		}
		if m.key.kind == measureGap && m.threshold > 0 {
			m.steps()
		}
		j.measures = append(j.measures, m)
	}
	if m.threshold == 0 {
		return
	}
	m.n++
	if m.trace != t {
		m.trace = t
		m.traces++
	}
	if s.value > m.threshold {
		m.k++
		m.sum += float64(s.value)
	}
	if m.key.kind != measureGap {
		return
	}
	called := a.tally(m.service)
	for l, above := range m.level {
		called.run[l]++
		if s.value > above {
			m.slow[l]++
			m.sums[l] += float64(s.value)
		} else {
			called.run[l] = 0
		}
	}
}

// deviations scores the features and pairs of an operation.
func (a *Analyzer) deviations(o *operation) {
	n := &o.now
	n.cluster = math.Sqrt(float64(n.traces) / n.visits)
	for i := range o.features {
		f := &o.features[i]
		if f.token == 0 {
			continue
		}
		f.now.begin(a.judge.round)
		if f.now.n = n.visits; f.token.logged() {
			f.now.n, f.now.logged = n.logged, true
		}
		f.now.failure = f.token.kind() == tokenFailed
		f.now.z = o.deviation(f, f.now.k, f.now.n)
		o.complete(f)
		odd := f.now.z != 0
		// What nearly every visit has is followed by what nearly every visit has: there
		// nearly decides, on all visits.
		clean := o.clean.of(f.token)
		branch := f.clean < n.nearly*clean
		for k := range f.next {
			p := &f.next[k]
			p.now.begin(a.judge.round)
			if p.now.n > 0 && branch && p.n >= pairMin && p.k >= pairFrom*p.n && p.now.k/p.now.n <= p.k/p.n-minEffect {
				if z := detect.Score(p.now.k, p.now.n, p.k, p.n) * n.cluster; z <= -report {
					p.now.z = z
					odd = true
				}
			}
		}
		if odd {
			n.odd = append(n.odd, uint16(i))
		}
	}
}

// complete looks at the newest visits alone when all of them are anomalous: those
// from before a fault say nothing against it.
func (o *operation) complete(f *feature) {
	n := &f.now
	run, k := n.n-n.last, 0.0 // without the feature
	if n.last == n.n && n.n > 0 {
		run = n.n - n.begun + 1
		k = run
	}
	if run < minRun || run == n.n {
		return
	}
	if z := o.deviation(f, k, run); math.Abs(z) > math.Abs(n.z) {
		n.z, n.run = z, run
	}
}

// deviation scores how much k of n visits with a feature deviate from the past, 0
// when they do not, and when it says nothing.
func (o *operation) deviation(f *feature, k, n float64) float64 {
	past, clean := o.past.of(f.token), o.clean.of(f.token)
	z, p := 0.0, share(k, n)
	switch f.token.kind() {
	case tokenFailed:
		if past >= minPast && p >= f.past/past+minFailed {
			z = max(detect.Score(k, n, f.past, past), 0)
		}
	case tokenException:
		if past >= minPast && f.past <= appearUpTo*past && p >= minEffect {
			z = max(detect.Score(k, n, f.past, past), 0)
		}
	case tokenStatement, tokenVariant: // what an exception cut short may be new without one
		if clean >= minPast && f.past <= appearUpTo*past && f.clean <= appearUpTo*clean && p >= minEffect {
			z = max(detect.Score(k, n, f.clean, clean), 0)
		}
	}
	switch {
	case z != 0 || f.token.kind() == tokenFailed:
	case clean >= minPast && f.clean >= o.now.nearly*clean && p <= f.clean/clean-minEffect:
		z = min(detect.Score(k, n, f.clean, clean), 0)
	}
	if z *= o.now.cluster; math.Abs(z) < report {
		return 0
	}
	return z
}

func (m *measure) deviation() {
	if m.threshold == 0 || m.k == 0 || m.key.kind == measureGap {
		return
	}
	if z := m.score(m.k) * m.cluster(); z >= report {
		m.z = z
	}
}

// cluster is what the values of one trace are worth less than independent ones,
// and what a slow minority is worth less than all: a service in trouble is slow
// throughout.
func (m *measure) cluster() float64 {
	return math.Sqrt(float64(m.traces)/m.n) * math.Sqrt(m.k/m.n)
}

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

func (a *Analyzer) tally(service record.EntityID) *tally {
	j := &a.judge
	t := j.services[service]
	if t == nil {
		t = &tally{suspect: Suspect{Service: service}}
		j.services[service] = t
		j.order = append(j.order, service)
	}
	return t
}

// eachAnomaly calls f for every anomaly that a visit takes part in, with the number
// of the feature that it lacks, -1 for none.
func (a *Analyzer) eachAnomaly(v *visit, f func(z float64, lacks int32, n *featureNow, m *measure)) {
	o := v.operation
	if len(o.now.odd) > 0 {
		position := a.build.positions(v)
		for _, i := range o.now.odd {
			ft := &o.features[i]
			has := position[i] > 0
			if ft.now.z != 0 && has == (ft.now.z > 0) && (v.now.logged || !ft.token.logged()) {
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
				if p := &ft.next[k]; p.now.z != 0 && position[p.to] <= position[i] && (v.now.logged || !p.logged) {
					f(p.now.z, int32(p.to), &p.now, nil)
				}
			}
		}
		a.build.reset(v)
	}
	for _, s := range v.samples {
		if s.measure.z != 0 && s.value > s.measure.threshold {
			f(s.measure.z, -1, nil, s.measure)
		}
	}
}

// grade finds how abnormal each visit is, and which call it lost first.
func (a *Analyzer) grade() {
	a.eachVisit(func(_ int, _ *completed, v *visit) {
		features := v.operation.features
		other := false
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

// unanswered blames a service that several others do not get to call any more. The
// visits that nothing below explains and that lost their first call to it count
// against it.
func (a *Analyzer) unanswered() {
	lost := map[record.EntityID][]record.EntityID{} // callers, by called service
	each := func(f func(v *visit, called record.EntityID)) {
		a.eachVisit(func(_ int, _ *completed, v *visit) {
			if v.now.lost < 0 || v.now.weight == 0 {
				return
			}
			_, other := v.operation.features[v.now.lost].token.names()
			if o := a.operations[other]; o != nil && o.service != v.operation.service {
				f(v, o.service)
			}
		})
	}
	each(func(v *visit, called record.EntityID) {
		if by := v.operation.service; !slices.Contains(lost[called], by) {
			lost[called] = append(lost[called], by)
		}
	})
	each(func(v *visit, called record.EntityID) {
		if len(lost[called]) < callers {
			return
		}
		f := &v.operation.features[v.now.lost]
		if f.now.unanswered == 0 {
			a.judge.lost = append(a.judge.lost, lostCall{v.operation, f, called})
		}
		f.now.unanswered += v.now.weight
		v.now.weight, v.now.by = 0, called
	})
}

// collectUnanswered adds the calls that were lost to those who should have answered.
func (a *Analyzer) collectUnanswered() {
	for _, l := range a.judge.lost {
		n, k := l.operation.now.visits-l.operation.now.less, l.feature.now.unanswered
		s := Signal{
			Kind: Unanswered, Operation: l.operation.id, Peer: l.operation.service,
			Before: Ratio{l.feature.clean, l.operation.clean.visits}, Now: Ratio{n - k, n},
			Z: detect.Score(n-k, n, l.feature.clean, l.operation.clean.visits) * l.operation.now.cluster,
		}
		if s.Z > -report {
			continue
		}
		_, s.Other = l.feature.token.names()
		t := a.tally(l.called)
		t.unanswered = max(t.unanswered, -s.Z)
		t.suspect.Signals = append(t.suspect.Signals, s)
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
	if s.Since == 0 || v.start < s.Since {
		s.Since = v.start
	}
	if n := len(s.Traces); n == 0 || s.Traces[n-1] != c.id {
		s.Traces = append(s.Traces, c.id)
		if n == maxExamples {
			s.Traces = s.Traces[1:]
		}
	}
}

// collect scores what is left and sums it up by service. What was abnormal at all
// is kept from the past, explained or not.
func (a *Analyzer) collect() {
	j := &a.judge
	for _, o := range j.ops {
		o.now.z, o.now.lost, o.now.bad = 0, 0, 0
		for _, i := range o.now.odd {
			a.collectFeature(o, &o.features[i])
		}
		o.frozen = a.freeze(o.frozen, len(o.now.odd) > 0)
	}
	for _, m := range j.measures {
		if m.frozen = a.freeze(m.frozen, m.z != 0 || m.outward != 0); m.frozen != 0 {
			m.odd = a.now
		}
		if m.z == 0 || m.key.kind == measureGap {
			continue
		}
		z := m.score(m.kw) * m.cluster()
		if z < report {
			continue
		}
		a.signal(a.tally(m.service), m.signal(z))
	}
	a.collectStorms()
	a.herds()
	a.collectSpread()
	for _, o := range j.ops {
		if o.now.z > 0 {
			told := support * min(o.now.lost, o.now.bad)
			a.tally(o.service).squares += o.now.z*o.now.z + told*told
		}
	}
	a.collectUnanswered()
	a.collectGaps()
	a.collectErrors()
	for id, r := range a.resources {
		if a.now-r.at <= 3*int64(a.options.Window) && r.z >= report {
			t := a.tally(id)
			t.squares += r.z * r.z
			a.signal(t, Signal{Kind: Resource, Z: r.z})
		}
	}
}

func (a *Analyzer) freeze(since int64, abnormal bool) int64 {
	switch {
	case !abnormal:
		return 0
	case since == 0:
		return a.now
	}
	return since
}

func (a *Analyzer) collectFeature(o *operation, f *feature) {
	if n := &f.now; n.z != 0 {
		visits := n.n - o.now.less
		if f.token.logged() {
			visits = n.n - o.now.lessLog
		}
		k := n.weighted
		s := Signal{Kind: Appeared, Operation: o.id, Before: Ratio{f.past, o.past.of(f.token)}, Now: Ratio{n.k, n.n}}
		if n.z < 0 {
			k = visits - n.weighted
			s.Kind, s.Before = Vanished, Ratio{f.clean, o.clean.of(f.token)}
		}
		if f.token.kind() == tokenFailed {
			s.Kind = Failed
		}
		s.Z = o.deviation(f, k, visits)
		if n.run > 0 {
			k = n.runK
			if n.z < 0 {
				k = n.runN - n.runK
			}
			if z := o.deviation(f, k, n.runN); math.Abs(z) > math.Abs(s.Z) {
				s.Z, s.Now = z, Ratio{k, n.runN}
			}
		}
		if s.Z*n.z > 0 {
			s.Template, s.Other = f.token.names()
			s.Peer = a.called(f.token)
			if f.bad && s.Kind == Appeared {
				o.now.bad = max(o.now.bad, s.Z)
			}
			a.signal(a.tally(o.service), s)
		}
	}
	for k := range f.next {
		p := &f.next[k]
		if p.now.z == 0 {
			continue
		}
		n := p.now.n - p.now.less
		if z := detect.Score(n-p.now.weighted, n, p.k, p.n) * o.now.cluster; z <= -report {
			s := Signal{Kind: Stopped, Z: z, Operation: o.id, Before: Ratio{p.k, p.n}, Now: Ratio{p.now.k, p.now.n}}
			s.Template, s.Other = o.features[p.to].token.names()
			s.Peer = a.called(o.features[p.to].token)
			s.AfterTemplate, s.AfterOther = f.token.names()
			a.signal(a.tally(o.service), s)
		}
	}
}

// names returns what a token stands for: a template or an operation.
func (t token) names() (uint32, record.EntityID) {
	if t.logged() {
		return t.number(), 0
	}
	return 0, record.EntityID(t.number())
}

// called returns the service that a call goes to, 0 for no call.
func (a *Analyzer) called(t token) record.EntityID {
	if t.kind() != tokenCall {
		return 0
	}
	if o := a.operations[record.EntityID(t.number())]; o != nil {
		return o.service
	}
	return 0
}

func (m *measure) signal(z float64) Signal {
	s := Signal{
		Z: z, Before: Ratio{m.k0, m.n0}, Now: Ratio{m.k, m.n}, Limit: time.Duration(m.threshold),
		Median: time.Duration(m.past.quantile(0.5)), Mean: time.Duration(m.sum / max(m.k, 1)),
	}
	switch m.key.kind {
	case measureLeaf:
		s.Kind, s.Other = Slow, m.key.a
	case measureSelf:
		s.Kind, s.Operation = Self, m.key.a
	case measureCalls:
		s.Kind, s.Operation, s.Other = Burst, m.key.a, m.key.b
	case measureGap:
		s.Kind, s.Other, s.Peer = Gap, m.key.b, m.key.a
	}
	return s
}

// signal adds a reason. Signals of an operation count by the highest only.
func (a *Analyzer) signal(t *tally, s Signal) {
	t.suspect.Signals = append(t.suspect.Signals, s)
	z := math.Abs(s.Z)
	switch s.Kind {
	case Slow: // a leaf is part of any operation of the service
		t.squares += z * z
	case Gap, Resource, Errors:
	default:
		if o := a.operations[s.Operation]; o != nil {
			o.now.z = max(o.now.z, z)
			if s.Kind == Vanished || s.Kind == Stopped {
				o.now.lost = max(o.now.lost, z)
			}
		}
	}
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

// suspects orders what was collected.
func (a *Analyzer) suspects() []Suspect {
	var out []Suspect
	for _, id := range a.judge.order {
		t := a.judge.services[id]
		t.squares += t.unanswered * t.unanswered
		if t.squares == 0 {
			continue
		}
		s := t.suspect
		own := math.Sqrt(t.squares)
		s.Score = math.Hypot(own, support*min(t.support, own))
		slices.SortStableFunc(s.Signals, func(x, y Signal) int { // a call says more than the span around it
			return cmp.Or(cmp.Compare(math.Abs(y.Z), math.Abs(x.Z)), cmp.Compare(min(y.Peer, 1), min(x.Peer, 1)))
		})
		s.Signals = t.led(s.Signals)
		s.Signals = s.Signals[:min(len(s.Signals), maxSignals)]
		slices.Reverse(s.Traces)
		slices.Sort(s.Explains)
		out = append(out, s)
	}
	slices.SortFunc(out, func(x, y Suspect) int {
		return cmp.Or(cmp.Compare(y.Score, x.Score), cmp.Compare(x.Service, y.Service))
	})
	for i := range out {
		out[i].Lead = out[i].Score
		if i+1 < len(out) {
			out[i].Lead -= out[i+1].Score
		}
	}
	return out
}
