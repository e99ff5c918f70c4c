package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"
)

// candidate is a processor to measure, with its configuration, or a connector.
type candidate struct {
	name, processors, config string
	// connector takes the spans and makes metrics of them, "" for none.
	connector string
}

var candidates = []candidate{
	{name: "nop", processors: "[]", config: "{}"},
	{name: "batch", processors: "[batch]", config: "{batch: {}}"},
	{name: "tapiocorrelation", processors: "[tapiocorrelation]", config: "{tapiocorrelation: {}}"},
	{name: "spanmetrics", processors: "[]", config: "{}", connector: "spanmetrics"},
	{name: "tail_sampling (1 s)", processors: "[tail_sampling]", config: "{tail_sampling: {decision_wait: 1s, num_traces: 200000, policies: [{name: all, type: always_sample}]}}"},
	{name: "groupbytrace (1 s)", processors: "[groupbytrace]", config: "{groupbytrace: {wait_duration: 1s, num_traces: 200000, num_workers: 2}}"},
}

// result is one round of one candidate.
type result struct {
	elapsed, cpu time.Duration
	peak         int64 // bytes
	// refused are batches that the collector did not take.
	refused int
}

func main() {
	collector := flag.String("collector", "../bin/peers/otelcol-peers", "the collector's binary")
	spans := flag.Int("spans", 2_000_000, "spans to send in each round")
	rounds := flag.Int("rounds", 3, "rounds for each processor")
	flag.Parse()
	if err := run(*collector, *spans, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func run(collector string, spans, rounds int) error {
	if spans < batchSpans || rounds < 1 {
		return fmt.Errorf("want at least %d spans and 1 round, not %d and %d", batchSpans, spans, rounds)
	}
	results := make([][]result, len(candidates))
	for round := range rounds {
		for i, c := range candidates {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, rounds, c.name)
			r, err := measure(collector, c, spans)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	return report(results, spans)
}

// measure runs one collector and sends it the spans.
func measure(binary string, c candidate, spans int) (r result, err error) {
	dir, err := os.MkdirTemp("", "tapio-benchmark-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	endpoint, err := freeEndpoint(ctx)
	if err != nil {
		return r, err
	}
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, []byte(c.text(endpoint)), 0o600); err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, binary, "--config", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return r, err
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return r, fmt.Errorf("%w: make bench-peers builds it", err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	if err := waitFor(ctx, endpoint); err != nil {
		text, _ := os.ReadFile(log.Name())
		return r, fmt.Errorf("%w; the collector says: %s", err, text)
	}
	return sendAll(ctx, endpoint, cmd.Process.Pid, spans)
}

// text is the configuration of a collector that listens at an endpoint.
func (c *candidate) text(endpoint string) string {
	connectors, exporter, metrics := "{}", "nop", ""
	if c.connector != "" {
		connectors, exporter = "{"+c.connector+": {}}", c.connector
		metrics = "    metrics: {receivers: [" + c.connector + "], exporters: [nop]}\n"
	}
	return fmt.Sprintf(configText, endpoint, c.config, connectors, c.processors, exporter) + metrics
}

const configText = `receivers:
  otlp: {protocols: {grpc: {endpoint: %q}}}
processors: %s
connectors: %s
exporters:
  nop:
service:
  telemetry:
    metrics: {level: none}
  pipelines:
    traces: {receivers: [otlp], processors: %s, exporters: [%s]}
`

func freeEndpoint(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func waitFor(ctx context.Context, endpoint string) error {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", endpoint)
		if err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("nothing listens at %s after 20 s", endpoint)
}

func report(results [][]result, spans int) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "processor\tspans/s\tCPU s per M spans\tagainst nop\tpeak RSS MiB\trefused batches")
	million := float64(spans) / 1e6
	base := median(results[0], func(r result) float64 { return r.cpu.Seconds() })
	for i, c := range candidates {
		cpu := median(results[i], func(r result) float64 { return r.cpu.Seconds() })
		fmt.Fprintf(w, "%s\t%.0f k\t%.2f\t%.2f\t%.0f\t%.0f\n", c.name,
			median(results[i], func(r result) float64 { return float64(spans) / r.elapsed.Seconds() })/1000,
			cpu/million, cpu/base,
			median(results[i], func(r result) float64 { return float64(r.peak) })/(1<<20),
			median(results[i], func(r result) float64 { return float64(r.refused) }))
	}
	return w.Flush()
}

func median(rs []result, of func(result) float64) float64 {
	vs := make([]float64, len(rs))
	for i, r := range rs {
		vs[i] = of(r)
	}
	slices.Sort(vs)
	return vs[len(vs)/2]
}
