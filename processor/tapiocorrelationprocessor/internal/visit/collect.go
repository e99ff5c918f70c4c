package visit

import (
	"math"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

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
