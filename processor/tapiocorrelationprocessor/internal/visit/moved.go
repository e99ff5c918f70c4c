package visit

import "github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"

// moved tells whether a visit makes, for each call that it lacks, one that is new in its
// operation, and goes well: who is called has another name since a deploy, or another one
// does its work. Nobody is hurt by that.
func (a *Analyzer) moved(v *visit) bool {
	o := v.operation
	gained := 0
	for _, i := range v.tokens {
		switch f := &o.features[i]; {
		case f.token.kind() == tokenFailed || f.isNew(o) && f.bad:
			return false
		// One that is made by those alone who do not make another that nearly all made.
		case f.token.kind() == tokenCall && f.clean <= (1-o.now.nearly)*o.clean.visits+1:
			gained++
		}
	}
	for _, e := range v.exceptions {
		if e.statement != 0 {
			return false
		}
	}
	if gained == 0 {
		return false
	}
	lacks := map[token]bool{}
	a.eachAnomaly(v, func(_ float64, lack int32, _ *featureNow, _ *measure) {
		if lack >= 0 && o.features[lack].token.kind() == tokenCall {
			lacks[o.features[lack].token] = true
		}
	})
	return len(lacks) > 0 && len(lacks) <= gained
}

// isNew tells whether past visits hardly had a feature.
func (f *feature) isNew(o *operation) bool { return f.past <= appearUpTo*o.past.of(f.token) }

// replaced tells whether what a visit lacks is a call, or the span of one, in whose place it
// makes another.
func (a *Analyzer) replaced(v *visit, t token) bool {
	_, client := a.answers[record.EntityID(t.number())]
	return v.now.moved && (t.kind() == tokenCall || t.kind() == tokenSpan && client)
}
