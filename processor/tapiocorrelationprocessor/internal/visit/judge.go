package visit

import (
	"cmp"
	"math"
	"slices"
	"time"

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
