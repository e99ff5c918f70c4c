package incident

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

const sec = int64(time.Second)

var t0 = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano()

// rig is an incident of payment's end and the requests of storefront.
type rig struct {
	*Incident
	graph      *topology.Graph
	storefront topology.Ref
	address    record.EntityID
	requests   *detect.Requests
	hypothesis func(id, event string) *explain.Hypothesis
}

func newRig(t *testing.T, maxTraces int) *rig {
	t.Helper()
	g := topology.New(topology.Limits{Entities: 1000, OperationsPerService: 1000})
	r := &rig{graph: g, requests: detect.NewRequests(10_000)}
	r.storefront = g.Resolve(&topology.Resource{Service: "storefront", Host: "node1", PID: 11}, t0)
	payment := g.Resolve(&topology.Resource{Service: "payment", Host: "node1", PID: 12}, t0)
	r.address = g.Address(0, "10.0.0.7", 8081, t0)
	g.Owned(r.address, payment.Subject, t0-sec)
	patterns, err := pattern.Library()
	require.NoError(t, err)
	r.hypothesis = func(id, name string) *explain.Hypothesis {
		for _, p := range patterns {
			if p.ID == id {
				o := &detect.Occurrence{Name: name, Time: t0, Subject: payment.Subject, Detail: &record.Detail{Name: name}}
				return explain.New(g, p, explain.Cause{Event: name, Time: t0, Entity: payment.Subject, Occurrence: o}, r.address)
			}
		}
		t.Fatalf("no pattern %s", id)
		return nil
	}
	r.Incident = New(g, r.hypothesis("process-crashed", event.ProcessExit), Options{
		Weights: explain.Weights{Completeness: 0.4, Reliability: 0.4, Timing: 0.2}, ValueAttribute: "order.amount", MaxTraces: maxTraces,
	})
	return r
}

// add adds a span of storefront to request n: a root when parent is 0.
func (r *rig) add(n int, id, parent byte, kind record.SpanKind, change func(*record.Span)) (*detect.Request, detect.HurtSpan) {
	var trace record.TraceID
	binary.BigEndian.PutUint64(trace[8:], uint64(n)+1)
	op, _, _ := r.graph.Operation(r.storefront.Service, kind, "POST /orders", t0)
	s := &record.Span{ID: record.SpanID{id}, Kind: kind, Start: t0 + sec, End: t0 + sec + int64(n), Name: "POST /orders", Operation: op, Failed: true}
	if parent != 0 {
		s.Parent = record.SpanID{parent}
	}
	if kind == record.SpanClient {
		s.Peer, s.Failure = r.address, record.FailureRefused
	}
	if change != nil {
		change(s)
	}
	h := detect.HurtSpan{Span: s, Subject: r.storefront.Subject}
	q, _ := r.requests.Add(trace, h, 0)
	return q, h
}

// order is a whole request that failed at its root.
func (r *rig) order(n int, user string, amount float64) *detect.Request {
	r.add(n, 2, 1, record.SpanClient, nil)
	q, _ := r.add(n, 1, 0, record.SpanServer, func(s *record.Span) {
		s.User, s.UserKey, s.Value, s.HasValue = user, "user.id", amount, true
	})
	r.Assign(q)
	return q
}

func TestRequestsUsersAndValue(t *testing.T) {
	r := newRig(t, 1000)
	for n := range 1000 {
		q := r.order(n, fmt.Sprint("user", n%250), 1.5)
		r.Count(q)
		r.Count(q) // as often as spans arrive and requests settle
	}
	m := r.Finding(t0).Impact
	assert.EqualValues(t, 1000, m.FailedRequests)
	assert.Zero(t, m.SlowRequests)
	require.NotNil(t, m.Users)
	assert.InDelta(t, 250, *m.Users, 250*0.03, "HyperLogLog with 2^14 registers")
	assert.Equal(t, "user.id", m.UserAttribute)
	require.NotNil(t, m.Value)
	assert.InDelta(t, 1500, *m.Value, 1e-6, "each order once")
	assert.Equal(t, []string{"storefront"}, m.Services, "without the root")
	assert.Equal(t, []string{"storefront POST /orders"}, m.Operations)
}

func TestUsersAreDistinct(t *testing.T) {
	for _, distinct := range []int{1, 10, 100, 10_000} {
		r := newRig(t, 1)
		for n := range distinct {
			r.order(n, fmt.Sprint("user", n), 0)
		}
		assert.InEpsilon(t, distinct, *r.Finding(t0).Impact.Users, 0.03)
	}
}

// One order's amount often stands on several of its spans.
func TestValueOncePerRequest(t *testing.T) {
	r := newRig(t, 10)
	amount := func(s *record.Span) { s.Value, s.HasValue = 10, true }
	q, _ := r.add(1, 1, 0, record.SpanServer, amount)
	r.Assign(q)
	_, late := r.add(1, 2, 1, record.SpanClient, amount)
	r.AddSpan(q, late)
	assert.InDelta(t, 10, *r.Finding(t0).Impact.Value, 0)
}

func TestWhatNoTelemetryCarriesIsUnknown(t *testing.T) {
	r := newRig(t, 10)
	q, _ := r.add(1, 1, 0, record.SpanServer, nil)
	r.Assign(q)
	f := r.Finding(t0)
	assert.Nil(t, f.Impact.Users)
	assert.Nil(t, f.Impact.Value)
	assert.Equal(t, "order.amount", f.Impact.ValueAttribute, "what was looked for")
	assert.Contains(t, f.Summary, "users unknown")
	assert.Contains(t, f.Summary, "value unknown: no failed request carried order.amount")
}

func TestValueStaysANumber(t *testing.T) {
	r := newRig(t, 10)
	r.order(1, "u", math.MaxFloat64)
	r.order(2, "u", math.MaxFloat64)
	r.order(3, "u", -1)
	assert.False(t, math.IsInf(*r.Finding(t0).Impact.Value, 0))
}

// A call that failed is not a request that failed: the caller may have tried again.
func TestCallThatWasCopedWithIsNotCounted(t *testing.T) {
	r := newRig(t, 10)
	q, _ := r.add(1, 2, 1, record.SpanClient, nil)
	r.Assign(q)
	q.Settled = true
	r.Count(q)
	f := r.Finding(t0)
	assert.Zero(t, f.Impact.FailedRequests)
	assert.Empty(t, f.HurtTraces)
	assert.Contains(t, f.Summary, "no request was seen to be hurt")
}

// A server span whose caller is not there counts once nothing more is waited for.
func TestRequestWithoutRootCountsWhenSettled(t *testing.T) {
	r := newRig(t, 10)
	q, _ := r.add(1, 2, 9, record.SpanServer, nil)
	r.Assign(q)
	assert.Zero(t, r.Finding(t0).Impact.FailedRequests)
	q.Settled = true
	r.Count(q)
	assert.EqualValues(t, 1, r.Finding(t0).Impact.FailedRequests)
}

func TestSlowRequests(t *testing.T) {
	r := newRig(t, 10)
	q, _ := r.add(1, 1, 0, record.SpanServer, func(s *record.Span) {
		s.Failed, s.Slow, s.User, s.UserKey, s.Value, s.HasValue = false, true, "u", "user.id", 5, true
	})
	r.Assign(q)
	m := r.Finding(t0).Impact
	assert.EqualValues(t, 1, m.SlowRequests)
	assert.Zero(t, m.FailedRequests)
	assert.EqualValues(t, 1, *m.Users)
	assert.Nil(t, m.Value, "a slow order is not a lost one")
}

func TestHurtTracesAreBounded(t *testing.T) {
	r := newRig(t, 3)
	for n := range 10 {
		r.order(n, "u", 1)
	}
	f := r.Finding(t0)
	assert.EqualValues(t, 10, f.Impact.FailedRequests)
	require.Len(t, f.HurtTraces, 3)
	assert.True(t, strings.HasPrefix(f.HurtTraces[0].SpanID, "02"), "the span that failed first")
	assert.Equal(t, finding.LayerBusiness, f.Chain[len(f.Chain)-1].Layer)
	assert.EqualValues(t, 10, f.Chain[len(f.Chain)-1].Count)
}

func TestNamesAreBounded(t *testing.T) {
	r := newRig(t, 3)
	for n := range 200 {
		q, _ := r.add(n, 1, 0, record.SpanServer, func(s *record.Span) { s.Name = fmt.Sprint("GET /", n) })
		r.Assign(q)
	}
	assert.Len(t, r.Finding(t0).Impact.Operations, maxNames)
}

func TestRevisions(t *testing.T) {
	r := newRig(t, 10)
	assert.True(t, r.Dirty)
	assert.False(t, r.Emitted())
	first := r.Finding(t0 + sec)
	assert.True(t, r.Emitted())
	assert.False(t, r.Dirty)
	r.order(1, "u", 1)
	assert.True(t, r.Dirty)
	second := r.Finding(t0 + 9*sec)
	assert.Equal(t, 1, first.Revision)
	assert.Equal(t, 2, second.Revision)
	assert.Equal(t, first.ID, second.ID)
	assert.Equal(t, first.DetectedAt, second.DetectedAt, "detected once")
	assert.Equal(t, sec, int64(first.TimeToDetection()))

	r.Resolve(t0+2*sec, "Quiet.")
	f := r.Finding(t0 + 300*sec)
	assert.Equal(t, finding.StateResolved, f.State)
	assert.Equal(t, record.UTC(t0+2*sec), *f.ResolvedAt)
	r.Reopen()
	f = r.Finding(t0 + 301*sec)
	assert.Equal(t, finding.StateOpen, f.State)
	assert.Nil(t, f.ResolvedAt)
}

func TestReplaceKeepsIDAndCounts(t *testing.T) {
	r := newRig(t, 10)
	r.order(1, "u", 1)
	before := r.Finding(t0)
	r.Replace(r.hypothesis("memory-limit-oom-kill", event.OOMKill), t0+2*sec, "It was seen.")
	f := r.Finding(t0)
	assert.Equal(t, before.ID, f.ID)
	assert.Equal(t, "memory-limit-oom-kill", f.Pattern)
	assert.Equal(t, before.Impact, f.Impact)
	assert.Empty(t, before.EarlierCauses)
	require.Len(t, f.EarlierCauses, 1)
	was := f.EarlierCauses[0]
	assert.Equal(t, says(before).Title, was.Title)
	assert.Equal(t, []any{1, record.UTC(t0 + 2*sec), "It was seen."}, []any{was.Revision, was.Until, was.Reason})
	assert.Contains(t, strings.Join(f.Actions.Immediate, "\n"), "request has failed since")
}

func TestEarlierCausesAreBounded(t *testing.T) {
	r := newRig(t, 10)
	r.order(1, "u", 1)
	names := []string{"memory-limit-oom-kill", "process-killed"}
	events := []string{event.OOMKill, event.ProcessExit}
	for n := range 2 * finding.MaxEarlierCauses {
		r.Finding(t0)
		r.Replace(r.hypothesis(names[n%2], events[n%2]), t0, "x")
		r.Replace(r.hypothesis(names[n%2], events[n%2]), t0, "again, before anybody saw it")
	}
	f := r.Finding(t0)
	require.Len(t, f.EarlierCauses, finding.MaxEarlierCauses)
	assert.Equal(t, f.Revision-1, f.EarlierCauses[finding.MaxEarlierCauses-1].Revision)
	assert.Equal(t, f.Revision-finding.MaxEarlierCauses, f.EarlierCauses[0].Revision, "the oldest are forgotten")
	r.Replace(r.hypothesis(names[1], events[1]), t0, "the same cause")
	assert.Equal(t, f.EarlierCauses, r.Finding(t0).EarlierCauses)
}

// TestStartOfWhatIsNoticedLate: the record of a cause can have a later time than what it
// caused; the incident was there before, and was detected after it began.
func TestStartOfWhatIsNoticedLate(t *testing.T) {
	r := newRig(t, 10)
	r.order(1, "u", 1)
	first := r.Finding(t0 + 10*sec)
	h := r.hypothesis("memory-limit-oom-kill", event.OOMKill)
	h.Cause.Time += 20 * sec // such as a state that is noticed late
	r.Replace(h, t0+20*sec, "It was seen.")
	r.order(2, "u", 1)
	f := r.Finding(t0 + 20*sec)
	assert.Equal(t, first.DetectedAt, f.DetectedAt)
	assert.GreaterOrEqual(t, f.TimeToDetection(), time.Duration(0))
	assert.True(t, f.StartedAt.Before(record.UTC(h.Cause.Time)), "with its first effect")
}

func TestReady(t *testing.T) {
	r := newRig(t, 10)
	assert.False(t, r.Ready(0), "its pattern wants a request that was hurt")
	r.order(1, "u", 1)
	assert.True(t, r.Ready(0.7))
	assert.False(t, r.Ready(0.99))
	assert.Nil(t, Of(&detect.Request{}))
	assert.Same(t, r.Incident, Of(r.order(2, "u", 1)))
}

func TestWordsForPeople(t *testing.T) {
	users, value := int64(1), 12.5
	for want, m := range map[string]finding.Impact{
		"1 request failed for 1 user":            {FailedRequests: 1, Users: &users, Value: &value},
		"2 requests failed":                      {FailedRequests: 2},
		"1 request was slow":                     {SlowRequests: 1},
		"3 requests were slow":                   {SlowRequests: 3},
		"2 requests failed and 1 more was slow":  {FailedRequests: 2, SlowRequests: 1},
		"2 requests failed and 3 more were slow": {FailedRequests: 2, SlowRequests: 3},
	} {
		title, _ := businessWords(m, "order.amount")
		assert.Equal(t, want, title)
	}
	_, detail := businessWords(finding.Impact{FailedRequests: 1, Users: &users, Value: &value}, "order.amount")
	assert.Equal(t, "order.amount 12.50 in total", detail)
	_, detail = businessWords(finding.Impact{FailedRequests: 1, Users: &users}, "")
	assert.Equal(t, "value unknown: no impact.value_attribute is configured", detail)
}

// A request that another incident hurt, and that this one made slower, can become its own.
func TestSharedRequestBecomesItsOwn(t *testing.T) {
	r := newRig(t, 10)
	other := New(r.graph, r.hypothesis("process-killed", event.ProcessExit), r.options)
	r.add(1, 2, 1, record.SpanClient, nil)
	q, _ := r.add(1, 1, 0, record.SpanServer, func(s *record.Span) {
		s.User, s.UserKey, s.Value, s.HasValue = "u", "user.id", 5, true
	})
	other.Assign(q)
	r.Share(q)
	m := r.Finding(t0).Impact
	assert.EqualValues(t, 1, m.SlowRequests)
	assert.Zero(t, m.FailedRequests)
	assert.Nil(t, m.Value)

	r.Assign(q)
	m = r.Finding(t0).Impact
	assert.Zero(t, m.SlowRequests)
	assert.EqualValues(t, 1, m.FailedRequests)
	require.NotNil(t, m.Value)
	assert.InDelta(t, 5, *m.Value, 0)
	assert.EqualValues(t, 1, *m.Users)
}
