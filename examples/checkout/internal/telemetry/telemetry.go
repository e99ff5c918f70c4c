// Package telemetry sets up the OpenTelemetry SDK as the shop's services use it:
// spans to a collector over OTLP/gRPC, W3C trace context between processes.
package telemetry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// DefaultEndpoint is where a collector on the same machine listens for
// OTLP/gRPC (the port that IANA registered for it).
const DefaultEndpoint = "http://127.0.0.1:4317"

const (
	// batchDelay is how long a span may wait before it is sent. Short, because
	// what a killed process had not sent yet is lost.
	batchDelay = 200 * time.Millisecond
	// exportTimeout bounds one attempt to send a batch.
	exportTimeout = 3 * time.Second
)

// Service says who sends the telemetry.
type Service struct {
	// Name and Version become service.name and service.version.
	Name, Version string
}

// Start returns a tracer provider whose spans go to the OTLP/gRPC endpoint, an
// http or https URL. The caller flushes and ends it with Shutdown. It fails on
// another form of endpoint; that nobody listens there is no error, the spans are
// tried again and in the end dropped, as the SDK does.
func Start(ctx context.Context, endpoint string, s Service) (*sdktrace.TracerProvider, error) {
	if err := checkEndpoint(endpoint); err != nil {
		return nil, err
	}
	exporter, err := otlptracegrpc.New(ctx,
		otlptracegrpc.WithEndpointURL(endpoint),
		otlptracegrpc.WithTimeout(exportTimeout))
	if err != nil {
		return nil, fmt.Errorf("OTLP exporter for %s: %w", endpoint, err)
	}
	res, err := newResource(s)
	if err != nil {
		return nil, errors.Join(err, exporter.Shutdown(ctx))
	}
	return sdktrace.NewTracerProvider(
		sdktrace.WithResource(res),
		sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(batchDelay)),
	), nil
}

// Propagator carries the trace from one process to the next: the W3C
// traceparent header.
func Propagator() propagation.TextMapPropagator { return propagation.TraceContext{} }

// SetErrorHandler sends what the SDK cannot do (a span that could not be sent)
// to handle instead of the standard logger.
func SetErrorHandler(handle func(error)) { otel.SetErrorHandler(otel.ErrorHandlerFunc(handle)) }

func checkEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("OTLP endpoint %q: want http://host:port or https://host:port, such as %s", endpoint, DefaultEndpoint)
	}
	return nil
}

// newResource describes this process, and where it runs as far as
// OTEL_RESOURCE_ATTRIBUTES says so. Host name and pid are what joins its spans with
// what the kernel says of the same process.
func newResource(s Service) (*resource.Resource, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("host name: %w", err)
	}
	own := resource.NewWithAttributes(semconv.SchemaURL,
		semconv.ServiceName(s.Name),
		semconv.ServiceVersion(s.Version),
		semconv.ServiceInstanceID(newInstanceID()),
		semconv.HostName(host),
		semconv.ProcessPID(os.Getpid()),
		semconv.ProcessExecutableName(executableName()),
	)
	return resource.Merge(resource.Environment(), own)
}

func executableName() string {
	path, err := os.Executable()
	if err != nil {
		path = os.Args[0]
	}
	return filepath.Base(path)
}

// newInstanceID returns a random UUID (version 4), as the semantic conventions
// recommend for service.instance.id.
func newInstanceID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
