package visit

import (
	"math"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
)

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
