package main

import (
	"context"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
)

// TestComponents fixes what users rely on to be in the binary.
func TestComponents(t *testing.T) {
	factories, err := components()
	if err != nil {
		t.Fatal(err)
	}
	check(t, "receiver", factories.Receivers, "otlp", "file_log", "host_metrics", "kubelet_stats", "tapio_cni", "tapio_ebpf")
	check(t, "processor", factories.Processors, "batch", "filter", "k8s_attributes", "memory_limiter", "tail_sampling", "transform",
		"tapiocorrelation")
	check(t, "exporter", factories.Exporters, "debug", "file", "load_balancing", "nop", "otlp_grpc", "otlp_http",
		"prometheus_remote_write", "tapio_findings")
	check(t, "connector", factories.Connectors, "forward")
	check(t, "extension", factories.Extensions, "bearertokenauth", "file_storage", "health_check", "zpages", "tapio")
}

func check[F any](t *testing.T, class string, have map[component.Type]F, want ...string) {
	t.Helper()
	for _, name := range want {
		if _, ok := have[component.MustNewType(name)]; !ok {
			t.Errorf("no %s %s in the distribution", class, name)
		}
	}
}

func TestComponentsCommand(t *testing.T) {
	out, err := output(t, nil, "components")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"name: tapio_ebpf", "name: tapiocorrelation", "name: tapio_findings", "name: tapio\n", "scheme: env"} {
		if !strings.Contains(out, want) {
			t.Errorf("components does not list %q:\n%s", want, out)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, env := range map[string][]string{
		"no environment":    nil,
		"exporter":          {"TAPIO_EXPORT_ENDPOINT=tempo.example:4317"},
		"exporter, no TLS":  {"TAPIO_EXPORT_ENDPOINT=tempo.example:4317", "TAPIO_EXPORT_INSECURE=true"},
		"empty means unset": {"TAPIO_EXPORT_ENDPOINT=", "TAPIO_DATABASE="},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := output(t, env, "validate", "--config", "config.yaml"); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// A wrong value is refused, and the message says where it stood.
func TestValidateRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		env, want string
	}{
		"port":     {"TAPIO_METRICS_PORT=many", "'readers[0].pull.exporter.prometheus.port'"},
		"insecure": {"TAPIO_EXPORT_INSECURE=perhaps", "'tls.insecure'"},
		"level":    {"TAPIO_LOG_LEVEL=loud", "'level'"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := output(t, []string{"TAPIO_EXPORT_ENDPOINT=tempo.example:4317", tc.env}, "validate", "--config", "config.yaml")
			if err == nil || !strings.Contains(out, tc.want) {
				t.Errorf("%s: got %v, want a failure that names %q:\n%s", tc.env, err, tc.want, out)
			}
		})
	}
}

func TestMissingConfigurationFile(t *testing.T) {
	out, err := output(t, nil, "--config", "nowhere.yaml")
	if err == nil || !strings.Contains(out, "nowhere.yaml") {
		t.Errorf("got %v, want a failure that names the file:\n%s", err, out)
	}
}

// TestStartAndStop runs the default configuration: every listener answers, and
// SIGTERM ends it with exit code 0.
func TestStartAndStop(t *testing.T) {
	c := start(t)
	for _, url := range []string{"http://" + c.zpages + "/debug/servicez", "http://" + c.metrics + "/metrics"} {
		c.waitFor(t, url, func() error { return get(url) })
	}
	for _, path := range []string{"/v1/traces", "/v1/logs", "/v1/metrics"} {
		if err := post("http://"+c.otlpHTTP+path, "{}"); err != nil {
			t.Error(err)
		}
	}
	if err := c.stop(t); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if n := strings.Count(c.log.String(), "Optional exporters are off"); n != 1 {
		t.Errorf("the log says %d times that the exporter is off, want once", n)
	}
}

// TestExport sets TAPIO_EXPORT_ENDPOINT and finds a span that was sent to the
// collector at the backend.
func TestExport(t *testing.T) {
	backend := &traceServer{names: make(chan string, 16)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	ptraceotlp.RegisterGRPCServer(server, backend)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)

	c := start(t, "TAPIO_EXPORT_ENDPOINT="+listener.Addr().String(), "TAPIO_EXPORT_INSECURE=true")
	span := `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708",` +
		`"name":"order","startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}`
	if err := post("http://"+c.otlpHTTP+"/v1/traces", span); err != nil {
		t.Fatal(err)
	}
	select {
	case name := <-backend.names:
		if name != "order" {
			t.Errorf("got span %q, want order", name)
		}
	case <-time.After(patience):
		t.Error("no span arrived")
	}
	if err := c.stop(t); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// traceServer passes on the names of the spans that it receives.
type traceServer struct {
	ptraceotlp.UnimplementedGRPCServer
	names chan string
}

func (s *traceServer) Export(_ context.Context, r ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	for _, rs := range r.Traces().ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, span := range ss.Spans().All() {
				s.names <- span.Name()
			}
		}
	}
	return ptraceotlp.NewExportResponse(), nil
}

// The variables that config.yaml reads are those that README.md explains.
func TestEnvironmentIsDocumented(t *testing.T) {
	read := variables(t, "config.yaml", `\$\{env:(TAPIO_[A-Z_]+)`)
	documented := variables(t, "../README.md", "(?m)^\\| `(TAPIO_[A-Z_]+)` \\|")
	if len(read) == 0 || !slices.Equal(read, documented) {
		t.Errorf("config.yaml reads %v,\nREADME.md explains %v", read, documented)
	}
}

// variables returns the first group of each match in file, sorted, each once.
func variables(t *testing.T, file, pattern string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(b), -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}
