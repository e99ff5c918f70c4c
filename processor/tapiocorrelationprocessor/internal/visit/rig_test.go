package visit

import (
	"encoding/binary"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Three services, each with its entry span, its client span and, the last one, a
// database span; two statements each.
const (
	front, middle, back = record.EntityID(1), record.EntityID(2), record.EntityID(3)

	opFront, opFrontCall   = record.EntityID(10), record.EntityID(11)
	opMiddle, opMiddleCall = record.EntityID(20), record.EntityID(21)
	opBack, opDB           = record.EntityID(30), record.EntityID(31)
	opHandler              = record.EntityID(39) // an error handler's span in back

	logBegin, logDone = uint32(100), uint32(101) // of service s: 10*s more
	logNew            = uint32(500)
	someException     = uint32(600)

	ms  = int64(time.Millisecond)
	sec = int64(time.Second)
)

var epoch = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano()

// request is one trace and how it is to differ from the others.
type request struct {
	// mute are the statements that are missing, extra one that back writes in
	// addition.
	mute  map[uint32]bool
	extra uint32
	// exception is named by back's extra statement.
	exception uint32
	// severity is that of back's extra statement.
	severity uint8
	// gap is added between the client span and the entry span of back, db to the
	// database span, self to the time that back works itself.
	gap, db, self int64
	// failed marks back's entry span, and those above it.
	failed bool
	// calls is how often middle calls back, 1 unless set; 0 calls with lost.
	calls int
	lost  bool
	// mutes loses all that back sends.
	mutes bool
	// orphan loses the parent of back's database span.
	orphan bool
	// noLogs leaves the log records out, noFront the root span and its call.
	noLogs, noFront bool
	// frontFails makes front write the extra statement with the exception that back
	// writes in others. frontCalls has front call back itself, unless lostFront.
	frontFails, frontCalls, lostFront bool
	// skew is added to back's clock.
	skew int64
}

// rig feeds an analyzer with requests, two a second.
type rig struct {
	*Analyzer
	now     int64
	traces  uint64
	serial  uint64
	suspect []Suspect
	// lateLogs holds log records back for so long.
	held     []Log
	lateLogs int64
}

func newRig(o Options) *rig { return &rig{Analyzer: New(o), now: epoch} }

// warmed is a rig after five good minutes.
func warmed(o Options) *rig {
	r := newRig(o)
	r.run(5*time.Minute, nil)
	return r
}

// run sends requests for a time; shape changes each. It judges every five seconds.
func (r *rig) run(d time.Duration, shape func(i int, q *request)) {
	for i, end := 0, r.now+int64(d); r.now < end; i++ {
		q := request{calls: 1}
		if shape != nil {
			shape(i, &q)
		}
		r.send(&q)
		r.now += sec / 2
		if i%10 == 9 {
			r.suspect = r.Judge(r.now)
		} else {
			r.Advance(r.now)
		}
	}
}

func (r *rig) id() (id record.SpanID) {
	r.serial++
	binary.BigEndian.PutUint64(id[:], r.serial)
	return id
}

func (r *rig) send(q *request) {
	r.traces++
	var trace record.TraceID
	binary.BigEndian.PutUint64(trace[8:], r.traces)
	at := r.now - sec
	root, call := r.id(), r.id()
	calls := q.calls
	if q.lost {
		calls = 0
	}
	each := 10*ms + q.gap + q.db + q.self + r.jitter()
	took := int64(calls)*(each+4*ms) + 20*ms
	if !q.noFront {
		r.Span(Span{Trace: trace, ID: root, Service: front, Operation: opFront, Kind: record.SpanServer, Start: at, End: at + took + 10*ms, Failed: q.failed})
		r.Span(Span{Trace: trace, ID: call, Parent: root, Service: front, Operation: opFrontCall, Kind: record.SpanClient, Start: at + 3*ms, End: at + took + 7*ms, Failed: q.failed})
	}
	entry := r.id()
	if q.frontFails {
		r.log(q, Log{Trace: trace, Span: root, Service: front, Template: logNew, Exception: someException, Time: at + 2*ms})
	}
	if q.frontCalls && !q.lostFront {
		out := r.id()
		r.Span(Span{Trace: trace, ID: out, Parent: root, Service: front, Operation: opFrontCall + 1, Kind: record.SpanClient, Start: at + ms, End: at + 3*ms})
		r.Span(Span{Trace: trace, ID: r.id(), Parent: out, Service: back, Operation: opBack, Kind: record.SpanServer, Start: at + ms, End: at + 2*ms})
	}
	r.log(q, Log{Trace: trace, Span: root, Service: front, Template: logBegin + 10, Time: at + ms})
	r.Span(Span{Trace: trace, ID: entry, Parent: call, Service: middle, Operation: opMiddle, Kind: record.SpanServer, Start: at + 5*ms, End: at + 5*ms + took, Failed: q.failed})
	r.log(q, Log{Trace: trace, Span: entry, Service: middle, Template: logBegin + 20, Time: at + 6*ms})
	for n := range int64(calls) {
		r.back(q, trace, entry, at+10*ms+n*(each+4*ms), each)
	}
	r.log(q, Log{Trace: trace, Span: entry, Service: middle, Template: logDone + 20, Time: at + took})
	r.log(q, Log{Trace: trace, Span: root, Service: front, Template: logDone + 10, Time: at + took + 8*ms})
}

// back sends one call of middle to back: a client span of each+2 ms.
func (r *rig) back(q *request, trace record.TraceID, entry record.SpanID, at, each int64) {
	call, in := r.id(), r.id()
	r.Span(Span{Trace: trace, ID: call, Parent: entry, Service: middle, Operation: opMiddleCall, Kind: record.SpanClient, Start: at, End: at + each + 2*ms, Failed: q.failed})
	if q.mutes {
		return
	}
	start := at + ms + q.gap/2 + q.skew
	end := start + each - q.gap
	r.Span(Span{Trace: trace, ID: in, Parent: call, Service: back, Operation: opBack, Kind: record.SpanServer, Start: start, End: end, Failed: q.failed})
	r.log(q, Log{Trace: trace, Span: in, Service: back, Template: logBegin + 30, Time: start + ms/2})
	above := in
	if q.orphan {
		above = r.id()
	}
	r.Span(Span{Trace: trace, ID: r.id(), Parent: above, Service: back, Operation: opDB, Kind: record.SpanClient, Start: start + ms, End: start + 6*ms + q.db})
	if q.extra != 0 {
		r.log(q, Log{Trace: trace, Span: in, Service: back, Template: q.extra, Exception: q.exception, Severity: q.severity, Time: end - ms})
	}
	r.log(q, Log{Trace: trace, Span: in, Service: back, Template: logDone + 30, Time: end - ms/2})
}

func (r *rig) jitter() int64 { return int64(r.traces*2654435761%7) * ms / 10 }

func (r *rig) log(q *request, l Log) {
	if q.noLogs || q.mute[l.Template] {
		return
	}
	if r.lateLogs == 0 {
		r.Log(l)
		return
	}
	r.held = append(r.held, l)
	for len(r.held) > 0 && r.held[0].Time < r.now-r.lateLogs {
		r.Log(r.held[0])
		r.held = r.held[1:]
	}
}
