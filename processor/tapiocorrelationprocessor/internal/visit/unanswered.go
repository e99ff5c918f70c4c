package visit

import (
	"slices"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// lostCall is a feature of an operation: a call that called does not answer.
type lostCall struct {
	operation *operation
	feature   *feature
	called    record.EntityID
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
