package visit

import "github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"

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
	// moved: it calls others, as many as it lacks, and goes well.
	moved  bool
	weight float64
}

func (n *visitNow) of(t token) float64 {
	if t.logged() {
		return n.numberLog
	}
	return n.number
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
