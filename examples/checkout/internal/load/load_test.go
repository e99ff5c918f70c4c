package load

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/yairfalse/tapio/examples/checkout/internal/shop"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestTally(t *testing.T) {
	c := newTally(start)
	for range 3 {
		c.sent()
	}
	c.notSent()
	c.ok()
	c.failed(shop.Order{UserID: "b", Amount: 10}, "t1", start.Add(time.Second))
	c.failed(shop.Order{UserID: "b", Amount: 20}, "t2", start.Add(2*time.Second))
	c.failed(shop.Order{UserID: "a", Amount: 1}, "t3", start.Add(3*time.Second))
	first := start.Add(time.Second)
	want := Report{
		StartedAt: start, UpdatedAt: start.Add(time.Minute), Complete: true,
		Sent: 3, OK: 1, Failed: 3, NotSent: 1,
		FailedUsers: []string{"a", "b"}, FailedAmount: 31,
		FailedTraceIDs: []string{"t1", "t2", "t3"}, FirstFailure: &first,
	}
	got := c.snapshot(start.Add(time.Minute), true)
	assert.Equal(t, want, got)

	path := filepath.Join(t.TempDir(), "report.json")
	require.NoError(t, got.Write(path))
	require.NoError(t, got.Write(path), "it replaces the file")
	back, err := ReadReport(path)
	require.NoError(t, err)
	assert.Equal(t, want, back)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	require.NoError(t, err)
	assert.Equal(t, []string{path}, files, "no temporary file stays")
}

func TestTallyIsBounded(t *testing.T) {
	c := newTally(start)
	for i := range MaxTraceIDs + 5 {
		c.failed(shop.Order{UserID: "u", Amount: 1}, fmt.Sprint(i), start)
	}
	r := c.snapshot(start, true)
	assert.Len(t, r.FailedTraceIDs, MaxTraceIDs)
	assert.EqualValues(t, MaxTraceIDs+5, r.Failed)
	assert.Equal(t, shop.Cents(MaxTraceIDs+5), r.FailedAmount)
}

func TestOptionsValidate(t *testing.T) {
	good := Options{URL: "http://127.0.0.1:80", Rate: 10, Users: 1}
	require.NoError(t, good.Validate())
	for want, change := range map[string]func(*Options){
		"--url":       func(o *Options) { o.URL = "127.0.0.1:80" },
		"--rate 0":    func(o *Options) { o.Rate = 0 },
		"--rate NaN":  func(o *Options) { o.Rate = math.NaN() },
		"--rate 1001": func(o *Options) { o.Rate = 1001 },
		"--users 0":   func(o *Options) { o.Users = 0 },
		"--duration":  func(o *Options) { o.Duration = -1 },
	} {
		o := good
		change(&o)
		assert.ErrorContains(t, o.Validate(), want)
	}
}

// TestRunCountsEveryAnswer sends to a shop that fails every third order, slowly:
// the report must agree with that shop's own counts and with the spans.
func TestRunCountsEveryAnswer(t *testing.T) {
	var n, failures atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.NotEmpty(t, r.Header.Get("Traceparent"))
		time.Sleep(100 * time.Millisecond)
		if n.Add(1)%3 == 0 {
			failures.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	spans := tracetest.NewSpanRecorder()
	path := filepath.Join(t.TempDir(), "report.json")
	r, err := Run(t.Context(), sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
		Options{URL: server.URL, Rate: 200, Users: 5, Duration: time.Second, ReportPath: path})
	require.NoError(t, err)
	assert.True(t, r.Complete)
	assert.Equal(t, n.Load(), r.Sent, "open loop: slow answers do not slow it down, and none is lost")
	assert.InDelta(t, 200, r.Sent, 40)
	assert.Equal(t, failures.Load(), r.Failed)
	assert.Equal(t, r.Sent, r.OK+r.Failed)
	onDisk, err := ReadReport(path)
	require.NoError(t, err)
	assert.Equal(t, r.FailedTraceIDs, onDisk.FailedTraceIDs)
	assertSpans(t, spans.Ended(), r)
}

func assertSpans(t *testing.T, spans []sdktrace.ReadOnlySpan, r Report) {
	t.Helper()
	assert.Len(t, spans, int(r.Sent))
	users, traces, sum := map[string]bool{}, map[string]bool{}, 0.0
	for _, s := range spans {
		assert.False(t, s.Parent().IsValid())
		attributes := map[string]any{}
		for _, a := range s.Attributes() {
			attributes[string(a.Key)] = a.Value.AsInterface()
		}
		if attributes["error.type"] == nil {
			continue
		}
		assert.Equal(t, "500", attributes["error.type"])
		users[attributes["user.id"].(string)] = true
		traces[s.SpanContext().TraceID().String()] = true
		sum += attributes["order.amount"].(float64)
	}
	assert.Len(t, users, len(r.FailedUsers))
	assert.InDelta(t, r.FailedAmount.Float(), sum, 0.005)
	require.Len(t, traces, len(r.FailedTraceIDs))
	for _, id := range r.FailedTraceIDs {
		assert.Contains(t, traces, id)
	}
}

func TestRunReportsARefusedConnection(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	spans := tracetest.NewSpanRecorder()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r, err := Run(ctx, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), Options{URL: server.URL, Rate: 100, Users: 1})
	require.NoError(t, err)
	assert.NotZero(t, r.Failed)
	assert.Equal(t, r.Sent, r.Failed)
	assert.Contains(t, spans.Ended()[0].Status().Description, "refused")
}
