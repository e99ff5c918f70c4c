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
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// stay is what payment does in one request: storefront calls it, it asks its
// database, calls ledger and says what it does.
type stay struct {
	lost   time.Duration // on the way from storefront to payment
	query  time.Duration
	own    time.Duration // of payment itself, beside all that it waits for
	calls  int           // of ledger
	says   []string
	fails  bool          // the query, which payment copes with
	silent bool          // no log record of payment at all
	direct bool          // storefront calls ledger too
	torn   bool          // storefront's first span gets lost
	answer time.Duration // how much longer ledger takes when storefront asks it
	by     string        // the name of who serves it, payment when empty
	gives  bool          // storefront is given an error
	denies bool          // payment and storefront answer with an error
	remote bool          // the query is a call of an address of which nothing else is known
}

// usual is a stay like all others.
func usual() stay {
	return stay{query: 2 * time.Millisecond, own: time.Millisecond, calls: 1, says: []string{"order received", "order priced at 12.50", "order placed"}}
}

// visit sends the spans and log records of one request that ends now.
func (s *scenario) visit(v stay) {
	s.serial++
	name := fmt.Sprint("visit", s.serial)
	trace := id16(name)
	const call = time.Millisecond
	served := v.own + v.query + time.Duration(v.calls)*call
	waited := served + v.lost + 500*time.Microsecond
	payment := payment
	if v.by != "" {
		payment.name, payment.pid = v.by, 112
	}
	end := s.clock
	start := end.Add(-max(waited, v.answer) - time.Millisecond)
	put := func(of service, id, parent, operation string, kind ptrace.SpanKind, from, to time.Time) ptrace.Span {
		up := pcommon.SpanID{}
		if parent != "" {
			up = id8(name + parent)
		}
		sp, td := newSpan(of, trace, id8(name+id), up, operation, kind, from, to)
		if v.denies && (operation == "POST /order" || operation == "POST /charge") {
			sp.Status().SetCode(ptrace.StatusCodeError)
		}
		s.deliver(item{traces: td})
		return sp
	}
	if !v.torn {
		put(storefront, "in", "", "POST /order", ptrace.SpanKindServer, start, end)
	}
	out, td := newSpan(storefront, trace, id8(name+"out"), id8(name+"in"), "POST", ptrace.SpanKindClient, start, start.Add(waited))
	if v.gives {
		out.Status().SetCode(ptrace.StatusCodeError)
	}
	s.deliver(item{traces: td})
	at := start.Add(v.lost + 250*time.Microsecond)
	put(payment, "pay", "out", "POST /charge", ptrace.SpanKindServer, at, at.Add(served))
	sp, td := newSpan(payment, trace, id8(name+"sql"), id8(name+"pay"), "SELECT price", ptrace.SpanKindInternal, at, at.Add(v.query))
	if v.remote {
		sp.SetKind(ptrace.SpanKindClient)
		sp.Attributes().PutStr("server.address", "db.internal")
		sp.Attributes().PutInt("server.port", 5432)
	}
	if v.fails {
		sp.Status().SetCode(ptrace.StatusCodeError)
	}
	s.deliver(item{traces: td})
	if v.direct {
		put(storefront, "ask", "in", "POST", ptrace.SpanKindClient, start, start.Add(call+v.answer))
		put(ledger, "asked", "ask", "POST /book", ptrace.SpanKindServer, start.Add(100*time.Microsecond), start.Add(call+v.answer-100*time.Microsecond))
	}
	after := at.Add(v.query)
	for n := range v.calls {
		id := fmt.Sprint("call", n)
		put(payment, id, "pay", "POST", ptrace.SpanKindClient, after, after.Add(call))
		put(ledger, id+"s", id, "POST /book", ptrace.SpanKindServer, after.Add(100*time.Microsecond), after.Add(call-100*time.Microsecond))
		after = after.Add(call)
	}
	if v.silent {
		return
	}
	for n, text := range v.says {
		s.says(payment, trace, id8(name+"pay"), at.Add(time.Duration(n)*100*time.Microsecond), text)
	}
}

func (s *scenario) says(of service, trace pcommon.TraceID, span pcommon.SpanID, at time.Time, text string) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	of.resource(rl.Resource())
	r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	r.SetTimestamp(pcommon.NewTimestampFromTime(at))
	r.SetTraceID(trace)
	r.SetSpanID(span)
	r.Body().SetStr(text)
	s.deliver(item{logs: ld})
}

// stays sends two requests a second for a while.
func (s *scenario) stays(d time.Duration, v func(n int) stay) {
	for n := range int(d / (500 * time.Millisecond)) {
		s.visit(v(n))
		s.wait(500 * time.Millisecond)
	}
}

// TestVisits plays, for each pattern that visits show, a case and a near miss.
func TestVisits(t *testing.T) {
	always := func(change func(*stay)) func(int) stay {
		return every(1, change)
	}
	forget := func(v *stay) { v.says = v.says[:2] }
	complain := func(v *stay) { v.says = append(v.says, "ERROR TaxException: no rate for region 77") }
	direct := func(v *stay) { v.direct = true }
	for _, tc := range []struct {
		want   string
		before func(*stay) // of one in five requests, in good times too
		now    func(int) stay
		always bool   // before is of every request
		entity string // payment unless set
		name   string
	}{
		{"callee-unanswered", direct, func(n int) stay { v := usual(); v.calls, v.direct = n%2, n%2 == 0; return v }, true, "ledger", ""},
		{"step-vanished", direct, always(func(v *stay) { v.calls, v.direct = 0, true }), true, "", "callee-unanswered, nearly: of one caller only"},
		{"step-vanished", nil, always(forget), false, "", ""},
		{"step-vanished, nearly: it was not always there", forget, always(forget), false, "", ""},
		{"step-vanished, nearly: payment's log feed ended", nil, always(func(v *stay) { v.silent = true }), false, "", ""},
		{"step-appeared", nil, always(complain), false, "", ""},
		{"step-appeared, nearly: it says so as often as ever", complain, every(5, complain), false, "", ""},
		{"operation-failing", nil, always(func(v *stay) { v.fails = true }), false, "", ""},
		{"operation-failing, nearly: as often as ever", func(v *stay) { v.fails = true }, every(5, func(v *stay) { v.fails = true }), false, "", ""},
		{"step-slow", nil, always(func(v *stay) { v.query = 200 * time.Millisecond }), false, "", ""},
		{"step-slow, nearly: by a few milliseconds", nil, always(func(v *stay) { v.query = 15 * time.Millisecond }), false, "", ""},
		{"operation-slow", nil, always(func(v *stay) { v.own = 200 * time.Millisecond }), false, "", ""},
		{"operation-slow, nearly: by a few milliseconds", nil, always(func(v *stay) { v.own = 15 * time.Millisecond }), false, "", ""},
		{"call-delayed", nil, always(func(v *stay) { v.lost = 200 * time.Millisecond }), false, "", ""},
		{"call-delayed, nearly: by a few milliseconds", nil, always(func(v *stay) { v.lost = 15 * time.Millisecond }), false, "", ""},
		{"calls-multiplied", nil, always(func(v *stay) { v.calls = 20 }), false, "", ""},
		{"calls-multiplied, nearly: one more", nil, always(func(v *stay) { v.calls = 2 }), false, "", ""},
	} {
		t.Run(cmp.Or(tc.name, tc.want), func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			before := always(func(*stay) {})
			if tc.before != nil {
				before = every(5, tc.before)
			}
			if tc.always {
				before = always(tc.before)
			}
			s.stays(4*time.Minute, before)
			require.Empty(t, s.findings)
			began := s.clock
			s.stays(40*time.Second, tc.now)
			s.wait(15 * time.Second)
			if want, _, nearly := cutNearly(tc.want); nearly {
				require.Empty(t, titles(s.latest()), want)
				return
			}
			f := s.one()
			assert.Equal(t, tc.want, f.Pattern, f.Summary)
			assert.Equal(t, cmp.Or(tc.entity, "payment"), f.RootCause.Entity.Name, f.Summary)
			assert.WithinDuration(t, began, f.StartedAt, 2*time.Second)
			assert.NotEmpty(t, f.HurtTraces)
			assertCausal(t, f)
			assertComplete(t, f)
			s.wait(10 * time.Minute)
			assert.Equal(t, finding.StateResolved, s.one().State, "it is over when visits are as ever")
		})
	}
}

func cutNearly(name string) (pattern, why string, nearly bool) {
	const sep = ", nearly: "
	for i := range len(name) - len(sep) {
		if name[i:i+len(sep)] == sep {
			return name[:i], name[i+len(sep):], true
		}
	}
	return name, "", false
}

func titles(all []*finding.Finding) (out []string) {
	for _, f := range all {
		out = append(out, f.Pattern+": "+f.Summary)
	}
	return out
}

// gauge hands over one sample of a container's memory, in MB, with what is free.
func (s *scenario) memory(of service, used, free float64) { s.memoryOf(of.resource, used, free) }

func (s *scenario) memoryOf(resource func(pcommon.Resource), used, free float64) {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	resource(rm.Resource())
	metrics := rm.ScopeMetrics().AppendEmpty().Metrics()
	for name, v := range map[string]float64{"container.memory.working_set": used, "container.memory.available": free} {
		m := metrics.AppendEmpty()
		m.SetName(name)
		dp := m.SetEmptyGauge().DataPoints().AppendEmpty()
		dp.SetTimestamp(pcommon.NewTimestampFromTime(s.clock))
		dp.SetDoubleValue(v * 1e6)
	}
	s.engine.Metrics(md)
}

// grow samples memory once a minute, from 300 MB of 1000, and lets time pass.
func (s *scenario) grow(minutes int, at func(minute int) float64) {
	for n := range minutes {
		used := at(n)
		s.memory(payment, used, 1000-used)
		s.wait(time.Minute)
	}
}

// steady is a quiet half an hour, in which it is known to be no warm-up.
func steady(int) float64 { return 300 }

func leak(minute int) float64 { return 300 + 40*float64(minute) }

// TestEarlyWarning: a leak is told before the kernel kills, and becomes an incident
// when it does.
func TestEarlyWarning(t *testing.T) {
	s := newScenario(t)
	s.healthy(5 * time.Second)
	s.grow(30, steady)
	s.healthy(time.Second)
	s.grow(14, leak)
	f := s.one()
	assert.Equal(t, "limit-predicted", f.Pattern)
	assert.Equal(t, finding.StatePredicted, f.State)
	assert.Nil(t, f.ResolvedAt)
	assert.Contains(t, f.Title, "payment runs out of memory at about")
	assertComplete(t, f)

	s.oom(payment)
	s.wait(10 * time.Millisecond)
	s.exit(payment, killed)
	s.refusals(10, "u")
	s.wait(5 * time.Second)
	g := s.one()
	assert.Equal(t, f.ID, g.ID, "the same finding")
	assert.Equal(t, finding.StateOpen, g.State)
	assert.Equal(t, "payment ran out of memory", g.Title)
	assert.EqualValues(t, 10, g.Impact.FailedRequests)
	assertCausal(t, g)
	assertComplete(t, g)
}

// TestEarlyWarningOfAPod: the metrics name the pod, and who tells of the kill names a
// container of it: Kubernetes, after the kernel or alone. That is one finding, and the kill
// of another pod of the same workload is not.
func TestEarlyWarningOfAPod(t *testing.T) {
	pod := func(name string, more ...string) resource {
		r := resource{
			"k8s.namespace.name": "shop", "k8s.deployment.name": "cart", "k8s.pod.name": "cart-7d4b9c-" + name, "k8s.pod.uid": "uid-" + name,
			"k8s.node.name": "node1",
		}
		for n := 0; n < len(more); n += 2 {
			r[more[n]] = more[n+1]
		}
		return r
	}
	for name, tc := range map[string]struct {
		kernel bool
		pod    string
		want   []string
	}{
		"Kubernetes alone":       {false, "a", []string{"limit-predicted open"}},
		"the kernel, Kubernetes": {true, "a", []string{"limit-predicted open"}},
		"another pod":            {false, "b", []string{"limit-predicted predicted", "k8s-container-oom-killed open"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			for n := range 44 {
				used := steady(n)
				if n >= 30 {
					used = leak(n - 30)
				}
				s.memoryOf(func(r pcommon.Resource) { require.NoError(t, r.Attributes().FromRaw(pod("a"))) }, used, 1000-used)
				s.wait(time.Minute)
			}
			require.Equal(t, finding.StatePredicted, s.one().State)
			if tc.kernel {
				s.event(pod(tc.pod, "container.id", "c1", "host.name", "node1"), event.OOMKill, limitHit)
				s.wait(time.Second)
			}
			s.event(pod(tc.pod, "container.id", "c1", "k8s.container.name", "cart"), event.K8sContainerTerminated,
				map[string]any{event.KeyContainerReason: "OOMKilled", "process.exit.code": 137, "k8s.container.restart_count": 1})
			s.wait(time.Second)
			s.event(pod(tc.pod, "k8s.container.name", "cart"), event.K8sContainerWaiting, map[string]any{event.KeyContainerReason: "CrashLoopBackOff"})
			s.wait(10 * time.Second)
			var got []string
			for _, f := range s.latest() {
				got = append(got, f.Pattern+" "+string(f.State))
			}
			assert.Equal(t, tc.want, got, titles(s.latest()))
		})
	}
}

// TestEarlyWarningIsWithdrawn: the growth ends before the limit.
func TestEarlyWarningIsWithdrawn(t *testing.T) {
	s := newScenario(t)
	s.healthy(5 * time.Second)
	s.grow(30, steady)
	s.healthy(time.Second)
	s.grow(14, leak)
	require.Equal(t, finding.StatePredicted, s.one().State)
	s.grow(30, func(int) float64 { return leak(13) })
	f := s.one()
	assert.Equal(t, finding.StateWithdrawn, f.State)
	assert.NotNil(t, f.ResolvedAt)
	n := len(s.findings)
	s.grow(5, func(int) float64 { return leak(13) })
	assert.Len(t, s.findings, n, "the last word")
}

// TestNoEarlyWarning: what does not grow for good, or not far enough.
func TestNoEarlyWarning(t *testing.T) {
	for name, at := range map[string]func(int) float64{
		"a sawtooth of collections": func(n int) float64 { return 300 + 60*float64(n%8) },
		"far from the limit":        func(n int) float64 { return 300 + float64(n) },
		"steady":                    func(int) float64 { return 850 },
		"a warm-up":                 func(n int) float64 { return leak(min(n, 12)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.healthy(5 * time.Second)
			s.grow(60, at)
			assert.Empty(t, titles(s.latest()))
		})
	}
}
