package shop

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/yairfalse/tapio/examples/checkout/internal/telemetry"
)

// callTimeout bounds one call from service to service.
const callTimeout = 2 * time.Second

// caller posts orders to another service, with a client span for each call.
type caller struct {
	url  string
	http *http.Client
}

// newCaller returns a caller of base + path. It fails when base is no http URL.
func newCaller(base, path string, tp trace.TracerProvider) (*caller, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" {
		return nil, fmt.Errorf("URL %q: want http://host:port", base)
	}
	plain := http.DefaultTransport.(*http.Transport).Clone()
	plain.DisableKeepAlives = net.ParseIP(u.Hostname()) == nil // a name means what it means now: each call looks it up
	transport := otelhttp.NewTransport(plain,
		otelhttp.WithTracerProvider(tp),
		otelhttp.WithPropagators(telemetry.Propagator()),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " " + r.URL.Path }))
	return &caller{
		url:  u.JoinPath(path).String(),
		http: &http.Client{Transport: transport, Timeout: callTimeout},
	}, nil
}

// post sends the order and fails unless the other side answers 200. It does not
// try again.
func (c *caller) post(ctx context.Context, o Order) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req) //nolint:gosec // G704: the URL is the operator's flag, no part of it comes from a request
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	// Read to the end, or the connection cannot be used again.
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("POST %s: %s", c.url, resp.Status)
	}
	return nil
}
