package slo

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// The entities of the tests.
const (
	cart, checkout, other                                  record.EntityID = 1, 2, 3
	getCart, placeOrder, callBank, listOrders, otherListed record.EntityID = 11, 12, 13, 14, 15
)

func resolve(op record.EntityID) (Target, bool) {
	switch op {
	case getCart:
		return Target{Service: cart, Name: "cart", Namespace: "shop", Operation: "GET /cart"}, true
	case placeOrder:
		return Target{Service: checkout, Name: "checkout", Namespace: "shop", Operation: "POST /order"}, true
	case listOrders:
		return Target{Service: checkout, Name: "checkout", Namespace: "shop", Operation: "GET /orders"}, true
	case otherListed:
		return Target{Service: other, Name: "checkout", Namespace: "test", Operation: "GET /orders"}, true
	}
	return Target{}, false
}

func tracker(t *testing.T, objectives ...Objective) *Tracker {
	t.Helper()
	tr, err := New(objectives, resolve)
	require.NoError(t, err)
	return tr
}

// load sends a request every second until a time, of which a share fails, evenly.
func load(tr *Tracker, op record.EntityID, from, to time.Time, failing float64) {
	due := 0.0
	for at := from; at.Before(to); at = at.Add(time.Second) {
		due += failing
		failed := due >= 1
		if failed {
			due--
		}
		tr.Observe(op, at.UnixNano(), int64(10*time.Millisecond), failed)
	}
}

func TestBurn(t *testing.T) {
	for _, test := range []struct {
		name     string
		failing  float64 // of the last hour
		before   float64 // of the three days before
		severity Severity
		burn     float64
		window   time.Duration
	}{
		{"all is well", 0, 0, SeverityNone, 0, time.Hour},
		{"as much as is allowed", 0.01, 0, SeverityNone, 1, time.Hour},
		{"2 % of the budget in an hour", 0.150, 0, SeverityPage, 15, time.Hour},
		{"nearly that", 0.138, 0, SeverityNone, 13.8, time.Hour},
		{"for six hours", 0.065, 0.065, SeverityPage, 6.5, 6 * time.Hour},
		{"for three days", 0.011, 0.011, SeverityTicket, 1.1, 3 * day},
		{"an hour after three days", 0, 0.2, SeverityTicket, 19.7, 3 * day},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := tracker(t, Objective{Service: "cart", Target: 0.99})
			load(tr, getCart, noon.Add(-3*day), noon.Add(-61*time.Minute), test.before)
			load(tr, getCart, noon.Add(-61*time.Minute), noon, test.failing)
			got := tr.Status(cart, noon.UnixNano())
			require.Len(t, got, 1)
			assert.Equal(t, test.severity, got[0].Severity)
			assert.InDelta(t, test.burn, got[0].Burn, 0.05*test.burn)
			assert.Equal(t, test.window, got[0].BurnWindow)
			assert.Equal(t, DefaultWindow, got[0].Window)
			assert.InDelta(t, 3*day.Seconds(), got[0].Requests, 1)
			assert.Equal(t, 3*day, got[0].Covered)
		})
	}
}

// An alarm ends with the burn, not an hour after it.
func TestShortWindowEndsTheAlarm(t *testing.T) {
	tr := tracker(t, Objective{Service: "cart", Target: 0.999})
	load(tr, getCart, noon.Add(-time.Hour), noon, 0.1)
	assert.Equal(t, SeverityPage, tr.Status(cart, noon.UnixNano())[0].Severity)
	load(tr, getCart, noon, noon.Add(8*time.Minute), 0)
	got := tr.Status(cart, noon.Add(8*time.Minute).UnixNano())[0]
	assert.Equal(t, SeverityPage, got.Severity, "still so within six hours")
	assert.Equal(t, 6*time.Hour, got.BurnWindow)
	load(tr, getCart, noon.Add(8*time.Minute), noon.Add(40*time.Minute), 0)
	got = tr.Status(cart, noon.Add(40*time.Minute).UnixNano())[0]
	assert.Equal(t, SeverityTicket, got.Severity)
}

func TestWindowsStretch(t *testing.T) {
	tr := tracker(t, Objective{Service: "cart", Target: 0.999, Window: 90 * day})
	load(tr, getCart, noon.Add(-3*time.Hour), noon, 0.015)
	got := tr.Status(cart, noon.UnixNano())[0]
	assert.Equal(t, SeverityPage, got.Severity)
	assert.Equal(t, 3*time.Hour, got.BurnWindow)
	tr = tracker(t, Objective{Service: "cart", Target: 0.999, Window: day})
	load(tr, getCart, noon.Add(-2*time.Minute), noon, 0.05)
	got = tr.Status(cart, noon.UnixNano())[0]
	assert.Equal(t, 2*time.Minute, got.BurnWindow)
}

func TestFewFailuresAreChance(t *testing.T) {
	for bad, want := range map[int]Severity{2: SeverityNone, 3: SeverityPage} {
		tr := tracker(t, Objective{Service: "cart", Target: 0.999})
		for i := range 10 {
			tr.Observe(getCart, noon.Add(time.Duration(i)*time.Second).UnixNano(), 1, i < bad)
		}
		assert.Equal(t, want, tr.Status(cart, noon.Add(time.Minute).UnixNano())[0].Severity)
	}
}

func TestBudgetLeft(t *testing.T) {
	tr := tracker(t, Objective{Service: "cart", Target: 0.99, Window: 10 * day})
	load(tr, getCart, noon.Add(-5*day), noon, 0.01)
	got := tr.Status(cart, noon.UnixNano())[0]
	assert.InDelta(t, 0.5, got.Left, 0.01, "half of the window at a burn of 1")
	load(tr, getCart, noon, noon.Add(5*day), 0.03)
	got = tr.Status(cart, noon.Add(5*day).UnixNano())[0]
	assert.InDelta(t, -1, got.Left, 0.1, "twice the budget")
	assert.Equal(t, 10*day, got.Covered)
	tr = tracker(t, Objective{Service: "cart", Target: 0.99})
	load(tr, getCart, noon, noon.Add(time.Minute), 1)
	got = tr.Status(cart, noon.Add(time.Minute).UnixNano())[0]
	assert.InDelta(t, 1-100.0/720, got.Left, 0.01, "a minute is counted as an hour: 100 times 1/720 of the window")
}

func TestLatency(t *testing.T) {
	tr := tracker(t, Objective{Service: "cart", Target: 0.99, Latency: 300 * time.Millisecond})
	for i, ms := range []int64{299, 300, 301, 5000} {
		tr.Observe(getCart, noon.Add(time.Duration(i)*time.Second).UnixNano(), ms*1e6, false)
	}
	got := tr.Status(cart, noon.Add(time.Minute).UnixNano())[0]
	assert.InDelta(t, 4, got.Requests, 0)
	assert.InDelta(t, 2, got.Bad, 0)
}

func TestWhichObjective(t *testing.T) {
	tr := tracker(t,
		Objective{Target: 0.9},
		Objective{Service: "checkout", Target: 0.99},
		Objective{Service: "checkout", Namespace: "test", Target: 0.5},
		Objective{Service: "checkout", Operation: "POST /order", Target: 0.999},
	)
	for _, op := range []record.EntityID{getCart, placeOrder, listOrders, otherListed, callBank} {
		for i := range 5 {
			tr.Observe(op, noon.UnixNano()+int64(i), 1, true)
		}
	}
	now := noon.Add(time.Second).UnixNano()
	targets := func(service record.EntityID) (out []float64) {
		for _, s := range tr.Status(service, now) {
			out = append(out, s.Target)
		}
		return out
	}
	assert.Equal(t, []float64{0.9}, targets(cart))
	assert.Equal(t, []float64{0.999, 0.99}, targets(checkout), "the worst first")
	assert.Equal(t, []float64{0.5}, targets(other))
	assert.Empty(t, targets(99))
	assert.InDelta(t, 5, tr.Status(checkout, now)[0].Requests, 0)
	assert.InDelta(t, 10, tr.Status(checkout, now)[1].Requests, 0, "the operation counts for the service, too")
}

func TestBounds(t *testing.T) {
	tr, err := New([]Objective{{Target: 0.9}}, func(op record.EntityID) (Target, bool) {
		return Target{Service: op, Name: fmt.Sprint(op)}, true
	})
	require.NoError(t, err)
	for i := range MaxCounters + 10 {
		tr.Observe(record.EntityID(i+1), noon.UnixNano(), 1, false)
		tr.Observe(record.EntityID(i+1), noon.UnixNano(), 1, false)
	}
	assert.Equal(t, Sizes{Counters: MaxCounters, Capacity: MaxCounters, Dropped: 10}, tr.Sizes())
	tr.Sweep(noon.Add(time.Second).UnixNano())
	assert.Zero(t, tr.Sizes().Counters)
	tr.Observe(1, noon.UnixNano(), 1, false)
	assert.Equal(t, 1, tr.Sizes().Counters, "and it is counted again")
}

func TestOldAndNonsensicalTimes(t *testing.T) {
	tr := tracker(t, Objective{Service: "cart", Target: 0.9})
	tr.Observe(getCart, noon.UnixNano(), 1, false)
	tr.Observe(getCart, 0, 1, true)
	tr.Observe(getCart, -5, 1, true)
	tr.Observe(getCart, noon.Add(-100*day).UnixNano(), 1, true)
	got := tr.Status(cart, noon.UnixNano())[0]
	assert.InDelta(t, 1, got.Requests, 0)
	assert.Zero(t, got.Bad)
	assert.Zero(t, tr.Status(cart, noon.Add(200*day).UnixNano())[0].Requests)
	assert.InDelta(t, 1, tr.Status(cart, noon.Add(200*day).UnixNano())[0].Left, 0)
}

func TestConfig(t *testing.T) {
	require.NoError(t, Validate(nil))
	require.NoError(t, Validate([]Objective{{Target: 0.99}, {Service: "a", Target: 0.9, Latency: time.Second, Window: 7 * day}, {Service: "a", Operation: "x", Target: 0.9}}))
	for want, objectives := range map[string][]Objective{
		`objectives[0] (service "a"): target: 0: must be between 0 and 1`:                  {{Service: "a"}},
		`target: 99.9: must be between 0 and 1`:                                            {{Service: "a", Target: 99.9}},
		`target: 1: must be between 0 and 1`:                                               {{Service: "a", Target: 1}},
		`latency: -1s: must not be negative`:                                               {{Service: "a", Target: 0.9, Latency: -time.Second}},
		`window: 1m0s: must be 0 (720h0m0s) or between 24h0m0s and 2160h0m0s`:              {{Service: "a", Target: 0.9, Window: time.Minute}},
		`window: 2400h0m0s: must be`:                                                       {{Service: "a", Target: 0.9, Window: 100 * day}},
		`service: must be set where namespace or operation is`:                             {{Operation: "x", Target: 0.9}},
		`objectives[1]: the same service, namespace and operation as objectives[0]`:        {{Service: "a", Target: 0.9}, {Service: "a", Target: 0.99}},
		`objectives[2] (service "c"): target: NaN: must be between 0 and 1, both excluded`: {{Service: "a", Target: 0.9}, {Service: "b", Target: 0.9}, {Service: "c", Target: nan()}},
	} {
		require.ErrorContains(t, Validate(objectives), want)
		_, err := New(objectives, resolve)
		require.Error(t, err)
	}
}

func nan() float64 { zero := 0.0; return zero / zero }

func TestWords(t *testing.T) {
	assert.Equal(t, "99.9 % of requests good in 30 days", (&Objective{Target: 0.999}).String())
	assert.Equal(t, "95 % of requests good within 300ms of GET /cart in 7 days",
		(&Objective{Target: 0.95, Latency: 300 * time.Millisecond, Operation: "GET /cart", Window: 7 * day}).String())
	assert.Equal(t, "none ticket page", fmt.Sprint(SeverityNone, " ", SeverityTicket, " ", SeverityPage))
}

func TestCriticality(t *testing.T) {
	for _, name := range []string{"low", "medium", "high", "critical"} {
		assert.Equal(t, name, ParseCriticality(name).String())
	}
	for _, name := range []string{"", "Critical", "p1"} {
		assert.Equal(t, CriticalityUnknown, ParseCriticality(name))
	}
	assert.Greater(t, CriticalityCritical, CriticalityHigh)
	assert.Empty(t, Criticality(9).String())
}

func BenchmarkObserve(b *testing.B) {
	tr, err := New([]Objective{{Service: "cart", Target: 0.999, Latency: time.Second}}, resolve)
	require.NoError(b, err)
	at := noon.UnixNano()
	b.ReportAllocs()
	for b.Loop() {
		at += 1e6
		tr.Observe(getCart, at, 1e6, false)
	}
}

func BenchmarkStatus(b *testing.B) {
	tr, err := New([]Objective{{Service: "cart", Target: 0.999}}, resolve)
	require.NoError(b, err)
	load(tr, getCart, noon.Add(-3*day), noon, 0.01)
	b.ReportAllocs()
	for b.Loop() {
		tr.Status(cart, noon.UnixNano())
	}
}
