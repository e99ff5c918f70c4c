package shop

import (
	"log/slog"
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/yairfalse/tapio/examples/checkout/internal/telemetry"
)

// Names of the services, as in service.name.
const (
	Storefront = "storefront"
	Payment    = "payment"
	Ledger     = "ledger"
)

// NewStorefront returns the service that customers talk to. It charges each
// order at paymentURL and answers 500 when that fails.
func NewStorefront(tp trace.TracerProvider, log *slog.Logger, paymentURL string) (http.Handler, error) {
	payment, err := newCaller(paymentURL, "/charge", tp)
	if err != nil {
		return nil, err
	}
	return traced(tp, "POST /orders", func(w http.ResponseWriter, r *http.Request) {
		o, ok := accept(w, r)
		if !ok {
			return
		}
		if err := payment.post(r.Context(), o); err != nil {
			log.ErrorContext(r.Context(), "payment failed", "order", o.ID, "error", err)
			reply(w, http.StatusInternalServerError, answer{OrderID: o.ID, Error: "the order could not be paid"})
			return
		}
		reply(w, http.StatusOK, answer{OrderID: o.ID})
	}), nil
}

// NewPayment returns the service that charges customers and books each charge at
// ledgerURL. The leak, if any, keeps memory for every order.
func NewPayment(tp trace.TracerProvider, log *slog.Logger, ledgerURL string, leak *Leak) (http.Handler, error) {
	ledger, err := newCaller(ledgerURL, "/entries", tp)
	if err != nil {
		return nil, err
	}
	return traced(tp, "POST /charge", func(w http.ResponseWriter, r *http.Request) {
		o, ok := accept(w, r)
		if !ok {
			return
		}
		leak.Order()
		if err := ledger.post(r.Context(), o); err != nil {
			log.ErrorContext(r.Context(), "ledger failed", "order", o.ID, "error", err)
			reply(w, http.StatusBadGateway, answer{OrderID: o.ID, Error: "the charge could not be booked"})
			return
		}
		reply(w, http.StatusOK, answer{OrderID: o.ID})
	}), nil
}

// NewLedger returns the service that enters charges in the book. It calls nobody.
// What the book refuses is answered with 500 and goes to broken: as databases do,
// who cannot write any more had better end.
func NewLedger(tp trace.TracerProvider, book *Book, broken func(error)) http.Handler {
	return traced(tp, "POST /entries", func(w http.ResponseWriter, r *http.Request) {
		o, ok := accept(w, r)
		if !ok {
			return
		}
		if err := book.Add(o.ID, o.Amount); err != nil {
			reply(w, http.StatusInternalServerError, answer{OrderID: o.ID, Error: "the entry could not be written"})
			broken(err)
			return
		}
		reply(w, http.StatusOK, answer{OrderID: o.ID})
	})
}

func accept(w http.ResponseWriter, r *http.Request) (Order, bool) {
	o, err := decodeOrder(w, r)
	if err != nil {
		reply(w, http.StatusBadRequest, answer{Error: err.Error()})
		return o, false
	}
	return o, true
}

// traced serves the one route of a service with a server span, and /healthz
// without one: a probe is no request of a customer.
func traced(tp trace.TracerProvider, route string, h http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(route, otelhttp.NewHandler(h, route,
		otelhttp.WithTracerProvider(tp),
		otelhttp.WithPropagators(telemetry.Propagator())))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	return mux
}
