package visit

import (
	"slices"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// maxFeatures bounds what is told apart in the visits of one operation.
	maxFeatures = 512
	// maxOccurrence is up to which repetition the same statement counts as one of
	// its own.
	maxOccurrence = 8
	// pairDistance is how many steps after a step its successors are looked for: a
	// visit that stops short lacks the next one already.
	pairDistance = 6
	// maxPairs bounds the successors that are kept for one step.
	maxPairs = 12
	// pairTrial is after how many visits a pair must follow nearly always, or is
	// forgotten.
	pairTrial = 8
	// operationDecay halves an operation's past when it holds so many visits: some
	// hours of a quiet operation, the last minutes of a busy one.
	operationDecay = 2_000
	// answeredFrom is the share of the calls of a kind that must have spans at the other
	// end, for these to be missed where they are not.
	answeredFrom = 0.75
	// placeMemory is over how many visits the place of a feature is averaged.
	placeMemory = 50
	// maxExceptions bounds the exceptions whose origins are known.
	maxExceptions = 4_096
)

// token is a feature of a visit: what it is, which repetition, and its number.
type token uint64

type tokenKind uint8

const (
	tokenStatement tokenKind = iota + 1 // a template
	tokenException                      // an exception type in a log record
	tokenVariant                        // a template in one wording
	tokenSpan                           // a span in the same service
	tokenCall                           // a call of another service's operation
	tokenFailed                         // a span in the same service that failed
)

func newToken(kind tokenKind, n uint32) token { return token(uint64(kind)<<56 | uint64(n)) }

func (t token) repeated(k int) token { return t | token(k)<<48 }
func (t token) kind() tokenKind      { return tokenKind(t >> 56) }
func (t token) number() uint32       { return uint32(t) }
func (t token) logged() bool         { return t.kind() <= tokenVariant }

// operation is the past of the visits that begin with the same span.
type operation struct {
	id, service record.EntityID
	past, clean visitCount
	index       map[token]uint16
	features    []feature
	unused      []uint16
	seen        int64
	frozen      int64 // since when it is abnormal, 0 when it is not
	pruned      int64
	tail        tail // of the traces that begin with it
	// peak is the most visits that began in one second, inSecond how many of the second
	// that is being counted.
	peak, inSecond float64
	second         int64

	now opNow
}

// visitCount counts past visits. Those without an exception are counted apart as
// well: they tell what a visit contains when nothing is wrong.
type visitCount struct{ visits, logged float64 }

func (c *visitCount) of(t token) float64 {
	if t.logged() {
		return c.logged
	}
	return c.visits
}

func (c *visitCount) add(logged bool) {
	c.visits++
	if logged {
		c.logged++
	}
}

// feature is one token of an operation; past and clean are the visits with it.
type feature struct {
	token       token
	past, clean float64
	place       float64 // where in a visit it usually is
	bad         bool    // an exception, or a statement of the level of errors
	seen        int64
	next        []pair

	now featureNow
}

// pair is a step that used to follow another.
type pair struct {
	to     uint16
	n, k   float64 // visits with the first step, and the second after it
	now    featureNow
	logged bool // either is of a log record
}

// share returns k of n, 0 of nothing.
func share(k, n float64) float64 {
	if n <= 0 {
		return 0
	}
	return k / n
}

// operation returns the past of an operation, nil when there are too many.
func (a *Analyzer) operation(id, service record.EntityID) *operation {
	o := a.operations[id]
	if o == nil {
		if len(a.operations) >= a.options.MaxOperations {
			a.Counters.Dropped.Add(1)
			return nil
		}
		o = &operation{id: id, service: service, index: map[token]uint16{}}
		a.operations[id] = o
	}
	o.seen = a.now
	return o
}

// feature returns the index of a token, false when there are too many.
func (a *Analyzer) feature(o *operation, t token) (uint16, bool) {
	if i, ok := o.index[t]; ok {
		o.features[i].seen = a.now
		return i, true
	}
	if len(o.features) >= maxFeatures && len(o.unused) == 0 {
		a.prune(o)
	}
	var i uint16
	switch n := len(o.unused); {
	case n > 0:
		i, o.unused = o.unused[n-1], o.unused[:n-1]
	case len(o.features) < maxFeatures:
		i = uint16(len(o.features))
		o.features = append(o.features, feature{})
	default:
		a.Counters.Dropped.Add(1)
		return 0, false
	}
	o.features[i] = feature{token: t, seen: a.now}
	o.index[t] = i
	return i, true
}

// prune forgets the rare features that were not seen for a while: no visit of the
// window has them.
func (a *Analyzer) prune(o *operation) {
	if a.now-o.pruned < int64(a.options.Window) {
		return
	}
	o.pruned = a.now
	gone := map[uint16]bool{}
	for i := range o.features {
		f := &o.features[i]
		if f.token != 0 && a.now-f.seen > 2*int64(a.options.Window)+maxAge && share(f.past, o.past.visits) < vanishFrom {
			delete(o.index, f.token)
			*f = feature{}
			gone[uint16(i)] = true
			o.unused = append(o.unused, uint16(i))
		}
	}
	for i := range o.features {
		o.features[i].next = slices.DeleteFunc(o.features[i].next, func(p pair) bool { return gone[p.to] })
	}
}

// measure returns the past of a quantity, nil when there are too many.
func (a *Analyzer) measure(key measureKey, service record.EntityID) *measure {
	m := a.measures[key]
	if m == nil {
		if len(a.measures) >= a.options.MaxMeasures {
			a.Counters.Dropped.Add(1)
			return nil
		}
		m = &measure{key: key, service: service}
		a.measures[key] = m
	}
	m.seen = a.now
	return m
}

// learn adds a visit to the past. Values of what is abnormal are left out.
func (a *Analyzer) learn(v *visit, at int64) {
	for _, s := range v.samples {
		// What is over by now was not normal: its values are out, those beside it not.
		m := s.measure
		if a.frozen(m.frozen) || m.odd > at && m.threshold > 0 && s.value > m.threshold && a.now-m.odd < int64(a.options.Accept) {
			continue
		}
		m.learn(s.value)
	}
	o := v.operation
	logged := a.judgeable(v)
	clean := len(v.exceptions) == 0
	if clean {
		a.learnPairs(v, logged)
		o.clean.add(logged)
	}
	o.past.add(logged)
	o.arrive(v.start)
	for at, i := range v.tokens {
		if f := &o.features[i]; logged || !f.token.logged() {
			f.past++
			f.place += (float64(at) - f.place) / min(f.past, placeMemory)
			if clean {
				f.clean++
			}
		}
	}
	if o.past.visits > operationDecay {
		o.halve()
	}
}

// frozen tells whether what is abnormal since a time must not become the norm. What
// stays abnormal for long is the norm.
func (a *Analyzer) frozen(since int64) bool { return since != 0 && !a.accepted(since) }

func (a *Analyzer) accepted(since int64) bool {
	return since != 0 && a.now-since >= int64(a.options.Accept)
}

// learnPairs counts which steps followed which in a visit without an exception. It comes before the counts of the
// steps themselves: a new pair begins with what the first step did without it.
func (a *Analyzer) learnPairs(v *visit, logged bool) {
	o := v.operation
	position := a.build.positions(v)
	for at, i := range v.tokens {
		f := &o.features[i]
		for j := 0; j < len(f.next); {
			p := &f.next[j]
			if p.logged && !logged {
				j++
				continue
			}
			p.n++
			if position[p.to] > at+1 {
				p.k++
			}
			if p.n >= pairTrial && p.k < pairFrom*p.n-1 {
				f.next = slices.Delete(f.next, j, j+1)
				continue
			}
			j++
		}
		for _, k := range v.tokens[at+1 : min(at+1+pairDistance, len(v.tokens))] {
			if len(f.next) >= maxPairs {
				break
			}
			p := pair{to: k, n: f.clean + 1, k: 1, logged: f.token.logged() || o.features[k].token.logged()}
			if p.logged && !logged || p.n >= pairTrial || slices.ContainsFunc(f.next, func(q pair) bool { return q.to == k }) {
				continue
			}
			f.next = append(f.next, p)
		}
	}
	a.build.reset(v)
}

// learnExceptions notes where exceptions arise.
func (a *Analyzer) learnExceptions(visits []visit) {
	below := make([]bool, len(visits)) // an exception is below
	for i := range visits {
		if len(visits[i].exceptions) == 0 {
			continue
		}
		for n, p := 0, visits[i].parent; p >= 0 && !below[p] && n < len(visits); n++ {
			below[p] = true
			p = visits[p].parent
		}
	}
	for i := range visits {
		v := &visits[i]
		if below[i] {
			continue
		}
		for _, e := range v.exceptions {
			s, ok := a.exceptions[e]
			switch {
			case !ok && len(a.exceptions) >= maxExceptions:
				a.Counters.Dropped.Add(1)
				continue
			case !ok:
				s.first = v.operation.service
			case s.more == 0 && s.first != v.operation.service:
				s.more = a.now
			}
			s.seen = a.now
			a.exceptions[e] = s
		}
	}
}

func (o *operation) halve() {
	for _, c := range [2]*visitCount{&o.past, &o.clean} {
		c.visits /= 2
		c.logged /= 2
	}
	for i := range o.features {
		f := &o.features[i]
		f.past /= 2
		f.clean /= 2
		for j := range f.next {
			f.next[j].n /= 2
			f.next[j].k /= 2
		}
	}
}

// forget drops what was not seen for long.
func (a *Analyzer) forget() {
	before := a.now - int64(a.options.Forget)
	if a.now-a.judge.forgot < int64(a.options.Window) {
		return
	}
	a.judge.forgot = a.now
	for id, o := range a.operations {
		if o.seen < before {
			delete(a.operations, id)
		}
	}
	for k, m := range a.measures {
		if m.seen < before {
			delete(a.measures, k)
		}
	}
	for id, f := range a.feeds {
		if f.last < before {
			delete(a.feeds, id)
		}
	}
	for e, s := range a.exceptions {
		if s.seen < before {
			delete(a.exceptions, e)
		}
	}
	for id, x := range a.answers {
		if x.seen < before {
			delete(a.answers, id)
		}
	}
	for id, o := range a.outcries {
		if (o.newest+1)*errorSlot < before {
			delete(a.outcries, id)
		}
	}
	for id, r := range a.resources {
		if r.at < a.now-3*int64(a.options.Window) {
			delete(a.resources, id)
		}
	}
}
