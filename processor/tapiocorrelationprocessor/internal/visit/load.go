package visit

import (
	"cmp"
	"slices"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// A service can be slow or fail for what others ask of it. This file tells that from
// traces: callers that give up and ask again (a storm of retries), callers that all ask
// at once (a herd), and a service that is short of what it needs for others because it
// waits for a slow one (a cascade).

const (
	// stormFrom is how many times as many calls as usual it takes to speak of a storm.
	stormFrom = 2
	// herdFrom is how many times as many visits in a second as the most that is known, and
	// herdLeast how many at least, to speak of a herd.
	herdFrom, herdLeast = 5, 10
	// peakFade is what remains of the most visits in a second after each further second.
	peakFade = 0.9998
	// silence is how long, and how many times the usual distance, no visit must have ended
	// well before a herd for that to follow a recovery.
	silence, silenceTimes = int64(5 * time.Second), 5
	// mostly is the share of the visits of a herd that must say the same of it.
	mostly = 0.8
	// tick is how long after the beginning of a minute a job that runs by the clock starts.
	tick = int64(2 * time.Second)
)

// What herds come after.
const (
	AfterRecovery = "a recovery"
	AfterTick     = "the start of a minute"
	AfterCache    = "the loss of a cache"
)

// attempt is a call as its caller saw it.
type attempt struct {
	visit      int32
	to         record.EntityID
	start, end int64
	failed     bool
	gaveUp     bool // the caller failed, and who was called worked on
}

// retried are the calls of one operation that a visit made again after one had failed.
type retried struct {
	to    record.EntityID
	again int
	// gaveUp are those of them before which the caller had not waited for the answer.
	gaveUp int
}

// attempt notes a call. Durations are compared, not times: two hosts have two clocks.
func (b *builder) attempt(caller int32, client, server *Span) {
	if client.Kind != record.SpanClient {
		return
	}
	b.attempts = append(b.attempts, attempt{
		caller, server.Operation, client.Start, client.End, client.Failed,
		client.Failed && (!server.Failed || server.End-server.Start > client.End-client.Start),
	})
}

// retries tells the visits which of their calls were made again.
func (b *builder) retries(visits []visit) {
	slices.SortFunc(b.attempts, func(x, y attempt) int {
		return cmp.Or(cmp.Compare(x.visit, y.visit), cmp.Compare(x.to, y.to), cmp.Compare(x.start, y.start), cmp.Compare(x.end, y.end))
	})
	for i := 1; i < len(b.attempts); i++ {
		first, again := &b.attempts[i-1], &b.attempts[i]
		if first.visit != again.visit || first.to != again.to || !first.failed || first.end > again.start {
			continue
		}
		v := &visits[again.visit]
		if n := len(v.retried); n == 0 || v.retried[n-1].to != again.to {
			v.retried = append(v.retried, retried{to: again.to})
		}
		r := &v.retried[len(v.retried)-1]
		r.again++
		if first.gaveUp {
			r.gaveUp++
		}
	}
}

// storm are the calls of one operation in the window, where some were made again.
type storm struct {
	to            *operation
	calls, usual  float64 // all, and what as many visits used to make
	again, gaveUp float64
	n, k          float64 // visits that make such calls, and those that made some again
	n0, k0        float64 // the same of the past, more calls than usual standing for again
	seen          map[*measure]bool
	callers       map[*operation]float64 // calls made again
	// early are the first visits that asked again, slowly those of them whose callee was
	// slow: whoever gives up on one that is as fast as ever is in too much of a hurry.
	early, slowly int
}

// storms finds the operations whose load callers multiply that give up and ask again.
func (a *Analyzer) storms() {
	j := &a.judge
	storms := map[record.EntityID]*storm{}
	a.eachVisit(func(_ int, c *completed, v *visit) {
		for _, r := range v.retried {
			s := storms[r.to]
			if s == nil {
				if a.operations[r.to] == nil {
					continue
				}
				s = &storm{to: a.operations[r.to], seen: map[*measure]bool{}, callers: map[*operation]float64{}}
				storms[r.to] = s
			}
			s.add(r, v, c)
		}
	})
	if len(storms) == 0 {
		return
	}
	a.eachVisit(func(_ int, _ *completed, v *visit) {
		for _, x := range v.samples {
			if s := storms[x.measure.key.b]; s != nil && x.measure.key.kind == measureCalls {
				s.load(x)
			}
		}
	})
	for _, o := range j.ops {
		if s := storms[o.id]; s != nil && s.rages() {
			j.storms = append(j.storms, s)
			if by := s.caller(); 2*s.slowly < s.early {
				j.driven[o.service] = by.service
			}
		}
	}
}

func (s *storm) add(r retried, v *visit, c *completed) {
	s.k++
	s.again += float64(r.again)
	s.gaveUp += float64(r.gaveUp)
	s.callers[v.operation] += float64(r.again)
	if s.early == minRun {
		return
	}
	s.early++
	for i := range c.visits {
		if w := &c.visits[i]; w.parent >= 0 && &c.visits[w.parent] == v && w.operation == s.to && w.now.z > 0 {
			s.slowly++
			return
		}
	}
}

func (s *storm) load(x sample) {
	past := &x.measure.past
	if past.total < minMeasured {
		return
	}
	usual := max(past.quantile(0.5), 1)
	s.n++
	s.calls += float64(x.value)
	s.usual += float64(usual)
	if !s.seen[x.measure] {
		s.seen[x.measure] = true
		s.n0 += float64(past.total)
		s.k0 += past.above(usual)
	}
}

// rages tells whether the calls that were made again multiply the load, and were made
// by callers who did not wait for the answer: one who got an error and asks again says
// that who answered fails, and no more.
func (s *storm) rages() bool {
	return s.k >= minRun && s.calls >= stormFrom*s.usual && 2*s.again >= s.calls-s.usual && 2*s.gaveUp >= s.again && s.z() >= report
}

func (s *storm) z() float64 { return detect.Score(s.k, s.n, s.k0, s.n0) }

// caller is the operation that asks again most.
func (s *storm) caller() (most *operation) {
	for o, n := range s.callers {
		if most == nil || n > s.callers[most] || n == s.callers[most] && o.id < most.id {
			most = o
		}
	}
	return most
}

func (s *storm) signal(peer record.EntityID) *Signal {
	return &Signal{
		Kind: Retries, Z: s.z(), Operation: s.caller().id, Other: s.to.id, Peer: peer,
		Now: Ratio{s.calls, s.n}, Before: Ratio{s.usual, s.n},
	}
}

// collectStorms says of those who ask again, or of whom they ask where that one was slow
// first, that it is a storm.
func (a *Analyzer) collectStorms() {
	for _, s := range a.judge.storms {
		by := s.caller()
		if a.judge.driven[s.to.service] != by.service {
			a.tally(s.to.service).leads(s.signal(by.service))
			continue
		}
		by.now.z = max(by.now.z, s.z())
		a.tally(by.service).leads(s.signal(s.to.service))
	}
}

// drivenBy returns whose retries made a visit slow or fail, 0 for nobody's.
func (a *Analyzer) drivenBy(v *visit) record.EntityID {
	if !v.now.strained {
		return 0
	}
	return a.judge.driven[v.operation.service]
}

// waiting is who waits for whom.
type waiting struct{ service, of record.EntityID }

// backlog is since when, and in which operations.
type backlog struct {
	since int64
	needs map[*operation]bool
}

// spread blames a slow service for what else gets slow in those that wait for it: their
// threads and connections are taken, also from requests that do not need it.
func (a *Analyzer) spread() {
	waits := a.waits()
	if len(waits) == 0 {
		return
	}
	a.eachVisit(func(_ int, _ *completed, v *visit) {
		if !v.now.strained || !v.now.slow || v.now.weight == 0 {
			return
		}
		var by record.EntityID
		for w, x := range waits {
			if w.service == v.operation.service && v.start >= x.since && !x.needs[v.operation] && (by == 0 || w.of < by) {
				by = w.of
			}
		}
		if by == 0 {
			return
		}
		v.now.weight, v.now.by, v.now.byZ = 0, by, v.now.z
		t := a.tally(by)
		if t.spread == nil {
			t.spread = map[*operation]float64{}
		}
		t.spread[v.operation]++
		a.tally(v.operation.service).starved = true
	})
}

// waits finds who waits for services whose own work is slow.
func (a *Analyzer) waits() map[waiting]*backlog {
	waits := map[waiting]*backlog{}
	each := func(f func(w waiting, up *visit, slow bool)) {
		a.eachVisit(func(_ int, c *completed, v *visit) {
			for n, p := 0, v.parent; p >= 0 && n < len(c.visits); n++ {
				up := &c.visits[p]
				if w := (waiting{up.operation.service, v.operation.service}); w.service != w.of {
					f(w, up, v.now.works && v.now.weight > 0)
				}
				p = up.parent
			}
		})
	}
	each(func(w waiting, up *visit, slow bool) {
		switch x := waits[w]; {
		case !slow:
		case x == nil:
			waits[w] = &backlog{since: up.start, needs: map[*operation]bool{}}
		default:
			x.since = min(x.since, up.start)
		}
	})
	if len(waits) > 0 {
		each(func(w waiting, up *visit, _ bool) {
			if x := waits[w]; x != nil {
				x.needs[up.operation] = true
			}
		})
	}
	return waits
}

// collectSpread says of a service that what it lacks spread to requests that do not need it.
func (a *Analyzer) collectSpread() {
	for _, id := range a.judge.order {
		t := a.judge.services[id]
		var most *operation
		for o, n := range t.spread {
			if most == nil || n > t.spread[most] || n == t.spread[most] && o.id < most.id {
				most = o
			}
		}
		if most == nil || t.spread[most] < minRun {
			continue
		}
		t.leads(&Signal{
			Kind: Cascade, Operation: most.id, Peer: most.service,
			Now: Ratio{t.spread[most], most.now.visits}, Before: Ratio{0, most.past.visits},
		})
	}
}

// arrive counts a past visit among those of its second.
func (o *operation) arrive(start int64) {
	second := start / int64(time.Second)
	switch {
	case second == o.second:
		o.inSecond++
	case second > o.second:
		o.peak = max(o.peak*peakFade, o.inSecond)
		o.second, o.inSecond = second, 1
	}
}

// arrival is a visit of the window as the judge of herds sees it.
type arrival struct {
	start    int64
	trace    int
	strained bool
	root     *operation // of its trace
	caller   *visit
}

// herds finds the operations that are strained since very many asked at once.
func (a *Analyzer) herds() {
	arrivals := map[*operation][]arrival{}
	a.eachVisit(func(t int, c *completed, v *visit) {
		o := v.operation
		if o.now.strained < minRun || o.past.visits < minPast {
			return
		}
		x := arrival{start: v.start, trace: t, strained: v.now.strained, root: c.visits[0].operation}
		if v.parent >= 0 {
			x.caller = &c.visits[v.parent]
		}
		arrivals[o] = append(arrivals[o], x)
	})
	for _, o := range a.judge.ops {
		if all := arrivals[o]; len(all) >= herdLeast {
			if s := a.herd(o, all); s != nil {
				a.tally(o.service).leads(s)
			}
		}
	}
}

func (a *Analyzer) herd(o *operation, all []arrival) *Signal {
	slices.SortFunc(all, func(x, y arrival) int { return cmp.Or(cmp.Compare(x.start, y.start), cmp.Compare(x.trace, y.trace)) })
	from, to := densest(all)
	herd := all[from:to]
	if n := float64(len(herd)); n < herdLeast || n < herdFrom*max(o.peak, 1) {
		return nil
	}
	after := a.herdAfter(o, all, from, to)
	if after == "" {
		return nil
	}
	return &Signal{
		Kind: Herd, Operation: o.id, After: after,
		Now: Ratio{float64(len(herd)), float64(len(all) - from)}, Before: Ratio{o.peak, o.past.visits},
	}
}

// densest returns the bounds of the second in which most traces arrive: a loop of one
// is no herd.
func densest(all []arrival) (from, to int) {
	most := 0
	for i, k := 0, 0; i < len(all); i++ {
		for k < len(all) && all[k].start < all[i].start+int64(time.Second) {
			k++
		}
		if k-i <= most {
			continue
		}
		traces := map[int]bool{}
		for _, x := range all[i:k] {
			traces[x.trace] = true
		}
		if len(traces) > most && len(traces) == k-i {
			most, from, to = len(traces), i, k
		}
	}
	return from, to
}

// herdAfter tells what brought so many at once, "" when nothing does that would: more
// users than ever are no herd.
func (a *Analyzer) herdAfter(o *operation, all []arrival, from, to int) string {
	begun := all[from].start
	well, before := 0, 0
	var first, last int64
	for _, x := range all[:from] {
		before++
		if !x.strained {
			well++
			last = x.start
			if first == 0 {
				first = x.start
			}
		}
	}
	if well >= minPast && begun-last >= max(silence, silenceTimes*(last-first)/int64(well)) {
		return AfterRecovery
	}
	if float64(before-well) > (1-mostly)*float64(before) {
		return "" // it was strained before
	}
	herd := all[from:to]
	if a.sameRoot(herd) && herd[len(herd)/2].start%int64(time.Minute) < tick {
		return AfterTick
	}
	if a.missed(o, herd) {
		return AfterCache
	}
	return ""
}

// sameRoot tells whether the traces of a herd begin with the same operation.
func (a *Analyzer) sameRoot(herd []arrival) bool {
	n := 0
	for _, x := range herd {
		if x.root == herd[0].root {
			n++
		}
	}
	return float64(n) >= mostly*float64(len(herd))
}

// missed tells whether the callers of a herd used to do mostly without this call.
func (a *Analyzer) missed(o *operation, herd []arrival) bool {
	n := 0
	for _, x := range herd {
		if x.caller == nil {
			continue
		}
		by := x.caller.operation
		if i, ok := by.index[newToken(tokenCall, uint32(o.id))]; ok && by.past.visits >= minPast && by.features[i].past <= by.past.visits/2 {
			n++
		}
	}
	return float64(n) >= mostly*float64(len(herd))
}

// leads makes a signal the first one of a service, unless there is one: it tells why the
// others are there.
func (t *tally) leads(s *Signal) {
	if t.lead == nil {
		t.lead = s
	}
}

// led puts what leads before the other signals.
func (t *tally) led(signals []Signal) []Signal {
	if t.lead == nil || len(signals) == 0 {
		return signals
	}
	t.lead.Z = max(t.lead.Z, signals[0].Z, -signals[0].Z)
	return slices.Insert(signals, 0, *t.lead)
}
