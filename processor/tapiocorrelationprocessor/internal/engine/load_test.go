package engine

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// ask is a call as both ends see it: to begins when its caller asks.
type ask struct {
	to    service
	op    string
	after time.Duration // the beginning of the caller's span
	waits time.Duration // the caller; it fails where to works longer
	works time.Duration
	fails bool   // to answers with an error
	lost  bool   // nobody answers
	addr  string // the address of to
	asks  []ask
}

// from outside is a request to storefront that begins now.
func (s *scenario) asked(op string, works time.Duration, asks ...ask) {
	s.serial++
	name := fmt.Sprint("asked", s.serial)
	trace := id16(name)
	_, td := newSpan(storefront, trace, id8(name), noParent, op, spanServer, s.clock, s.clock.Add(works))
	s.deliver(item{traces: td})
	s.asks(trace, storefront, name, s.clock, asks)
}

func (s *scenario) asks(trace pcommon.TraceID, from service, parent string, begun time.Time, asks []ask) {
	for n, x := range asks {
		client, server := fmt.Sprintf("%s.%d", parent, n), fmt.Sprintf("%s.%ds", parent, n)
		at := begun.Add(x.after)
		c, td := newSpan(from, trace, id8(client), id8(parent), "POST", spanClient, at, at.Add(x.waits))
		c.Attributes().PutStr(event.KeyServerAddress, cmp.Or(x.addr, "127.0.0.1"))
		c.Attributes().PutInt(event.KeyServerPort, x.to.port)
		if x.lost || x.fails || x.works > x.waits {
			c.Status().SetCode(ptrace.StatusCodeError)
			c.Status().SetMessage("context deadline exceeded")
		}
		s.deliver(item{traces: td})
		if x.lost {
			continue
		}
		sp, td := newSpan(x.to, trace, id8(server), id8(client), x.op, spanServer, at, at.Add(x.works))
		if x.fails {
			sp.Status().SetCode(ptrace.StatusCodeError)
		}
		s.deliver(item{traces: td})
		s.asks(trace, x.to, server, at, x.asks)
	}
}

// each makes a request every so often for a while.
func (s *scenario) each(every, d time.Duration, f func(n int)) {
	for n := range int(d / every) {
		f(n)
		s.wait(every)
	}
}

// charges is a request whose storefront asks payment, up to three times as long as it does not get an answer.
func (s *scenario) charges(waits, works time.Duration, fails bool) {
	tries := 1
	if works > waits || fails {
		tries = 3
	}
	var asks []ask
	for n := range tries {
		took := min(waits, works+ms)
		asks = append(asks, ask{to: payment, op: "POST /charge", after: ms + time.Duration(n)*(took+ms), waits: took, works: works, fails: fails})
	}
	s.asked("POST /order", 3*ms+time.Duration(tries)*(asks[0].waits+ms), asks...)
}

const ms = time.Millisecond

// storm plays minutes in which storefront waits for payment as long as it takes, and then otherwise.
func storm(waits, works time.Duration, fails bool) func(*scenario) {
	return func(s *scenario) {
		s.each(500*ms, 4*time.Minute, func(int) { s.charges(time.Second, 30*ms, false) })
		s.each(500*ms, time.Minute, func(int) { s.charges(waits, works, fails) })
		s.wait(15 * time.Second)
	}
}

// herd plays minutes of two requests a second, of which payment takes some, then a silence and many at once, which make it slow.
func herd(atMinute bool, silent time.Duration) func(*scenario) {
	return func(s *scenario) {
		usual := func(int) { s.charges(5*time.Second, 30*ms, false) }
		s.each(500*ms, 4*time.Minute, usual)
		if !atMinute {
			s.each(500*ms, 27*time.Second, usual)
		}
		s.wait(silent)
		s.each(10*ms, 400*ms, func(n int) { s.charges(5*time.Second, time.Duration(200+20*n)*ms, false) })
		s.each(500*ms, 20*time.Second, func(int) { s.charges(5*time.Second, 400*ms, false) })
		s.each(500*ms, 20*time.Second, usual)
		s.wait(15 * time.Second)
	}
}

// uncached plays twelve requests a second of which one in ten asks ledger, and then all.
func uncached(s *scenario) {
	price := func(every int, works time.Duration) func(int) {
		return func(n int) {
			var asks []ask
			if n%every == 0 {
				asks = []ask{{to: ledger, op: "GET /price", after: ms, waits: works + ms, works: works}}
			}
			s.asked("GET /item", 5*ms+works, asks...)
		}
	}
	s.each(80*ms, 4*time.Minute+27*time.Second, price(10, 5*ms))
	s.each(80*ms, 40*time.Second, price(1, 300*ms))
	s.wait(15 * time.Second)
}

// cascade plays orders, which need payment, and items, which need ledger. Then payment
// takes long, and what storefront itself takes for orders and items is given.
func cascade(works, own time.Duration) func(*scenario) {
	return func(s *scenario) {
		both := func(works, own time.Duration) func(int) {
			return func(int) {
				s.asked("POST /order", works+3*ms, ask{to: payment, op: "POST /charge", after: ms, waits: works + ms, works: works})
				s.asked("GET /item", own+8*ms, ask{to: ledger, op: "GET /price", after: own, waits: 6 * ms, works: 5 * ms})
			}
		}
		s.each(500*ms, 4*time.Minute, both(30*ms, ms))
		s.each(500*ms, time.Minute, both(works, own))
		s.wait(15 * time.Second)
	}
}

// TestLoad plays what the load does that others bring.
func TestLoad(t *testing.T) {
	for _, tc := range []struct {
		name, want, entity string
		play               func(*scenario)
	}{
		{"callers give up on who is as fast as ever", "retry-storm", "storefront", storm(20*ms, 30*ms, false)},
		{"callers give up on who is slow", "retry-storm", "payment", storm(100*ms, 300*ms, false)},
		{"nearly: they are patient", "operation-slow", "payment", storm(2*time.Second, 300*ms, false)},
		{"nearly: they ask again after an error", "operation-failing", "payment", storm(2*time.Second, 30*ms, true)},
		{"many at once by the clock", "thundering-herd", "payment", herd(true, 0)},
		{"many at once after a silence", "thundering-herd", "payment", herd(false, 10*time.Second)},
		{"nearly: many at once, for all that is known by chance", "operation-slow", "payment", herd(false, 0)},
		{"all at once for want of a cache", "thundering-herd", "ledger", uncached},
		{"who waits for one that is slow is slow for others", "cascading-failure", "payment", cascade(2*time.Second, 400*ms)},
		{"nearly: one is slow, and others are not", "operation-slow", "payment", cascade(2*time.Second, ms)},
		{"nearly: who waits is slow by itself", "operation-slow", "storefront", cascade(30*ms, 400*ms)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			tc.play(s)
			require.Len(t, s.latest(), 1, "%v", titles(s.latest()))
			f := s.one()
			assert.Equal(t, tc.want, f.Pattern, f.Summary)
			assert.Equal(t, tc.entity, f.RootCause.Entity.Name, f.Summary)
			t.Log(f.Summary, f.Confidence.Score)
			assertCausal(t, f)
			assertComplete(t, f)
		})
	}
}

// TestStormIsOneFinding: callers that give up, ask again and fail in the end, by a name of
// which no port is known, are one finding together with what payment looks like meanwhile.
func TestStormIsOneFinding(t *testing.T) {
	s := newScenario(t)
	order := func(tries int, waits, works time.Duration, steps bool) {
		s.serial++
		name := fmt.Sprint("order", s.serial)
		trace, begun, fails := id16(name), s.clock, works > waits
		put := func(of service, id, parent, op string, kind ptrace.SpanKind, from, to time.Time, fails bool) {
			up := noParent
			if parent != "" {
				up = id8(name + parent)
			}
			span, td := newSpan(of, trace, id8(name+id), up, op, kind, from, to)
			if kind == spanClient {
				span.Attributes().PutStr(event.KeyServerAddress, "payment")
			}
			if fails {
				span.Status().SetCode(ptrace.StatusCodeError)
			}
			s.deliver(item{traces: td})
		}
		for n := range tries {
			client, server := fmt.Sprint("c", n), fmt.Sprint("s", n)
			at := begun.Add(ms + time.Duration(n)*(waits+ms))
			put(storefront, client, "in", "POST", spanClient, at, at.Add(min(waits, works+ms)), fails)
			put(payment, server, client, "POST /charge", spanServer, at, at.Add(works), false)
			if steps {
				put(payment, server+"q", server, "SELECT price", ptrace.SpanKindInternal, at, at.Add(ms), false)
			}
		}
		put(storefront, "in", "", "POST /order", spanServer, begun, begun.Add(time.Duration(tries)*(waits+ms)+2*ms), fails)
	}
	s.each(500*ms, 6*time.Minute, func(int) { order(1, 30*ms, 10*ms, true) })
	s.each(500*ms, 90*time.Second, func(int) { order(4, 20*ms, 70*ms, false) })
	s.wait(15 * time.Second)
	var open []*finding.Finding
	for _, f := range s.latest() {
		if f.State == finding.StateOpen {
			open = append(open, f)
		}
	}
	require.Len(t, open, 1, "%v", titles(s.latest()))
	assert.Equal(t, "retry-storm", open[0].Pattern)
	assert.EqualValues(t, 180, open[0].Impact.FailedRequests, open[0].Summary)
	assertCausal(t, open[0])
}

// TestCallsFromANodeWithoutNetwork: whom a node's processes call in vain may be well, when
// it is their own node that lost its network; the network of a third one is no matter.
func TestCallsFromANodeWithoutNetwork(t *testing.T) {
	warehouse := service{"warehouse", "1", "node2", 20, 9090}
	for _, tc := range []struct{ node, want, entity string }{
		{"node1", "interface-down", "node1"}, // of who calls
		{"node2", "interface-down", "node2"}, // of who is called
		{"node3", "callee-failing", "warehouse"},
	} {
		t.Run(tc.node, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			asks := func(lost bool) func(int) {
				return func(int) {
					s.asked("GET /stock", 2*time.Second, ask{to: warehouse, op: "GET /items", addr: "10.0.0.2", after: ms, waits: 20 * ms, works: 5 * ms, lost: lost})
				}
			}
			s.each(100*ms, time.Minute, asks(false))
			s.wait(3 * time.Second)
			for range 2 {
				ld := plog.NewLogs()
				rl := ld.ResourceLogs().AppendEmpty()
				rl.Resource().Attributes().PutStr(event.KeyHostName, tc.node)
				r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
				r.SetEventName(event.CNIInterfaceDown)
				r.SetTimestamp(pcommon.NewTimestampFromTime(s.clock))
				r.Body().SetStr("interface eth0 is down")
				s.deliver(item{logs: ld})
				s.each(500*ms, 10*time.Second, asks(true))
			}
			s.wait(15 * time.Second)
			f := s.one()
			assert.Equal(t, tc.want, f.Pattern, f.Summary)
			assert.Equal(t, tc.entity, f.RootCause.Entity.Name, f.Summary)
		})
	}
}
