// Package decode turns pdata into records. It copies what it keeps: no pdata is
// held afterwards. A span that is neither failed nor slow costs no allocation.
package decode

import (
	"cmp"
	"hash/maphash"
	"math"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/ring"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/tail"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/template"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/visit"
)

const (
	// maxAttributes bounds the attributes that are kept of one event.
	maxAttributes = 48
	// maxResources bounds the cache of resolved resources.
	maxResources = 4096
	// resolveEvery is how long a resolved resource is trusted, in event time.
	resolveEvery = int64(time.Second)
	// maxAhead is how far in the future an event may lie; a clock that is further
	// ahead would make the engine believe that everything else is over.
	maxAhead = 5 * time.Minute
)

// Options say which attributes count the impact.
type Options struct {
	// UserAttributes name the user of a request; the first that is present counts.
	UserAttributes []string
	// ValueAttribute is the number that a failed request is worth, "" for none.
	ValueAttribute string
	// Waits match whole names of spans that wait on purpose, beside those that say so.
	Waits []*regexp.Regexp
}

// Batch is what decoding made of one batch.
type Batch struct {
	// Events are all items, as records.
	Events []record.Event
	// Spans and Logs are those of traces that are looked at in full.
	Spans []visit.Span
	Logs  []visit.Log
	// Heard are the services and instances that log records came from, each with the
	// time of its newest.
	Heard []visit.Log

	topology *topology.Batch
}

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Events, b.Spans, b.Logs, b.Heard = b.Events[:0], b.Spans[:0], b.Logs[:0], b.Heard[:0]
}

// Visits say which traces are looked at in full, and number the statements of
// their log records.
type Visits struct {
	Wants func(record.TraceID) bool
	Miner *template.Miner
}

// Counts are what became of the items of one batch.
type Counts struct {
	// Decoded became records, Skipped are Tapio's own findings and spans, Invalid had no
	// usable time.
	Decoded, Skipped, Invalid int
	// Unevaluated counts conditions of patterns that could not be tested on a record.
	Unevaluated int
}

// Decoder turns pdata into records. It is safe for concurrent use.
type Decoder struct {
	graph   *topology.Graph
	details *ring.Details
	options Options
	visits  Visits
	now     func() time.Time

	texts   *texts
	records Records
	tails   *tail.Tails
	logName string // what a log record without a name is called that becomes an event

	seed  maphash.Seed
	mu    sync.RWMutex
	cache map[uint64]resolved
}

type resolved struct {
	ref    topology.Ref
	writer writer
	at     int64
}

// New returns a decoder that interns into graph and keeps texts in details. now
// is the wall clock.
func New(graph *topology.Graph, details *ring.Details, options Options, visits Visits, now func() time.Time) *Decoder {
	return &Decoder{
		graph: graph, details: details, options: options, visits: visits, now: now,
		seed: maphash.MakeSeed(), cache: map[uint64]resolved{},
	}
}

// Traces appends a record for every span to out.
func (d *Decoder) Traces(td ptrace.Traces, out *Batch) Counts {
	var counts Counts
	latest := d.now().Add(maxAhead).UnixNano()
	if out.topology == nil {
		out.topology = d.graph.NewBatch()
	}
	defer out.topology.Flush()
	for _, rs := range td.ResourceSpans().All() {
		var ref topology.Ref
		for _, ss := range rs.ScopeSpans().All() {
			if isTapio(ss.Scope().Name()) {
				counts.Skipped += ss.Spans().Len()
				continue
			}
			for _, span := range ss.Spans().All() {
				at := int64(span.EndTimestamp())
				if at <= 0 || at > latest || span.StartTimestamp() == 0 || span.StartTimestamp() > span.EndTimestamp() {
					counts.Invalid++
					continue
				}
				if ref.Subject == 0 {
					ref = d.resolve(rs.Resource().Attributes(), at)
				}
				counts.Decoded++
				event := d.span(span, ref, at, out.topology)
				out.Events = append(out.Events, event)
				if d.visits.Wants(event.TraceID) {
					out.Spans = append(out.Spans, d.visitSpan(span, ref, &event))
				}
			}
		}
	}
	return counts
}

// visitSpan is a span as the judge of visits sees it.
func (d *Decoder) visitSpan(span ptrace.Span, ref topology.Ref, e *record.Event) visit.Span {
	return visit.Span{
		Trace: e.TraceID, ID: record.SpanID(span.SpanID()), Parent: record.SpanID(span.ParentSpanID()),
		Service: cmp.Or(ref.Service, ref.Subject), Instance: ref.Subject, Operation: e.Object, Kind: spanKind(span.Kind()),
		Name:  d.visits.Miner.Name(span.Name()),
		Start: e.Time - e.Value, End: e.Time, Failed: e.Kind == record.KindFailedSpan, Waits: d.graph.Waits(e.Object),
	}
}

// isTapio tells the spans of findings, and those of Tapio's own receivers, whose
// failures are told by events too: a job that failed is no request that failed.
func isTapio(scope string) bool {
	return scope == event.FindingScope || strings.HasPrefix(scope, event.ReceiverScopes)
}

// resolve returns the entity of a resource.
func (d *Decoder) resolve(attrs pcommon.Map, at int64) topology.Ref { return d.resolved(attrs, at).ref }

// resolved returns what a resource names, from the cache when it was resolved within the
// last second of event time.
func (d *Decoder) resolved(attrs pcommon.Map, at int64) resolved {
	h := d.hash(attrs)
	d.mu.RLock()
	c, ok := d.cache[h]
	d.mu.RUnlock()
	if ok && at-c.at < resolveEvery && c.at-at < resolveEvery {
		return c
	}
	r := topology.ReadResource(attrs)
	c = resolved{ref: d.graph.Resolve(&r, at), at: at}
	c.writer = d.writerOf(attrs, c.ref.Subject)
	d.mu.Lock()
	if len(d.cache) >= maxResources {
		clear(d.cache)
	}
	d.cache[h] = c
	d.mu.Unlock()
	return c
}

// Entity returns the entity that the attributes of a resource name, 0 when they
// name none.
func (d *Decoder) Entity(attrs pcommon.Map, at int64) record.EntityID {
	return d.resolve(attrs, at).Subject
}

// hash is the same for the same attributes in the same order.
func (d *Decoder) hash(attrs pcommon.Map) uint64 {
	var h maphash.Hash
	h.SetSeed(d.seed)
	for k, v := range attrs.All() {
		_, _ = h.WriteString(k)
		_ = h.WriteByte(byte(v.Type()))
		switch v.Type() {
		case pcommon.ValueTypeStr:
			_, _ = h.WriteString(v.Str())
		case pcommon.ValueTypeInt:
			maphash.WriteComparable(&h, v.Int())
		}
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

func (d *Decoder) span(span ptrace.Span, ref topology.Ref, at int64, graph *topology.Batch) record.Event {
	kind := spanKind(span.Kind())
	of := ref.Service
	if of == 0 {
		of = ref.Subject
	}
	operation, slowOver, created := graph.Operation(of, kind, span.Name(), at)
	if created && d.waits(span) {
		d.graph.SetSlowOver(operation, topology.Waits)
		slowOver = topology.Waits
	}
	e := record.Event{
		Time: at, TraceID: record.TraceID(span.TraceID()), Subject: ref.Subject, Object: operation,
		Kind: record.KindSpan, Value: at - int64(span.StartTimestamp()),
	}
	var peer record.EntityID
	switch kind {
	case record.SpanClient:
		peers := peers(span.Attributes(), ref.Network, at, graph)
		peer = cmp.Or(peers[0], peers[1])
		graph.Client(record.SpanID(span.SpanID()), ref, peers, at)
	case record.SpanServer:
		e.Kind = record.KindAnswer
		graph.Server(record.SpanID(span.ParentSpanID()), ref, at)
	}
	failed := span.Status().Code() == ptrace.StatusCodeError
	slow := slowOver > 0 && e.Value > slowOver
	if !failed && !slow {
		if peer != 0 {
			e.Kind, e.Subject = record.KindReached, peer
		}
		return e
	}
	e.Kind = record.KindSlowSpan
	if failed {
		e.Kind = record.KindFailedSpan
		e.Severity = uint8(plog.SeverityNumberError)
	}
	s := &record.Span{
		ID: record.SpanID(span.SpanID()), Parent: record.SpanID(span.ParentSpanID()), Kind: kind,
		Start: int64(span.StartTimestamp()), End: at, Name: record.Text(span.Name()), Operation: operation, Peer: peer,
		Failed: failed, Slow: slow,
	}
	d.spanAttributes(span, s)
	e.Detail = d.details.Put(&record.Detail{Span: s})
	return e
}

func spanKind(k ptrace.SpanKind) record.SpanKind {
	switch k {
	case ptrace.SpanKindServer, ptrace.SpanKindConsumer:
		return record.SpanServer
	case ptrace.SpanKindClient, ptrace.SpanKindProducer:
		return record.SpanClient
	}
	return record.SpanInternal
}

// peers returns the addresses that a client span called: the one that was dialled
// and the one that the caller asked for. Where a call was refused SDKs often know
// only the second, so both are learned while it works.
func peers(attrs pcommon.Map, network record.EntityID, at int64, graph *topology.Batch) (peers [2]record.EntityID) {
	var server, dialled string
	var serverPort, dialledPort int64
	for k, v := range attrs.All() {
		switch k {
		case event.KeyServerAddress:
			server = v.Str()
		case event.KeyServerPort:
			serverPort = v.Int()
		case event.KeyPeerAddress:
			dialled = v.Str()
		case event.KeyPeerPort:
			dialledPort = v.Int()
		}
	}
	if server != "" && serverPort == 0 {
		serverPort = defaultPort(attrs)
	}
	peers[0] = graph.Address(network, dialled, dialledPort, at)
	if server != dialled || serverPort != dialledPort {
		peers[1] = graph.Address(network, server, serverPort, at)
	}
	return peers
}

// spanAttributes fills in what the span's attributes and events say of its
// failure and of its impact.
func (d *Decoder) spanAttributes(span ptrace.Span, s *record.Span) {
	s.Message = record.Text(span.Status().Message())
	rank := len(d.options.UserAttributes)
	for k, v := range span.Attributes().All() {
		switch k {
		case event.KeyErrorType:
			s.ErrorType = record.Text(v.AsString())
		case "http.response.status_code":
			s.HTTPStatus = int(v.Int())
		}
		if k == d.options.ValueAttribute && k != "" {
			s.Value, s.HasValue = number(v)
		}
		for i, key := range d.options.UserAttributes[:rank] {
			if k == key && v.AsString() != "" {
				s.User, s.UserKey, rank = record.Text(v.AsString()), key, i
				break
			}
		}
	}
	exception := ""
	for _, e := range span.Events().All() {
		if e.Name() == "exception" {
			if m, ok := e.Attributes().Get("exception.message"); ok {
				exception = record.Text(m.AsString())
			}
		}
	}
	s.Message = record.Text(ends(with(s.Message, exception)))
	if s.Kind == record.SpanClient && s.Failed && s.HTTPStatus == 0 {
		s.Failure = classify(s.ErrorType + "\n" + s.Message + "\n" + exception)
	}
}

// number returns a finite number, and false for anything else.
func number(v pcommon.Value) (float64, bool) {
	switch v.Type() {
	case pcommon.ValueTypeInt:
		return float64(v.Int()), true
	case pcommon.ValueTypeDouble:
		x := v.Double()
		return x, !math.IsNaN(x) && !math.IsInf(x, 0)
	}
	return 0, false
}

// classify reads how a call failed from what runtimes write of it: the texts of
// strerror(3), of Go's net package, of Java's and .NET's sockets, the codes of
// Node.js and the exception types of Python.
func classify(said string) record.Failure {
	t := strings.ToLower(said)
	for _, c := range failureTexts {
		for _, part := range c.parts {
			if strings.Contains(t, part) {
				return c.failure
			}
		}
	}
	return record.FailureOther
}

var failureTexts = []struct {
	failure record.Failure
	parts   []string
}{
	// First: why there is no address is said in the same words as why there is no connection.
	{record.FailureUnresolved, []string{
		"dial tcp: lookup ", "dial udp: lookup ", "no such host", "getaddrinfo", "enotfound", "eai_again", "unknownhostexception",
		"name resolution", "name or service not known", "nodename nor servname",
	}},
	{record.FailureRefused, []string{"connection refused", "econnrefused", "connectionrefused", "actively refused"}},
	{record.FailureBroken, []string{
		"connection reset", "econnreset", "connectionreset", "broken pipe", "epipe", ": eof", "\neof", "unexpected eof",
		"socket hang up", "closed connection", "connection closed", "remotedisconnected", "server disconnected",
	}},
	{record.FailureTimeout, []string{"timeout", "timed out", "etimedout", "deadline exceeded", "deadline_exceeded", "deadlineexceeded"}},
	{record.FailureCanceled, []string{"canceled", "cancelled", "operation was aborted"}},
}

// Logs appends a record for every log record to out.
func (d *Decoder) Logs(ld plog.Logs, out *Batch) Counts {
	var counts Counts
	latest := d.now().Add(maxAhead).UnixNano()
	for _, rl := range ld.ResourceLogs().All() {
		f := feed{latest: latest, out: out, counts: &counts}
		for _, sl := range rl.ScopeLogs().All() {
			for _, r := range sl.LogRecords().All() {
				d.record(rl, sl, r, &f)
			}
		}
		if f.heard > 0 {
			d.keepTail(rl, f.writer, latest)
			out.Heard = append(out.Heard, visit.Log{Service: cmp.Or(f.ref.Service, f.ref.Subject), Instance: f.ref.Subject, Time: f.heard})
		}
	}
	return counts
}

// feed is the log records of one resource while they are read.
type feed struct {
	ref           topology.Ref
	writer        writer
	heard, latest int64 // the newest record without a name; the latest time that is believed
	out           *Batch
	counts        *Counts
}

func (d *Decoder) record(rl plog.ResourceLogs, sl plog.ScopeLogs, r plog.LogRecord, f *feed) {
	if r.EventName() == event.Finding {
		f.counts.Skipped++
		return
	}
	at := timeOf(r)
	if at <= 0 || at > f.latest {
		f.counts.Invalid++
		return
	}
	if f.ref.Subject == 0 {
		c := d.resolved(rl.Resource().Attributes(), at)
		f.ref, f.writer = c.ref, c.writer
	}
	f.counts.Decoded++
	keys, failed := d.met(rl, sl, r)
	f.counts.Unevaluated += failed
	e := d.log(r, f.ref, at, keys)
	f.out.Events = append(f.out.Events, e)
	if r.EventName() != "" {
		return
	}
	f.heard = max(f.heard, at)
	if d.visits.Wants(e.TraceID) {
		f.out.Logs = append(f.out.Logs, d.visitLog(r, f.ref, &e))
	}
}

// timeOf is when a log record was written or, where it does not say, received; 0 or less
// when it says neither.
func timeOf(r plog.LogRecord) int64 {
	if at := int64(r.Timestamp()); at > 0 {
		return at
	}
	return int64(r.ObservedTimestamp())
}

func severityOf(r plog.LogRecord) uint8 { return uint8(min(max(r.SeverityNumber(), 0), math.MaxUint8)) }

// visitLog is a log record as the judge of visits sees it.
func (d *Decoder) visitLog(r plog.LogRecord, ref topology.Ref, e *record.Event) visit.Log {
	l := visit.Log{
		Trace: e.TraceID, Span: record.SpanID(r.SpanID()), Service: cmp.Or(ref.Service, ref.Subject), Instance: ref.Subject,
		Time: e.Time, Severity: e.Severity,
	}
	body := r.Body().Str() // of anything but a string: "", which is no statement
	if body == "" {
		return l
	}
	m := d.visits.Miner.Mine(body)
	l.Template, l.Variant, l.Exception = m.ID, m.Variant, m.Exception
	if l.Severity == 0 {
		l.Severity = m.Level
	}
	if v, ok := r.Attributes().Get("exception.type"); ok && v.Str() != "" {
		l.Exception = d.visits.Miner.Name(v.Str())
	}
	return l
}

// log makes a record of a log record; met are the keys of the conditions that it meets.
func (d *Decoder) log(r plog.LogRecord, ref topology.Ref, at int64, met []string) record.Event {
	e := record.Event{
		Time: at, TraceID: record.TraceID(r.TraceID()), Subject: ref.Subject,
		Kind: record.KindLog, Severity: severityOf(r),
	}
	name := r.EventName()
	if name == "" {
		if len(met) == 0 && !d.texts.holds(r, ref.Subject, at) {
			return e
		}
		name = d.logName
	}
	e.Kind = record.KindEvent
	detail := &record.Detail{Name: record.Text(name), Body: body(r)}
	var address, server string
	var port, serverPort int64
	for k, v := range r.Attributes().All() {
		switch k {
		case event.KeyPeerAddress:
			address = v.Str()
		case event.KeyPeerPort:
			port = v.Int()
		case event.KeyServerAddress:
			server = v.Str()
		case event.KeyServerPort:
			serverPort = v.Int()
		}
		if len(detail.Attrs) < maxAttributes {
			detail.Attrs = append(detail.Attrs, record.Attr{Key: record.Text(k), Value: scalar(v)})
		}
	}
	for _, key := range met {
		detail.Attrs = append(detail.Attrs, record.Attr{Key: key, Value: true})
	}
	if how, ok := r.Attributes().Get(event.KeyTraceAssociation); ok && how.Str() != event.AssociationSDK {
		// The kernel saw who served the call that this span made. (Of an SDK it would
		// be a span of the process itself.)
		d.graph.Server(record.SpanID(r.SpanID()), ref, at)
	}
	d.sockets(name, r.Attributes(), ref, at)
	if name == event.DNSFailed || name == event.DNSSlow { // the other side of a question
		address, port = server, serverPort
	}
	detail.Peer = d.graph.Address(ref.Network, address, port, at)
	e.Subject = d.learn(detail, ref, at)
	e.Detail = d.details.Put(detail)
	return e
}

// maxSlice bounds the elements that are kept of a slice.
const maxSlice = 32

// scalar copies a value as string, int64, float64, bool or, from a slice, []string.
func scalar(v pcommon.Value) any {
	switch v.Type() {
	case pcommon.ValueTypeInt:
		return v.Int()
	case pcommon.ValueTypeDouble:
		if x, ok := number(v); ok {
			return x
		}
	case pcommon.ValueTypeBool:
		return v.Bool()
	case pcommon.ValueTypeSlice:
		out := make([]string, 0, min(v.Slice().Len(), maxSlice))
		for i := range cap(out) {
			out = append(out, record.Text(v.Slice().At(i).AsString()))
		}
		return out
	}
	return record.Text(v.AsString())
}
