package visit

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

func traceID(n uint64) (id record.TraceID) {
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

func spanID(n uint64) (id record.SpanID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

func TestSamplerFollowsTheLoad(t *testing.T) {
	var s sampler
	s.init(20)
	next := uint64(0)
	second := func(now int64, n int) (kept int) {
		for range n {
			next++
			if s.wants(hash(traceID(next))) {
				s.opened(now)
				kept++
			}
		}
		s.adjust(now)
		return kept
	}
	now := epoch
	for range 60 {
		now += sec
		assert.Equal(t, 20, second(now, 20), "below the limit, all are kept")
	}
	for range 120 {
		now += sec
		second(now, 10_000)
	}
	assert.InDelta(t, 0.002, s.share(), 0.001)
	kept := 0
	for range 60 {
		now += sec
		kept += second(now, 10_000)
	}
	assert.InDelta(t, 20*60, kept, 20*60/2, "about as many as are wanted")
	low := s.limit.Load()
	for range 20 * 60 {
		now += sec
		second(now, 5)
	}
	assert.Greater(t, s.limit.Load(), low)
	assert.Equal(t, 1.0, s.share(), "all again")
}

func TestSamplerSeesWholeTraces(t *testing.T) {
	var s sampler
	s.init(20)
	s.adjust(epoch)
	s.count = 4000
	require.True(t, s.adjust(epoch+10*sec))
	low := s.limit.Load()
	require.True(t, s.adjust(epoch+10*sec) == false)
	s.count = 0
	require.False(t, s.adjust(epoch+100*sec))
	require.Greater(t, s.limit.Load(), low)
	assert.True(t, s.whole(low, epoch), "it was looked at before")
	assert.False(t, s.whole(low+1, epoch+99*sec), "its first spans were not")
	assert.True(t, s.whole(low+1, epoch+101*sec))
}

func TestHighLoadKeepsItsSenses(t *testing.T) {
	a := New(Options{MaxTracesPerSecond: 10})
	r := &rig{Analyzer: a, now: epoch}
	var suspects []Suspect
	run := func(d time.Duration, extra uint32) {
		for i, end := 0, r.now+int64(d); r.now < end; i++ {
			r.send(&request{calls: 1, extra: extra})
			r.now += 5 * ms // 200 a second
			if i%1000 == 0 {
				suspects = r.Judge(r.now)
			}
		}
	}
	run(4*time.Minute, 0)
	assert.Empty(t, suspects)
	assert.Less(t, a.Sampled(), 0.2)
	run(30*time.Second, logNew)
	require.NotEmpty(t, suspects)
	assert.Equal(t, back, suspects[0].Service)
	assert.Less(t, a.Counters.Window.Load(), int64(4*10*60*2))
}

func TestBounds(t *testing.T) {
	a := New(Options{MaxOpen: 10, MaxSpans: 5, MaxLogs: 5, MaxOperations: 8, MaxMeasures: 4})
	span := func(trace, id uint64, op record.EntityID) Span {
		return Span{Trace: traceID(trace), ID: spanID(id), Service: op, Operation: op, Start: epoch, End: epoch + ms}
	}
	for n := range uint64(100) {
		a.Span(span(n+1, 1, record.EntityID(n+1)))
		a.Log(Log{Trace: traceID(n + 1), Service: record.EntityID(n + 1), Template: 1, Time: epoch})
		a.Resource(record.EntityID(n+1), 5, epoch)
	}
	assert.Len(t, a.open, 10)
	assert.EqualValues(t, 180, a.Counters.Evicted.Load())
	assert.LessOrEqual(t, len(a.feeds), 4*8)
	assert.LessOrEqual(t, len(a.resources), 8)
	for n := range uint64(100) {
		a.Span(span(1, n, 1))
		a.Log(Log{Trace: traceID(1), Service: 1, Template: 1, Time: epoch + int64(n)})
	}
	assert.NotZero(t, a.Counters.Cut.Load())
	a.Judge(epoch + 20*sec)
	assert.Empty(t, a.open)
	assert.LessOrEqual(t, len(a.operations), 8)
	assert.LessOrEqual(t, len(a.measures), 4)
	assert.NotZero(t, a.Counters.Dropped.Load())
	a.Span(span(1, 200, 1))
	assert.EqualValues(t, 1, a.Counters.Late.Load(), "its trace was judged")
	assert.Empty(t, a.open)
}

func TestFeaturesAreBounded(t *testing.T) {
	a := New(Options{})
	now := epoch
	for n := range uint64(3000) {
		now += sec
		id := traceID(n + 1)
		a.Span(Span{Trace: id, ID: spanID(1), Service: back, Operation: opBack, Start: now, End: now + ms})
		a.Log(Log{Trace: id, Span: spanID(1), Service: back, Template: logBegin, Time: now})
		a.Log(Log{Trace: id, Span: spanID(1), Service: back, Template: uint32(1000 + n), Time: now + 1}) // never the same
		if n%5 == 0 {
			a.Judge(now)
		}
	}
	o := a.operations[opBack]
	assert.LessOrEqual(t, len(o.features), maxFeatures)
	f := o.index[newToken(tokenStatement, logBegin)]
	assert.Greater(t, o.features[f].past, 1000.0, "what is always there stays")
	for _, f := range o.features {
		require.LessOrEqual(t, len(f.next), maxPairs)
		for _, p := range f.next {
			require.Less(t, int(p.to), len(o.features))
		}
	}
	for _, i := range o.unused {
		assert.Zero(t, o.features[i].token)
	}
}

func TestForgotten(t *testing.T) {
	r := warmed(Options{Forget: time.Hour})
	require.NotEmpty(t, r.operations)
	require.NotEmpty(t, r.measures)
	require.NotEmpty(t, r.feeds)
	r.Advance(r.now + int64(90*time.Minute))
	r.Advance(r.now + int64(3*time.Hour))
	assert.Empty(t, r.operations)
	assert.Empty(t, r.measures)
	assert.Empty(t, r.feeds)
	assert.Empty(t, r.window)
	assert.Empty(t, r.Judge(r.now+int64(3*time.Hour)))
}

func TestDuplicatesCountOnce(t *testing.T) {
	a := New(Options{})
	s := Span{Trace: traceID(1), ID: spanID(1), Service: back, Operation: opBack, Start: epoch, End: epoch + ms}
	l := Log{Trace: traceID(1), Span: spanID(1), Service: back, Template: logBegin, Time: epoch}
	for range 3 {
		a.Span(s)
		a.Log(l)
	}
	a.Advance(epoch + 20*sec)
	require.Len(t, a.window, 1)
	require.Len(t, a.window[0].visits, 1)
	assert.Len(t, a.window[0].visits[0].tokens, 1)
	assert.EqualValues(t, 4, a.Counters.Duplicates.Load())
}

func TestVisitsOfATrace(t *testing.T) {
	for name, tc := range map[string]struct {
		spans   []Span
		parents []int32 // of the visits
	}{
		"a call": {[]Span{{ID: spanID(1), Service: 1, Operation: 10, Start: 1, End: 9}, {ID: spanID(2), Parent: spanID(1), Service: 2, Operation: 20, Start: 2, End: 8}}, []int32{-1, 0}},
		"a call to itself": {[]Span{
			{ID: spanID(1), Service: 1, Operation: 10, Kind: record.SpanClient, Start: 1, End: 9},
			{ID: spanID(2), Parent: spanID(1), Service: 1, Operation: 11, Kind: record.SpanServer, Start: 2, End: 8},
		}, []int32{-1, 0}},
		"inside":         {[]Span{{ID: spanID(1), Service: 1, Operation: 10, Start: 1, End: 9}, {ID: spanID(2), Parent: spanID(1), Service: 1, Operation: 11, Start: 2, End: 8}}, []int32{-1}},
		"its own parent": {[]Span{{ID: spanID(1), Parent: spanID(1), Service: 1, Operation: 10, Start: 1, End: 9}}, []int32{-1}},
		"a circle": {[]Span{
			{ID: spanID(1), Parent: spanID(3), Service: 1, Operation: 10, Start: 1, End: 9},
			{ID: spanID(2), Parent: spanID(1), Service: 1, Operation: 11, Start: 2, End: 8},
			{ID: spanID(3), Parent: spanID(2), Service: 1, Operation: 12, Start: 3, End: 7},
		}, []int32{-1}},
		"a parent that never came": {[]Span{{ID: spanID(2), Parent: spanID(1), Service: 2, Operation: 20, Start: 2, End: 8}}, []int32{-1}},
		"no id":                    {[]Span{{Service: 1, Operation: 10, Start: 1, End: 9}, {Parent: spanID(9), Service: 2, Operation: 20, Start: 2, End: 8}}, []int32{-1}},
	} {
		a := New(Options{})
		a.now = epoch
		visits := a.visits(&trace{spans: tc.spans})
		var parents []int32
		for _, v := range visits {
			parents = append(parents, v.parent)
		}
		assert.Equal(t, tc.parents, parents, name)
	}
}

func TestLogsWithoutASpan(t *testing.T) {
	a := New(Options{})
	a.now = epoch
	spans := []Span{
		{ID: spanID(1), Service: 1, Operation: 10, Start: epoch, End: epoch + 9*ms},
		{ID: spanID(2), Parent: spanID(1), Service: 2, Operation: 20, Start: epoch + 2*ms, End: epoch + 3*ms},
		{ID: spanID(3), Parent: spanID(1), Service: 2, Operation: 20, Start: epoch + 2*ms, End: epoch + 9*ms},
	}
	visits := a.visits(&trace{spans: spans, logs: []Log{
		{Service: 1, Template: 5, Time: epoch + ms},
		{Service: 2, Template: 6, Time: epoch + 2*ms}, // in either
		{Service: 2, Template: 7, Time: epoch + 8*ms},
		{Service: 3, Template: 8, Time: epoch + ms},
		{Service: 1, Template: 9, Time: epoch + 20*ms},
	}})
	require.Len(t, visits, 3)
	for i, want := range []int{1, 1, 0} { // of two that begin together, the longer comes first
		assert.Equal(t, want, visits[i].logs, "visit %d", i)
	}
}

// FuzzAnalyzer feeds spans and log records of any shape, with a clock that jumps.
func FuzzAnalyzer(f *testing.F) {
	f.Add([]byte("a trace of some bytes, each a span or a log record, and a jump of time now and then"))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255, 254, 253, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		a := New(Options{Window: 5 * time.Second, Idle: time.Second, MaxOpen: 8, MaxSpans: 16, MaxLogs: 16, MaxOperations: 8, MaxMeasures: 16, Accept: 20 * time.Second})
		now := epoch
		for len(data) >= 8 {
			d := data[:8]
			data = data[8:]
			at := now + int64(int8(d[6]))*int64(time.Second)/8
			switch d[0] % 5 {
			case 0, 1, 2:
				a.Span(Span{
					Trace: traceID(uint64(d[1] % 8)), ID: spanID(uint64(d[2] % 16)), Parent: spanID(uint64(d[3] % 16)),
					Service: record.EntityID(d[4] % 4), Operation: record.EntityID(d[4] % 4 * d[5] % 16), Name: uint32(d[5] % 4),
					Kind: record.SpanKind(d[5] % 5), Start: at, End: at + int64(int8(d[7]))*ms, Failed: d[7]%3 == 0,
				})
			case 3:
				a.Log(Log{
					Trace: traceID(uint64(d[1] % 8)), Span: spanID(uint64(d[2] % 16)), Service: record.EntityID(d[4] % 4),
					Instance: record.EntityID(d[5] % 3), Template: uint32(d[5] % 8), Variant: uint32(d[3] % 4), Exception: uint32(d[7] % 3), Time: at,
				})
			case 4:
				now += int64(int8(d[1])) * int64(time.Second) / 4
				if d[2] == 0 {
					now += int64(d[3]) * int64(time.Minute)
				}
				a.Resource(record.EntityID(d[4]%4), float64(int8(d[5])), now)
				for _, s := range a.Judge(now) {
					if !(s.Score >= 0) || s.Service == 0 || len(s.Signals) == 0 || len(s.Signals) > maxSignals || len(s.Traces) > maxExamples {
						t.Fatalf("%+v", s)
					}
				}
			}
		}
		a.Judge(now + int64(time.Hour))
		if len(a.open) != 0 {
			t.Fatal(len(a.open), "traces are open")
		}
	})
}

func BenchmarkSpan(b *testing.B) {
	a := New(Options{MaxTracesPerSecond: 1_000_000})
	a.Advance(epoch)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now := epoch + int64(i)*int64(10*time.Microsecond)
		if i%1000 == 0 {
			a.Advance(now)
		}
		a.Span(Span{Trace: traceID(uint64(i / 10)), ID: spanID(uint64(i)), Parent: spanID(uint64(i - i%10)), Service: record.EntityID(1 + i%10), Operation: record.EntityID(100 + i%10), Start: now, End: now + ms})
	}
}

func BenchmarkSpanNotSampled(b *testing.B) {
	a := New(Options{})
	a.sampler.limit.Store(1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		a.Span(Span{Trace: traceID(uint64(i)), ID: spanID(1), Service: 1, Operation: 1, Start: epoch, End: epoch + ms})
	}
}

func BenchmarkLog(b *testing.B) {
	a := New(Options{MaxTracesPerSecond: 1_000_000})
	a.Advance(epoch)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now := epoch + int64(i)*int64(10*time.Microsecond)
		if i%1000 == 0 {
			a.Advance(now)
		}
		a.Log(Log{Trace: traceID(uint64(i / 10)), Span: spanID(uint64(i)), Service: record.EntityID(1 + i%10), Template: uint32(1 + i%50), Time: now})
	}
}

// BenchmarkJudge judges a full window: 20 traces a second of three visits.
func BenchmarkJudge(b *testing.B) {
	r := newRig(Options{})
	for range 3 * 60 * 20 {
		r.send(&request{calls: 1})
		r.now += sec / 20
		r.Advance(r.now)
	}
	b.ReportAllocs()
	for b.Loop() {
		r.Judge(r.now)
	}
	b.ReportMetric(float64(len(r.window)), "traces")
}

// Example shows how the engine uses an Analyzer.
func Example() {
	a := New(Options{})
	var trace record.TraceID
	trace[15] = 1
	if a.Wants(trace) { // before a line is mined and names are interned
		a.Span(Span{Trace: trace, ID: spanID(1), Service: back, Operation: opBack, Kind: record.SpanServer, Start: epoch, End: epoch + 5*ms})
		a.Log(Log{Trace: trace, Span: spanID(1), Service: back, Template: logBegin, Time: epoch + ms})
	} else {
		a.Arrived(back, 0, epoch+ms) // the log feed works
	}
	// On every tick of the engine's clock:
	a.Advance(epoch + 250*ms)
	// Every five seconds:
	for _, s := range a.Judge(epoch + 5*sec) {
		if s.Score >= Alarm {
			fmt.Println("a finding about service", s.Service)
		}
	}
	// Output:
}
