package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"

	"github.com/yairfalse/tapio/examples/checkout/internal/load"
	"github.com/yairfalse/tapio/examples/checkout/internal/shop"
	"github.com/yairfalse/tapio/examples/checkout/internal/telemetry"
)

// span is one span with the service that sent it.
type span struct {
	ptrace.Span
	resource pcommon.Map
}

func (s span) service() string { return str(s.resource, "service.name") }

func str(m pcommon.Map, key string) string {
	if v, ok := m.Get(key); ok {
		return v.AsString()
	}
	return ""
}

// receiver keeps the spans that it gets over OTLP/gRPC.
type receiver struct {
	ptraceotlp.UnimplementedGRPCServer
	mu    sync.Mutex
	spans []span
}

func (r *receiver) Export(_ context.Context, req ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range req.Traces().ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				r.spans = append(r.spans, span{Span: s, resource: rs.Resource().Attributes()})
			}
		}
	}
	return ptraceotlp.NewExportResponse(), nil
}

// byTrace returns the spans by trace and then by the id of their parent: in the
// shop every span has one child at most.
func (r *receiver) byTrace() map[pcommon.TraceID]map[pcommon.SpanID]span {
	r.mu.Lock()
	defer r.mu.Unlock()
	traces := map[pcommon.TraceID]map[pcommon.SpanID]span{}
	for _, s := range r.spans {
		if traces[s.TraceID()] == nil {
			traces[s.TraceID()] = map[pcommon.SpanID]span{}
		}
		traces[s.TraceID()][s.ParentSpanID()] = s
	}
	return traces
}

func startReceiver(t *testing.T) (*receiver, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r, server := &receiver{}, grpc.NewServer()
	ptraceotlp.RegisterGRPCServer(server, r)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return r, "http://" + l.Addr().String()
}

// shopFixture is the three services, each with telemetry of its own.
type shopFixture struct {
	endpoint  string
	providers []*sdktrace.TracerProvider
}

func (f *shopFixture) provider(t *testing.T, name string) *sdktrace.TracerProvider {
	t.Helper()
	tp, err := telemetry.Start(t.Context(), f.endpoint, telemetry.Service{Name: name, Version: "v2.0.4"})
	require.NoError(t, err)
	f.providers = append(f.providers, tp)
	return tp
}

func (f *shopFixture) flush(t *testing.T) {
	t.Helper()
	for _, tp := range f.providers {
		require.NoError(t, tp.Shutdown(t.Context()))
	}
}

func serveHandler(t *testing.T, h http.Handler, err error) *httptest.Server {
	t.Helper()
	require.NoError(t, err)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// TestTracesAreConnected sends orders through the real services and exporters,
// stops payment half way, and follows every trace from the customer down.
func TestTracesAreConnected(t *testing.T) {
	sink, endpoint := startReceiver(t)
	f, log := &shopFixture{endpoint: endpoint}, slog.New(slog.DiscardHandler)
	ledger := serveHandler(t, shop.NewLedger(f.provider(t, shop.Ledger), new(shop.Book), nil), nil)
	h, err := shop.NewPayment(f.provider(t, shop.Payment), log, ledger.URL, nil)
	payment := serveHandler(t, h, err)
	h, err = shop.NewStorefront(f.provider(t, shop.Storefront), log, payment.URL)
	storefront := serveHandler(t, h, err)

	tp := f.provider(t, load.ServiceName)
	o := load.Options{URL: storefront.URL, Rate: 50, Users: 10, Duration: 400 * time.Millisecond}
	before, err := load.Run(t.Context(), tp, o)
	require.NoError(t, err)
	payment.Close()
	after, err := load.Run(t.Context(), tp, o)
	require.NoError(t, err)
	f.flush(t)

	assert.Zero(t, before.Failed)
	assert.Zero(t, after.OK)
	traces := sink.byTrace()
	require.Len(t, traces, int(before.Sent+after.Sent))
	refused := 0
	for _, id := range after.FailedTraceIDs {
		if strings.Contains(assertFailed(t, traces, id), "refused") {
			refused++ // a first one may be reset or find a broken pipe: its connection was open already
		}
	}
	assert.Positive(t, refused)
	for id, spans := range traces {
		if spans[pcommon.SpanID{}].Status().Code() != ptrace.StatusCodeError {
			assertPath(t, id.String(), spans, "shop-load checkout Client", "storefront POST /orders Server", "storefront POST /charge Client",
				"payment POST /charge Server", "payment POST /entries Client", "ledger POST /entries Server")
		}
	}
}

// assertFailed follows one failed order and returns what its client was told.
func assertFailed(t *testing.T, traces map[pcommon.TraceID]map[pcommon.SpanID]span, id string) string {
	t.Helper()
	for traceID, spans := range traces {
		if traceID.String() != id {
			continue
		}
		path := assertPath(t, id, spans, "shop-load checkout Client", "storefront POST /orders Server", "storefront POST /charge Client")
		for _, s := range path {
			assert.Equal(t, ptrace.StatusCodeError, s.Status().Code(), s.Name())
		}
		assert.Equal(t, "500", str(path[0].Attributes(), "http.response.status_code"))
		assert.NotEmpty(t, str(path[0].Attributes(), "user.id"))
		assert.NotEmpty(t, str(path[0].Attributes(), "order.amount"))
		assert.NotEmpty(t, path[2].Status().Message())
		assert.NotEmpty(t, str(path[2].Attributes(), "server.port"))
		return path[2].Status().Message()
	}
	assert.Fail(t, "trace was not received", id)
	return ""
}

// assertPath walks from the root to the last span and compares.
func assertPath(t *testing.T, id string, spans map[pcommon.SpanID]span, want ...string) []span {
	t.Helper()
	var got []string
	var path []span
	for s, ok := spans[pcommon.SpanID{}]; ok; s, ok = spans[s.SpanID()] {
		got, path = append(got, s.service()+" "+s.Name()+" "+s.Kind().String()), append(path, s)
		for _, key := range []string{"service.version", "service.instance.id", "host.name", "process.pid", "process.executable.name"} {
			assert.NotEmpty(t, str(s.resource, key), key)
		}
	}
	require.Equal(t, want, got, id)
	assert.Len(t, spans, len(path), "every span of trace %s is on the path", id)
	return path
}

func TestEndpointIsChecked(t *testing.T) {
	for _, endpoint := range []string{"", "127.0.0.1:4317", "grpc://x", ":"} {
		_, err := telemetry.Start(t.Context(), endpoint, telemetry.Service{Name: "x"})
		assert.ErrorContains(t, err, "want http://host:port", endpoint)
	}
}

func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"payment", "--leak", "much"}, `"much" is not a size`},
		{[]string{"payment", "--ledger-url", "nowhere"}, `--ledger-url: URL "nowhere"`},
		{[]string{"storefront", "--payment-url", "nowhere"}, `--payment-url: URL "nowhere"`},
		{[]string{"ledger", "--listen", "256.0.0.1:1"}, "--listen 256.0.0.1:1"},
		{[]string{"ledger", "--otlp-endpoint", "nowhere"}, `OTLP endpoint "nowhere"`},
		{[]string{"load", "--rate", "-1"}, "--rate -1"},
		{[]string{"run", "--fault", "boom"}, `--fault "boom"`},
		{[]string{"confine"}, "no program"},
		{[]string{"ledger", "extra"}, `unknown command "extra"`},
	} {
		c := newCommand()
		c.SetArgs(tt.args)
		assert.ErrorContains(t, c.ExecuteContext(t.Context()), tt.want)
	}
}

func TestUnknownCommand(t *testing.T) {
	cmd := newCommand()
	cmd.SetArgs([]string{"bogus"})
	assert.ErrorContains(t, cmd.Execute(), `unknown command "bogus"`)
}
