package visit

import (
	"cmp"
	"slices"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// maxTokens bounds the features of one visit.
const maxTokens = 256

// visit is one stay of a request in a service.
type visit struct {
	operation  *operation
	instance   record.EntityID
	parent     int32 // index in the trace, -1 for none
	start, end int64
	tokens     []uint16 // features in the order of their first appearance
	samples    []sample
	exceptions []exception
	retried    []retried
	logs       int
	waited     int64 // how long nothing more of the trace arrived
	learned    bool  // part of the past already
	left       bool  // the window
	odd        bool  // raised an alarm

	now visitNow
}

// sample is a value of a measure.
type sample struct {
	measure *measure
	value   int64
}

// builder holds what is needed to take one trace apart.
type builder struct {
	byID     map[record.SpanID]int32
	parents  []int32 // of spans
	visitOf  []int32
	entries  []int32 // entry span of each visit
	kids     []int32 // number of children of each span in the same service
	remote   []int32 // number of children in other services
	covered  []int64 // of each visit: time in calls
	items    []item
	repeats  map[token]int
	calls    map[callKey]int64
	attempts []attempt
	position []int // of features, 0 for none
}

type item struct {
	visit int32
	at    int64
	token token
	bad   bool // it is an exception or of the level of errors
}

type callKey struct {
	visit int32
	to    record.EntityID
}

func (b *builder) init() {
	b.byID, b.repeats, b.calls = map[record.SpanID]int32{}, map[token]int{}, map[callKey]int64{}
	b.position = make([]int, maxFeatures)
}

// positions returns where in a visit each feature is, from 1; 0 for those that it
// does not have. reset must follow.
func (b *builder) positions(v *visit) []int {
	for at, i := range v.tokens {
		b.position[i] = at + 1
	}
	return b.position
}

func (b *builder) reset(v *visit) {
	for _, i := range v.tokens {
		b.position[i] = 0
	}
}

// visits takes a trace apart.
func (a *Analyzer) visits(t *trace) []visit {
	b := &a.build
	a.sortSpans(t)
	b.link(t.spans)
	a.torn.add(t.spans, b.parents)
	visits := make([]visit, 0, len(b.entries))
	for _, i := range b.entries {
		s := &t.spans[i]
		o := a.operation(s.Operation, s.Service)
		if o == nil {
			return nil
		}
		v := visit{operation: o, instance: s.Instance, parent: -1, start: s.Start, end: s.End}
		if p := b.parents[i]; p >= 0 {
			v.parent = b.visitOf[p]
		}
		visits = append(visits, v)
	}
	b.items = b.items[:0]
	a.spanItems(t, visits)
	a.logItems(t, visits)
	a.unusual(t, visits)
	a.tokens(visits)
	a.learnExceptions(visits)
	return visits
}

// sortSpans orders the spans and drops those that came twice.
func (a *Analyzer) sortSpans(t *trace) {
	slices.SortFunc(t.spans, func(x, y Span) int {
		return cmp.Or(cmp.Compare(x.Start, y.Start), cmp.Compare(y.End, x.End), slices.Compare(x.ID[:], y.ID[:]))
	})
	b := &a.build
	clear(b.byID)
	kept := t.spans[:0]
	for _, s := range t.spans {
		if _, ok := b.byID[s.ID]; ok {
			a.Counters.Duplicates.Add(1)
			continue
		}
		b.byID[s.ID] = int32(len(kept))
		kept = append(kept, s)
	}
	t.spans = kept
}

// link finds parents and visits.
func (b *builder) link(spans []Span) {
	n := len(spans)
	b.parents, b.visitOf = resize(b.parents, n), resize(b.visitOf, n)
	b.kids, b.remote = resize(b.kids, n), resize(b.remote, n)
	b.entries = b.entries[:0]
	for i := range spans {
		b.visitOf[i], b.kids[i], b.remote[i] = unknown, 0, 0
		b.parents[i] = -1
		if p, ok := b.byID[spans[i].Parent]; ok && int(p) != i {
			b.parents[i] = p
		}
	}
	for i := range spans {
		b.place(spans, int32(i))
	}
	for i, p := range b.parents {
		switch {
		case p < 0:
		case b.visitOf[i] == b.visitOf[p]:
			b.kids[p]++
		default:
			b.remote[p]++
		}
	}
}

const (
	unknown = int32(-1)
	pending = int32(-2)
)

// place finds the visit of a span: that of its parent, or one of its own. Spans on
// the way up are placed as well; in a circle of parents the first one met has none.
func (b *builder) place(spans []Span, i int32) {
	top := i
	for b.visitOf[top] == unknown {
		b.visitOf[top] = pending
		p := b.parents[top]
		if p < 0 || enters(&spans[p], &spans[top]) {
			break
		}
		if b.visitOf[p] == pending {
			b.parents[top] = -1
			break
		}
		top = p
	}
	if b.visitOf[top] == pending {
		b.visitOf[top] = int32(len(b.entries))
		b.entries = append(b.entries, top)
	}
	for v := b.visitOf[top]; i != top; i = b.parents[i] {
		b.visitOf[i] = v
	}
}

// enters tells whether a span begins a visit: its parent is in another service, or
// is a call that the service made to itself.
func enters(parent, s *Span) bool {
	return parent.Service != s.Service || parent.Kind == record.SpanClient && s.Kind == record.SpanServer
}

func resize[T any](s []T, n int) []T { return slices.Grow(s[:0], n)[:n] }

// spanItems adds what the spans say of the visits.
func (a *Analyzer) spanItems(t *trace, visits []visit) {
	b := &a.build
	b.covered = resize(b.covered, len(visits))
	clear(b.covered)
	clear(b.calls)
	b.attempts = b.attempts[:0]
	for i := range t.spans {
		s, v := &t.spans[i], b.visitOf[i]
		entry := b.entries[v] == int32(i)
		if !entry {
			b.items = append(b.items, item{visit: v, at: s.Start, token: newToken(tokenSpan, uint32(s.Operation))})
		}
		if s.Failed {
			b.items = append(b.items, item{visit: v, at: s.End, token: newToken(tokenFailed, uint32(s.Operation))})
		}
		switch p := b.parents[i]; {
		case entry && p >= 0 && b.visitOf[p] != v:
			a.call(t, visits, int32(i), p)
		case b.kids[i] == 0 && b.remote[i] == 0 && a.answered(s, v):
		case !entry && !s.Waits && b.kids[i] == 0 && b.remote[i] == 0:
			visits[v].add(a.measure(measureKey{measureLeaf, s.Operation, 0}, s.Service), s.End-s.Start)
		}
	}
	b.retries(visits)
	a.selfTimes(t, visits)
	for i := range b.calls {
		v := &visits[i.visit]
		v.add(a.measure(measureKey{measureCalls, v.operation.id, i.to}, v.operation.service), b.calls[i])
	}
	for i := range visits { // b.calls has no order
		slices.SortFunc(visits[i].samples, func(x, y sample) int {
			return cmp.Or(cmp.Compare(x.measure.key.kind, y.measure.key.kind), cmp.Compare(x.measure.key.a, y.measure.key.a),
				cmp.Compare(x.measure.key.b, y.measure.key.b), cmp.Compare(x.value, y.value))
		})
	}
}

// unusual notes spans that the past of their operation hardly knows.
func (a *Analyzer) unusual(t *trace, visits []visit) {
	for i := range t.spans {
		s, v := &t.spans[i], &visits[a.build.visitOf[i]]
		o := v.operation
		if s.Name == 0 || o.past.visits < unusualMin || len(v.exceptions) >= maxTokens {
			continue
		}
		if f, ok := o.index[newToken(tokenSpan, uint32(s.Operation))]; s.Operation != o.id && (!ok || o.features[f].past <= unusualUpTo*o.past.visits) {
			v.exceptions = append(v.exceptions, exception{name: s.Name})
		}
	}
}

// answered takes a client span for a call all the same of which nothing is there at the
// other end, when it ended well and others like it have the spans of one operation below
// them: these are lost or late, and the call is not.
func (a *Analyzer) answered(s *Span, v int32) bool {
	x := a.answers[s.Operation]
	if x == nil || s.Kind != record.SpanClient || s.Failed {
		return false
	}
	x.count(0)
	if x.by == 0 || x.k < answeredFrom*x.n {
		return false
	}
	a.build.items = append(a.build.items, item{visit: v, at: s.Start, token: newToken(tokenCall, uint32(x.by))})
	a.build.calls[callKey{v, x.by}]++
	return true
}

// answer notes whose span is below a client span.
func (a *Analyzer) answer(client *Span, by record.EntityID) {
	if client.Kind != record.SpanClient || client.Failed {
		return
	}
	x := a.answers[client.Operation]
	if x == nil {
		if len(a.answers) >= a.options.MaxOperations {
			a.Counters.Dropped.Add(1)
			return
		}
		x = &answer{by: by}
		a.answers[client.Operation] = x
	}
	if x.by != by {
		x.by = 0
	}
	x.seen = a.now
	x.count(1)
}

// count adds a span that ended well.
func (x *answer) count(answered float64) {
	x.n++
	x.k += answered
	if x.n > operationDecay {
		x.n /= 2
		x.k /= 2
	}
}

// call adds a call: span i of the called service below span p of the caller.
func (a *Analyzer) call(t *trace, visits []visit, i, p int32) {
	b := &a.build
	s, parent := &t.spans[i], &t.spans[p]
	caller, called := b.visitOf[p], b.visitOf[i]
	b.items = append(b.items, item{visit: caller, at: parent.Start, token: newToken(tokenCall, uint32(s.Operation))})
	b.calls[callKey{caller, s.Operation}]++
	a.answer(parent, s.Operation)
	// A span with several calls below it is not the span of one call, and a caller
	// that ends before the call begins does not wait for it.
	if b.remote[p] == 1 {
		b.attempt(caller, parent, s)
	}
	if b.remote[p] > 1 || parent.End < s.Start && parent.Kind != record.SpanClient {
		return
	}
	gap := max((parent.End-parent.Start)-(s.End-s.Start), 0)
	visits[called].add(a.measure(measureKey{measureGap, parent.Service, s.Operation}, s.Service), gap)
}

func (v *visit) add(m *measure, value int64) {
	if m != nil && len(v.samples) < maxTokens {
		v.samples = append(v.samples, sample{m, value})
	}
}

// selfTimes measures the time of each visit that no call and no leaf covers.
func (a *Analyzer) selfTimes(t *trace, visits []visit) {
	b := &a.build
	until := resize(b.covered, len(visits))
	for i := range until {
		until[i] = visits[i].start
	}
	self := make([]int64, len(visits))
	for i := range visits {
		self[i] = visits[i].end - visits[i].start
	}
	cover := func(v int32, from, to int64) {
		from, to = max(from, until[v]), min(to, visits[v].end)
		if to > from {
			self[v] -= to - from
			until[v] = to
		}
	}
	for i := range t.spans { // in the order of their start
		v := b.visitOf[i]
		if b.entries[v] != int32(i) && b.kids[i] == 0 {
			cover(v, t.spans[i].Start, t.spans[i].End)
		} else if p := b.parents[i]; b.entries[v] == int32(i) && p >= 0 {
			cover(b.visitOf[p], t.spans[i].Start, t.spans[i].End)
		}
	}
	for i := range visits {
		v := &visits[i]
		if t.spans[b.entries[i]].Waits {
			continue
		}
		v.add(a.measure(measureKey{measureSelf, v.operation.id, 0}, v.operation.service), max(self[i], 0))
	}
}

// logItems adds what the log records say of the visits. A record that names no
// span belongs to the only visit of its service that was under way.
func (a *Analyzer) logItems(t *trace, visits []visit) {
	b := &a.build
	slices.SortFunc(t.logs, func(x, y Log) int {
		return cmp.Or(cmp.Compare(x.Time, y.Time), slices.Compare(x.Span[:], y.Span[:]), cmp.Compare(x.Template, y.Template))
	})
	var last *Log
	for i := range t.logs {
		l := &t.logs[i]
		if last != nil && last.Time == l.Time && last.Span == l.Span && last.Template == l.Template && last.Service == l.Service {
			a.Counters.Duplicates.Add(1)
			continue
		}
		last = l
		v := b.visitOfLog(l, visits)
		if v < 0 {
			continue
		}
		visits[v].logs++
		bad := l.Severity >= severityError && l.Exception == 0
		b.items = append(b.items, item{v, l.Time, newToken(tokenStatement, l.Template), bad})
		if l.Variant != 0 {
			b.items = append(b.items, item{v, l.Time, newToken(tokenVariant, l.Variant), bad})
		}
		if l.Exception != 0 {
			b.items = append(b.items, item{v, l.Time, newToken(tokenException, l.Exception), false})
			visits[v].exceptions = append(visits[v].exceptions, exception{l.Template, l.Exception})
		}
	}
}

func (b *builder) visitOfLog(l *Log, visits []visit) int32 {
	if i, ok := b.byID[l.Span]; ok && l.Span != (record.SpanID{}) {
		return b.visitOf[i]
	}
	found := int32(-1)
	for i := range visits {
		v := &visits[i]
		if v.operation.service == l.Service && l.Time >= v.start-logSlack && l.Time <= v.end+logSlack {
			if found >= 0 {
				return -1
			}
			found = int32(i)
		}
	}
	return found
}

// unusualUpTo is the share of past visits up to which a span is unusual, unusualMin
// how many visits it takes to say so.
const (
	unusualUpTo = 0.1
	unusualMin  = 10
)

// logSlack is how far outside its span a record may lie: 1 ms was seen.
const logSlack = int64(2e6)

// tokens turns the items into the features of the visits.
func (a *Analyzer) tokens(visits []visit) {
	b := &a.build
	slices.SortFunc(b.items, func(x, y item) int {
		return cmp.Or(cmp.Compare(x.visit, y.visit), cmp.Compare(x.at, y.at), cmp.Compare(x.token, y.token))
	})
	for n := 0; n < len(b.items); {
		v := &visits[b.items[n].visit]
		end := n
		for end < len(b.items) && b.items[end].visit == b.items[n].visit {
			end++
		}
		clear(b.repeats)
		v.tokens = make([]uint16, 0, min(end-n, maxTokens))
		for _, it := range b.items[n:end] {
			k := b.repeats[it.token]
			b.repeats[it.token]++
			if k >= maxOccurrence || k > 0 && it.token.kind() != tokenStatement || len(v.tokens) >= maxTokens {
				continue
			}
			if i, ok := a.feature(v.operation, it.token.repeated(k)); ok {
				v.tokens = append(v.tokens, i)
				v.operation.features[i].bad = it.bad
			}
		}
		n = end
	}
}
