package visit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// couple sends a root span, and after a while one below it; it returns how long after
// the last of them the trace was complete.
func couple(a *Analyzer, now *int64, serial byte, later time.Duration, failed bool) time.Duration {
	trace, root := record.TraceID{serial, 1}, record.SpanID{1}
	a.Span(Span{Trace: trace, ID: root, Service: front, Operation: opFront, Kind: record.SpanServer, Start: *now - 9*ms, End: *now})
	a.Span(Span{Trace: trace, ID: record.SpanID{2}, Parent: root, Service: front, Operation: opFrontCall, Kind: record.SpanClient, Start: *now - 8*ms, End: *now - ms, Failed: failed})
	end := *now + int64(later)
	for *now < end {
		*now += sec / 4
		a.Advance(*now)
	}
	if later > 0 {
		a.Span(Span{Trace: trace, ID: record.SpanID{3}, Parent: root, Service: middle, Operation: opMiddle, Kind: record.SpanServer, Start: *now - 5*ms, End: *now})
	}
	for last := *now; ; *now += sec / 4 {
		a.Advance(*now)
		if a.Counters.Open.Load() == 0 {
			return time.Duration(*now - last)
		}
	}
}

func TestATraceWithItsRootIsNotWaitedForInVain(t *testing.T) {
	a, now := New(Options{}), epoch
	a.Advance(now)
	for n := range byte(tailTraces) {
		assert.InDelta(t, 10, couple(a, &now, n, 0, false).Seconds(), 1.1, "what follows the root is not known yet")
	}
	assert.InDelta(t, 2, couple(a, &now, 100, 0, false).Seconds(), 1.1)
	assert.InDelta(t, 10, couple(a, &now, 101, 0, true).Seconds(), 1.1, "who was called in vain may be at work still")
	require.Zero(t, a.Counters.Late.Load())

	// The rest comes four seconds later, as with another exporter: too late once.
	assert.Zero(t, couple(a, &now, 102, 4*time.Second, false))
	require.EqualValues(t, 1, a.Counters.Late.Load())
	assert.InDelta(t, 10, couple(a, &now, 103, 4*time.Second, false).Seconds(), 1.1)
	require.EqualValues(t, 1, a.Counters.Late.Load(), "it is waited for now")
}

func TestATailThatIsKnownIsWaitedFor(t *testing.T) {
	a, now := New(Options{}), epoch
	a.Advance(now)
	for n := range byte(2 * tailTraces) {
		couple(a, &now, n, 3*time.Second, false)
	}
	assert.Zero(t, a.Counters.Late.Load())
	assert.InDelta(t, 6, couple(a, &now, 100, 3*time.Second, false).Seconds(), 1.1)
}

// fanOut sends a request of middle to two services; the calls lose time on the way.
func fanOut(r *rig, toBack, toOther int64) {
	const other, opOther, opOtherCall = record.EntityID(4), record.EntityID(40), record.EntityID(41)
	r.traces++
	trace := record.TraceID{9, byte(r.traces >> 8), byte(r.traces)}
	at, entry := r.now-sec, r.id()
	r.Span(Span{Trace: trace, ID: entry, Service: middle, Operation: opMiddle, Kind: record.SpanServer, Start: at, End: at + toBack + toOther + 30*ms})
	call := func(from int64, callOp, service, op record.EntityID, lost int64) {
		id := r.id()
		r.Span(Span{Trace: trace, ID: id, Parent: entry, Service: middle, Operation: callOp, Kind: record.SpanClient, Start: from, End: from + 10*ms + lost})
		r.Span(Span{Trace: trace, ID: r.id(), Parent: id, Service: service, Operation: op, Kind: record.SpanServer, Start: from + ms, End: from + 9*ms})
	}
	call(at+ms, opMiddleCall, back, opBack, toBack)
	call(at+15*ms+toBack, opOtherCall, other, opOther, toOther)
	r.now += sec / 2
	r.Advance(r.now)
}

func TestACallerThatIsSlowToAllIsTheCause(t *testing.T) {
	for name, tc := range map[string]struct {
		toBack, toOther int64
		want            record.EntityID
	}{
		"to one":  {300 * ms, 0, back},
		"to both": {300 * ms, 300 * ms, middle},
	} {
		r := newRig(Options{})
		for range 300 {
			fanOut(r, 0, 0)
		}
		require.Empty(t, r.Judge(r.now), name)
		for range 30 {
			fanOut(r, tc.toBack, tc.toOther)
		}
		got := r.Judge(r.now)
		require.NotEmpty(t, got, name)
		assert.Equal(t, tc.want, got[0].Service, name)
		assert.GreaterOrEqual(t, got[0].Score, Alarm, name)
		assert.GreaterOrEqual(t, got[0].Hurt, 10, name)
		if tc.want == middle {
			assert.Len(t, got, 1, "it explains the services that it calls")
		}
	}
}

func TestAPastWithSlowCallsStillTells(t *testing.T) {
	r := newRig(Options{})
	for n := range 300 {
		fanOut(r, int64(n%8/7)*2*sec, 0) // one in eight
	}
	require.Empty(t, r.Judge(r.now))
	for range 20 {
		fanOut(r, sec, 0)
	}
	got := r.Judge(r.now)
	require.NotEmpty(t, got)
	assert.Equal(t, back, got[0].Service)
	assert.GreaterOrEqual(t, got[0].Score, Alarm)
	g := got[0].Signals[0]
	assert.Equal(t, Gap, g.Kind)
	assert.Less(t, g.Limit, time.Second, "the past alone would allow four seconds")
}
