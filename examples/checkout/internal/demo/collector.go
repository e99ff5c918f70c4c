package demo

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// collectorStart is how long the collector may take to become healthy: two
	// seconds as a rule, more on a busy machine.
	collectorStart = time.Minute
	serviceStart   = 15 * time.Second
	// logLines is how much of a log is shown when its process ended too early.
	logLines = 15
)

// newCollectorState chooses where the collector listens.
func newCollectorState(ctx context.Context, dir string) (CollectorState, error) {
	a, err := freeAddresses(ctx, 6)
	if err != nil {
		return CollectorState{}, err
	}
	return CollectorState{
		OTLPGRPC: a[0], OTLPHTTP: a[1], API: "http://" + a[2], Health: a[3], ZPages: a[4], Metrics: a[5],
		Database: filepath.Join(dir, DatabaseFile),
	}, nil
}

// Env returns the variables that make the collector's default configuration
// listen there.
func (c CollectorState) Env() []string {
	host, port, _ := net.SplitHostPort(c.Metrics) // made by freeAddresses, or written by it to a file
	return []string{
		"TAPIO_OTLP_GRPC_ENDPOINT=" + c.OTLPGRPC,
		"TAPIO_OTLP_HTTP_ENDPOINT=" + c.OTLPHTTP,
		"TAPIO_API_ENDPOINT=" + strings.TrimPrefix(c.API, "http://"),
		"TAPIO_HEALTH_ENDPOINT=" + c.Health,
		"TAPIO_ZPAGES_ENDPOINT=" + c.ZPages,
		"TAPIO_METRICS_HOST=" + host,
		"TAPIO_METRICS_PORT=" + port,
		"TAPIO_DATABASE=" + c.Database,
	}
}

// cleanEnviron is the environment without what configures an OpenTelemetry SDK:
// the shop is told all of that.
func cleanEnviron() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OTEL_") {
			env = append(env, v)
		}
	}
	return env
}

// waitReady returns when url answers 200, and fails when p ends first or when
// that takes longer than timeout.
func waitReady(ctx context.Context, p *process, url string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%s does not answer at %s after %s", p.name, url, timeout))
	defer cancel()
	for {
		if answers(ctx, url) {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended early (%s); the end of its log:\n%s", p.name, p.how(), p.logTail(logLines))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
