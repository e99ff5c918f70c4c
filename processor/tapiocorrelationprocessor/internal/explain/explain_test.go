package explain

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

const sec = int64(time.Second)

var (
	t0       = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano()
	defaults = Weights{Completeness: 0.4, Reliability: 0.4, Timing: 0.2}
)

// world is a topology of storefront and payment, which answered at an address.
type world struct {
	t                   *testing.T
	graph               *topology.Graph
	storefront, payment topology.Ref
	address             record.EntityID
	patterns            map[string]*pattern.Pattern
}

func newWorld(t *testing.T) *world {
	t.Helper()
	g := topology.New(topology.Limits{Entities: 10_000, OperationsPerService: 1000})
	w := &world{t: t, graph: g, patterns: map[string]*pattern.Pattern{}}
	w.storefront = g.Resolve(&topology.Resource{Service: "storefront", Host: "node1", PID: 11}, t0)
	w.payment = g.Resolve(&topology.Resource{Service: "payment", ServiceVersion: "v2", Host: "node1", PID: 12, Container: "c1", VPID: 1, PodUID: "u1", PodName: "payment-1"}, t0)
	w.address = g.Address(0, "10.0.0.7", 8081, t0)
	g.Owned(w.address, w.payment.Subject, t0-sec)
	ps, err := pattern.Library()
	require.NoError(t, err)
	for _, p := range ps {
		w.patterns[p.ID] = p
	}
	return w
}

func occurrence(name string, at int64, who record.EntityID, attrs ...record.Attr) *detect.Occurrence {
	return &detect.Occurrence{Name: name, Time: at, Subject: who, Detail: &record.Detail{Name: name, Attrs: attrs}}
}

func (w *world) hypothesis(id string, o *detect.Occurrence) *Hypothesis {
	w.t.Helper()
	p := w.patterns[id]
	require.NotNil(w.t, p, id)
	return New(w.graph, p, Cause{Event: o.Name, Time: o.Time, Entity: o.Subject, Attributes: o.Detail.Attrs, Occurrence: o}, w.address)
}

func (w *world) oom() *Hypothesis {
	return w.hypothesis("memory-limit-oom-kill", occurrence(event.OOMKill, t0, w.payment.Subject, record.Attr{Key: event.KeyOOMScope, Value: "cgroup"}))
}

func killedAt(at int64, who record.EntityID) *detect.Occurrence {
	return occurrence(event.ProcessExit, at, who, record.Attr{Key: event.KeyExitSignal, Value: int64(9)}, record.Attr{Key: event.KeyExitSignalName, Value: "SIGKILL"})
}

func (w *world) refusedAt(at int64) *detect.Occurrence {
	o := occurrence(event.TCPConnectFailed, at, w.storefront.Subject)
	o.Detail.Peer = w.address
	return o
}

// request makes a request of hurt spans: span n is the child of parents[n] (0: a
// root), a call of storefront to payment that is refused.
func (w *world) request(n int, at int64, parents ...byte) *detect.Request {
	var trace record.TraceID
	binary.BigEndian.PutUint64(trace[8:], uint64(n)+1)
	rs := detect.NewRequests(10)
	var r *detect.Request
	for i, parent := range parents {
		name := fmt.Sprint("call ", i)
		op, _, _ := w.graph.Operation(w.storefront.Service, record.SpanClient, name, at)
		s := &record.Span{
			ID: record.SpanID{byte(i) + 1}, Kind: record.SpanClient, Start: at - 10, End: at + int64(i), Name: name, Operation: op,
			Peer: w.address, Failed: true, Failure: record.FailureRefused,
		}
		if parent != 0 {
			s.Parent = record.SpanID{parent}
		}
		r, _ = rs.Add(trace, detect.HurtSpan{Span: s, Subject: w.storefront.Subject}, 0)
	}
	return r
}

// The library's pattern expects: exit (weight 2, within 30s), connect (1), call (2)
// and request (1), and says reliability 0.99.
func TestConfidenceByHand(t *testing.T) {
	const process, address = 0.98, 0.95
	for _, tc := range []struct {
		name                              string
		weights                           Weights
		see                               func(*world, *Hypothesis)
		completeness, reliability, timing float64
	}{
		{"the cause alone", defaults, func(*world, *Hypothesis) {}, 0, 0.99, 1},
		{"the exit at once", defaults, func(w *world, h *Hypothesis) { h.Offer(killedAt(t0, w.payment.Subject)) }, 2.0 / 6, 0.99 * process, 1},
		{"the exit half of its time later", defaults, func(w *world, h *Hypothesis) { h.Offer(killedAt(t0+15*sec, w.payment.Subject)) }, 2.0 / 6, 0.99 * process, 0.75},
		{"the exit at the end of its time", defaults, func(w *world, h *Hypothesis) { h.Offer(killedAt(t0+30*sec, w.payment.Subject)) }, 2.0 / 6, 0.99 * process, 0.5},
		{"the exit seemingly before", defaults, func(w *world, h *Hypothesis) { h.Offer(killedAt(t0-sec/2, w.payment.Subject)) }, 2.0 / 6, 0.99 * process, 0.5},
		{"exit and connection", defaults, func(w *world, h *Hypothesis) {
			h.Offer(killedAt(t0, w.payment.Subject))
			h.Offer(w.refusedAt(t0))
		}, 3.0 / 6, 0.99 * (1 - (1-process)*(1-address)), 1},
		{"other weights", Weights{1, 1, 2}, func(w *world, h *Hypothesis) { h.Offer(killedAt(t0, w.payment.Subject)) }, 2.0 / 6, 0.99 * process, 1},
		{"only completeness counts", Weights{Completeness: 0.1}, func(w *world, h *Hypothesis) { h.Offer(killedAt(t0, w.payment.Subject)) }, 2.0 / 6, 0.99 * process, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			h := w.oom()
			tc.see(w, h)
			c := h.Confidence(tc.weights)
			assert.InDelta(t, tc.completeness, c.Completeness, 1e-9)
			assert.InDelta(t, tc.reliability, c.Reliability, 1e-9)
			assert.InDelta(t, tc.timing, c.Timing, 1e-9)
			sum := tc.weights.Completeness + tc.weights.Reliability + tc.weights.Timing
			want := (tc.weights.Completeness*tc.completeness + tc.weights.Reliability*tc.reliability + tc.weights.Timing*tc.timing) / sum
			assert.InDelta(t, want, c.Score, 1e-9)
		})
	}
	assert.InDelta(t, 0.596, newWorld(t).oom().Confidence(defaults).Score, 1e-9, "a kill alone is below the default min_score")
}

func TestOffer(t *testing.T) {
	w := newWorld(t)
	h := w.oom()
	other := w.graph.Resolve(&topology.Resource{Service: "ledger", Host: "node1", PID: 13}, t0)
	sidecar := w.graph.Resolve(&topology.Resource{Host: "node1", PID: 14, VPID: 7, Container: "c1", PodUID: "u1"}, t0)
	elsewhere := w.refusedAt(t0)
	elsewhere.Detail.Peer = w.graph.Address(0, "10.0.0.8", 8081, t0)
	code := occurrence(event.ProcessExit, t0, w.payment.Subject, record.Attr{Key: event.KeyProcessExitCode, Value: int64(1)})
	for name, o := range map[string]*detect.Occurrence{
		"itself": h.Cause.Occurrence, "another process": killedAt(t0, other.Subject), "too early": killedAt(t0-2*sec, w.payment.Subject),
		"too late": killedAt(t0+31*sec, w.payment.Subject), "a condition fails": code, "another address": elsewhere,
		"no pattern expects it": occurrence("deploy", t0, w.payment.Subject),
	} {
		assert.False(t, h.Offer(o), name)
		assert.False(t, h.Explains(o), name)
	}
	exit := killedAt(t0, w.payment.Subject)
	assert.True(t, h.Offer(exit))
	assert.True(t, h.Explains(exit))
	assert.False(t, h.Offer(exit), "once")
	assert.True(t, h.Offer(killedAt(t0, sidecar.Subject)), "of its container")
	assert.True(t, h.Offer(w.refusedAt(t0+sec)))
	assert.False(t, h.Explains(nil))
}

func TestBetter(t *testing.T) {
	w := newWorld(t)
	oom := w.oom()
	exit := killedAt(t0+sec, w.payment.Subject)
	killed := w.hypothesis("process-killed", exit)
	killed.Offer(w.refusedAt(t0 + 2*sec))
	require.True(t, oom.Offer(exit))
	assert.Negative(t, Better(oom, killed, defaults), "it explains the other's cause")
	assert.Positive(t, Better(killed, oom, defaults))

	a, b := w.oom(), w.oom()
	a.Offer(killedAt(t0, w.payment.Subject))
	assert.Negative(t, Better(a, b, defaults), "the surer one")
	later := w.hypothesis("memory-limit-oom-kill", occurrence(event.OOMKill, t0+sec, w.payment.Subject))
	assert.Negative(t, Better(b, later, defaults), "the earlier one")
	assert.Zero(t, Better(b, w.oom(), defaults))
}

func TestCovers(t *testing.T) {
	w := newWorld(t)
	h := w.oom()
	other := w.graph.Resolve(&topology.Resource{Service: "payment", Host: "node2", PID: 99}, t0)
	for name, tc := range map[string]struct {
		target Target
		at     int64
		want   bool
	}{
		"its process":                     {Target{Process: w.payment.Subject}, t0 + sec, true},
		"its address, nobody knows whose": {Target{Address: w.address}, t0 + sec, true},
		"another address":                 {Target{Address: w.address + 1}, t0 + sec, false},
		"another instance of the service": {Target{Process: other.Subject, Service: w.payment.Service}, t0 + sec, false},
		"before the cause":                {Target{Process: w.payment.Subject}, t0 - 2*sec, false},
		"a little before: clocks differ":  {Target{Process: w.payment.Subject}, t0 - sec/2, true},
		"long after":                      {Target{Process: w.payment.Subject}, t0 + 301*sec, false},
		"nothing known":                   {Target{}, t0 + sec, false},
	} {
		assert.Equal(t, tc.want, h.Covers(tc.target, tc.at), name)
	}
}

func TestSameIsARepetition(t *testing.T) {
	w := newWorld(t)
	h := w.oom()
	again := w.graph.Resolve(&topology.Resource{Service: "payment", Host: "node1", PID: 77}, t0+60*sec)
	o := occurrence(event.OOMKill, t0+60*sec, again.Subject)
	assert.True(t, h.Same(h.Pattern, o))
	assert.False(t, h.Same(w.patterns["process-killed"], o))
	assert.False(t, h.Same(h.Pattern, occurrence(event.OOMKill, t0, w.storefront.Subject)))
	h.Repeat(o)
	assert.EqualValues(t, 2, h.RootCause().Evidence["tapio.cause.count"])
	chain := h.Chain()
	assert.EqualValues(t, 2, chain[0].Count)
	assert.Equal(t, record.UTC(t0+60*sec), chain[0].Last)
	assert.True(t, h.Covers(Target{Process: again.Subject}, t0+61*sec))
}

func TestTargetOf(t *testing.T) {
	w := newWorld(t)
	target, origin := TargetOf(w.graph, w.request(1, t0, 0, 1))
	assert.Equal(t, Target{Caller: w.storefront.Subject, Began: origin.Start, Address: w.address, Process: w.payment.Subject, Service: w.payment.Service}, target)
	assert.Equal(t, record.SpanID{2}, origin.ID, "the deepest")
	assert.Equal(t, w.payment.Service, target.Key())
	assert.Equal(t, w.address, Target{Address: w.address}.Key())
}

// assertTree checks that every link but the first follows from one before it.
func assertTree(t *testing.T, chain []finding.Link) {
	t.Helper()
	require.NotEmpty(t, chain)
	assert.Empty(t, chain[0].Parent)
	seen := map[string]bool{}
	for i, l := range chain {
		assert.False(t, seen[l.Key], "%s twice", l.Key)
		if i > 0 {
			assert.True(t, seen[l.Parent], "%s follows from %q, which is not before it", l.Key, l.Parent)
		}
		seen[l.Key] = true
	}
}

func TestChainFollowsTheCalls(t *testing.T) {
	w := newWorld(t)
	h := w.oom()
	h.Offer(killedAt(t0+1, w.payment.Subject))
	h.Offer(w.refusedAt(t0 + sec))
	r := w.request(1, t0+sec, 0, 1)
	h.AddSpans(r, r.Spans...)
	chain := h.Chain()
	assertTree(t, chain)
	var events []string
	for _, l := range chain {
		events = append(events, l.Event)
	}
	assert.Equal(t, []string{event.OOMKill, event.ProcessExit, event.TCPConnectFailed, pattern.CallFailed, pattern.RequestFailed}, events)
	for i := 1; i < len(chain); i++ {
		assert.Equal(t, chain[i-1].Key, chain[i].Parent)
		assert.NotEmpty(t, chain[i].LinkedBy)
		assert.NotEmpty(t, chain[i].LinkedOn)
	}
	assert.Equal(t, "storefront", h.Caller())
}

// Whoever is said to be whose parent, the chain is a tree and is written.
func TestChainOfHostileParents(t *testing.T) {
	for name, parents := range map[string][]byte{
		"each other's": {2, 1}, "itself": {1}, "a ring of five": {5, 1, 2, 3, 4}, "a ring with a tail": {2, 1, 1, 3}, "strangers": {9, 9, 9},
		"two roots": {0, 0, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			h := w.oom()
			h.Offer(w.refusedAt(t0 + sec))
			for n := range 3 {
				r := w.request(n, t0+sec, parents...)
				h.AddSpans(r, r.Spans...)
				for i := range r.Spans { // the same operations the other way round
					r.Spans[i].Parent = record.SpanID{parents[len(parents)-1-i]}
				}
				h.AddSpans(r, r.Spans...)
			}
			assertTree(t, h.Chain())
		})
	}
}

func TestChainIsBounded(t *testing.T) {
	w := newWorld(t)
	h := w.oom()
	for n := range 500 {
		r := w.request(n, t0+sec, 0)
		op, _, _ := w.graph.Operation(w.storefront.Service, record.SpanClient, fmt.Sprint("op", n), t0)
		r.Spans[0].Operation = op
		h.AddSpans(r, r.Spans...)
	}
	chain := h.Chain()
	assert.Len(t, chain, maxLinks)
	assertTree(t, chain)
}

func TestMissing(t *testing.T) {
	w := newWorld(t)
	h := w.oom()
	before := h.Missing()
	assert.Contains(t, before, "The exit of the killed process was not seen.")
	h.Offer(killedAt(t0, w.payment.Subject))
	assert.NotContains(t, h.Missing(), "The exit of the killed process was not seen.")
	assert.Len(t, h.Missing(), len(before)-1)
}

// A pod does not say on which node it is, but what is part of it may have.
func TestNodeOfAPod(t *testing.T) {
	w := newWorld(t)
	pod := w.graph.PlaceOf(w.payment.Subject).Pod
	require.NotZero(t, pod)
	h := w.hypothesis("route-missing", occurrence(event.CNIRouteMissing, t0, pod, record.Attr{Key: event.KeyCNIRoute, Value: "10.0.0.7/32"}))
	assert.Equal(t, "A route is missing on node1", h.Chain()[0].Title)
}

func TestWords(t *testing.T) {
	w := newWorld(t)
	assert.Equal(t, "payment v2 (pid 12)", Words(w.graph, w.payment.Subject))
	assert.Equal(t, "10.0.0.7:8081", Words(w.graph, w.address))
	assert.Equal(t, "an unknown source", Words(w.graph, 0))
	assert.Equal(t, finding.Entity{Kind: "unknown", Name: "unknown"}, EntityOf(w.graph, 0))
	e := EntityOf(w.graph, w.payment.Subject)
	assert.Equal(t, "process", e.Kind)
	assert.Equal(t, "payment", e.Attributes[event.KeyServiceName])
}
