package shop

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace/noop"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func TestCents(t *testing.T) {
	for text, want := range map[string]Cents{"0": 0, "5": 500, "0.1": 10, "19.99": 1999, "999999.99": 999_999_99, "-3.05": -305, "1e2": 100_00} {
		var c Cents
		require.NoError(t, json.Unmarshal([]byte(text), &c), text)
		assert.Equal(t, want, c, text)
	}
	for _, text := range []string{`"5"`, "1.001", "1e300", "-1e300", "{}"} {
		var c Cents
		assert.ErrorContains(t, json.Unmarshal([]byte(text), &c), "want", text)
	}
}

// TestCentsRoundTrip goes through all cents of a range in which binary fractions
// are never exact.
func TestCentsRoundTrip(t *testing.T) {
	for c := MaxAmount - 10_000; c <= MaxAmount; c++ {
		b, err := json.Marshal(c)
		require.NoError(t, err)
		var back Cents
		require.NoError(t, json.Unmarshal(b, &back))
		require.Equal(t, c, back)
	}
	assert.Equal(t, "-0.05", Cents(-5).String())
}

func TestOrderValidate(t *testing.T) {
	good := Order{ID: "o", UserID: "u", Amount: 1}
	require.NoError(t, good.Validate())
	for want, o := range map[string]Order{
		"id: missing":       {UserID: "u", Amount: 1},
		"user_id: missing":  {ID: "o", Amount: 1},
		"amount 0.00: want": {ID: "o", UserID: "u"},
		"amount 1000000.01": {ID: "o", UserID: "u", Amount: MaxAmount + 1},
	} {
		assert.ErrorContains(t, o.Validate(), want)
	}
}

func post(t *testing.T, h http.Handler, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return w
}

func TestLedgerBooks(t *testing.T) {
	var journal strings.Builder
	book := Book{Journal: &journal}
	h := NewLedger(noop.NewTracerProvider(), &book, nil)
	for range 3 {
		assert.Equal(t, http.StatusOK, post(t, h, "/entries", `{"id":"o","user_id":"u","amount":0.1}`).Code)
	}
	n, total := book.Totals()
	assert.EqualValues(t, 3, n)
	assert.Equal(t, Cents(30), total)
	assert.Equal(t, "o 0.10\no 0.10\no 0.10\n", journal.String())
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestLedgerThatCannotWriteEnds(t *testing.T) {
	book := Book{Journal: full{}}
	var broken error
	h := NewLedger(noop.NewTracerProvider(), &book, func(err error) { broken = err })
	assert.Equal(t, http.StatusInternalServerError, post(t, h, "/entries", `{"id":"o","user_id":"u","amount":0.1}`).Code)
	require.ErrorIs(t, broken, syscall.ENOSPC)
	n, _ := book.Totals()
	assert.Zero(t, n)
}

func TestBadOrders(t *testing.T) {
	h := NewLedger(noop.NewTracerProvider(), new(Book), nil)
	for body, want := range map[string]string{
		"":     "got nothing",
		"{":    "want an order as JSON",
		"null": "id: missing",
		`{"id":"o","user_id":"u","amount":0.001}`:                     "at most two decimals",
		`{"id":"` + strings.Repeat("x", maxBody) + `","user_id":"u"}`: "too large",
	} {
		w := post(t, h, "/entries", body)
		assert.Equal(t, http.StatusBadRequest, w.Code)
		assert.Contains(t, w.Body.String(), want)
	}
}

func TestBadURLs(t *testing.T) {
	for _, url := range []string{"", "127.0.0.1:80", "https://127.0.0.1", ":"} {
		_, err := NewStorefront(noop.NewTracerProvider(), quiet, url)
		assert.ErrorContains(t, err, "want http://host:port", url)
	}
}

// TestFailureReachesTheCustomer: ledger is down, so payment answers 502 and
// storefront 500.
func TestFailureReachesTheCustomer(t *testing.T) {
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	payment, err := NewPayment(noop.NewTracerProvider(), quiet, down.URL, nil)
	require.NoError(t, err)
	server := httptest.NewServer(payment)
	defer server.Close()
	storefront, err := NewStorefront(noop.NewTracerProvider(), quiet, server.URL)
	require.NoError(t, err)
	const order = `{"id":"o","user_id":"u","amount":5}`
	assert.Equal(t, http.StatusBadGateway, post(t, payment, "/charge", order).Code)
	assert.Equal(t, http.StatusInternalServerError, post(t, storefront, "/orders", order).Code)
}

func TestLeak(t *testing.T) {
	assert.EqualValues(t, 1<<20, LeakOf("v2.1.0"))
	assert.Zero(t, LeakOf("v2.0.4"))
	assert.Nil(t, NewLeak(0))
	NewLeak(0).Order() // a nil leak takes nothing
	l := NewLeak(8192)
	l.Order()
	l.Order()
	require.Len(t, l.kept, 2)
	assert.Len(t, l.kept[1], 8192)
	assert.EqualValues(t, 1, l.kept[1][4096], "every page is written to")
}
