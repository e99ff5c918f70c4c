// Package load sends orders to the shop at a steady rate and takes down what
// became of each.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/yairfalse/tapio/examples/checkout/internal/shop"
	"github.com/yairfalse/tapio/examples/checkout/internal/telemetry"
)

// ServiceName is the service.name of the load generator's spans.
const ServiceName = "shop-load"

// Attribute keys of the span of an order that no semantic convention defines.
const (
	// KeyAmount is what the order costs.
	KeyAmount = attribute.Key("order.amount")
	// KeyOrderID names the order.
	KeyOrderID = attribute.Key("order.id")
)

// scopeName is the instrumentation scope of the order's span. It must not begin
// with Tapio's own module path: Tapio passes over spans that it made itself.
const scopeName = "example.com/checkout/load"

const (
	// orderTimeout is how long a customer waits: longer than storefront waits
	// for payment, so that storefront's answer arrives.
	orderTimeout = 5 * time.Second
	// maxInFlight bounds the orders on their way; those due beyond it are
	// counted as not sent.
	maxInFlight = 1000
	// reportInterval is how often the report is written during the run.
	reportInterval = 250 * time.Millisecond
)

// Options say how much is sent, where to, and where the report goes.
type Options struct {
	// URL is that of storefront.
	URL string
	// Rate is orders per second, whether or not earlier ones were answered.
	Rate float64
	// Users is how many customers there are.
	Users int
	// Duration ends the run; 0 means that only the context does.
	Duration time.Duration
	// ReportPath is the file for the report; empty means none.
	ReportPath string
}

// Validate says which option is wrong and what is allowed.
func (o Options) Validate() error {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil || u.Scheme != "http" || u.Host == "":
		return fmt.Errorf("--url %q: want http://host:port", o.URL)
	case !(o.Rate > 0 && o.Rate <= 1000):
		return fmt.Errorf("--rate %v: want more than 0 and at most 1000 orders per second", o.Rate)
	case o.Users < 1 || o.Users > 1_000_000:
		return fmt.Errorf("--users %d: want 1 to 1000000", o.Users)
	case o.Duration < 0:
		return fmt.Errorf("--duration %s: want 0 (until stopped) or more", o.Duration)
	}
	return nil
}

// Run sends orders until the duration is over or ctx ends, waits for those on
// their way, and returns the complete report, which is also in ReportPath.
func Run(ctx context.Context, tp trace.TracerProvider, o Options) (Report, error) {
	if err := o.Validate(); err != nil {
		return Report{}, err
	}
	if o.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Duration)
		defer cancel()
	}
	c, err := newCustomer(tp, o)
	if err != nil {
		return Report{}, err
	}
	stopWriting := c.writeReports(o.ReportPath)
	c.send(ctx, o.Rate)
	writeErr := stopWriting()
	r := c.tally.snapshot(time.Now(), true)
	if o.ReportPath == "" {
		return r, writeErr
	}
	return r, errors.Join(writeErr, r.Write(o.ReportPath))
}

// customer sends orders in the name of all users.
type customer struct {
	target *url.URL
	port   int
	users  int
	http   *http.Client
	tracer trace.Tracer
	tally  *tally
}

func newCustomer(tp trace.TracerProvider, o Options) (*customer, error) {
	base, err := url.Parse(o.URL)
	if err != nil {
		return nil, err
	}
	port := 80
	if _, p, err := net.SplitHostPort(base.Host); err == nil {
		if port, err = strconv.Atoi(p); err != nil {
			return nil, fmt.Errorf("--url %q: %w", o.URL, err)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 100
	return &customer{
		target: base.JoinPath("/orders"),
		port:   port,
		users:  o.Users,
		http:   &http.Client{Transport: transport, Timeout: orderTimeout},
		tracer: tp.Tracer(scopeName),
		tally:  newTally(time.Now()),
	}, nil
}

// send starts an order at each tick of the rate (open loop: a slow shop does not
// slow it down) until ctx ends, and returns when all are answered.
func (c *customer) send(ctx context.Context, rate float64) {
	defer c.http.CloseIdleConnections()
	var orders sync.WaitGroup
	defer orders.Wait()
	slots := make(chan struct{}, maxInFlight)
	interval := time.Duration(float64(time.Second) / rate)
	due := time.NewTimer(0)
	defer due.Stop()
	for start, n := time.Now(), 0; ; n++ {
		// Counted from the start, so that a late tick delays none after it.
		due.Reset(time.Until(start.Add(time.Duration(n) * interval)))
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		}
		select {
		case slots <- struct{}{}:
			orders.Go(func() {
				c.order(context.WithoutCancel(ctx), c.newOrder(n))
				<-slots
			})
		default:
			c.tally.notSent()
		}
	}
}

// newOrder makes up the n-th order: a random user, 5.00 to 200.00.
func (c *customer) newOrder(n int) shop.Order {
	return shop.Order{
		ID:     fmt.Sprintf("order-%06d", n+1),
		UserID: fmt.Sprintf("user-%04d", rand.IntN(c.users)+1),
		Amount: shop.Cents(500 + rand.IntN(195_01)),
	}
}

// order sends one order under a root span of its own, and counts the answer.
func (c *customer) order(ctx context.Context, o shop.Order) {
	ctx, span := c.tracer.Start(ctx, "checkout", trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(
			semconv.UserID(o.UserID),
			KeyAmount.Float64(o.Amount.Float()),
			KeyOrderID.String(o.ID),
			semconv.HTTPRequestMethodPost,
			semconv.URLFull(c.target.String()),
			semconv.ServerAddress(c.target.Hostname()),
			semconv.ServerPort(c.port),
		))
	defer span.End()
	c.tally.sent()
	status, err := c.post(ctx, o)
	if status != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	}
	switch {
	case err != nil:
		span.RecordError(err)
		span.SetAttributes(semconv.ErrorType(err))
		span.SetStatus(codes.Error, err.Error())
	case status != http.StatusOK:
		span.SetAttributes(semconv.ErrorTypeKey.String(strconv.Itoa(status)))
		span.SetStatus(codes.Error, "")
	default:
		c.tally.ok()
		return
	}
	c.tally.failed(o, span.SpanContext().TraceID().String(), time.Now())
}

// post returns the status of the answer, 0 with an error when there was none.
func (c *customer) post(ctx context.Context, o shop.Order) (int, error) {
	body, err := json.Marshal(o)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.target.String(), bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	telemetry.Propagator().Inject(ctx, propagation.HeaderCarrier(req.Header))
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	// Read to the end, or the connection cannot be used again.
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, err
}

// writeReports writes the report every reportInterval; the function that it
// returns ends that, and returns the first error.
func (c *customer) writeReports(path string) func() error {
	if path == "" {
		return func() error { return nil }
	}
	end, result := make(chan struct{}), make(chan error, 1)
	go func() {
		ticker := time.NewTicker(reportInterval)
		defer ticker.Stop()
		var first error
		for {
			select {
			case <-end:
				result <- first
				return
			case <-ticker.C:
			}
			if err := c.tally.snapshot(time.Now(), false).Write(path); err != nil && first == nil {
				first = err
			}
		}
	}()
	return func() error { close(end); return <-result }
}
