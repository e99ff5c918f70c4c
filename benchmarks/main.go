package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
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

// result is one round of one candidate: what the first spans cost, while memory, tables
// and samplers fill, and what those after them do.
type result struct {
	first, then phase
	peak        int64 // bytes
	// refused are batches that the collector did not take.
	refused int
}

// phase is a number of spans in a row.
type phase struct {
	spans        int
	elapsed, cpu time.Duration
	// cycles are those of the garbage collector, collecting is their CPU time.
	cycles     int
	collecting time.Duration
}

// perMillion is the CPU time of a million spans, in seconds.
func (p *phase) perMillion() float64 { return p.cpu.Seconds() / float64(p.spans) * 1e6 }

func main() {
	collector := flag.String("collector", "../bin/peers/otelcol-peers", "the collector's binary")
	first := flag.Int("first", 1_200_000, "spans to send first in each round: enough to fill the ring and to reach a memory limit of 2 GiB")
	spans := flag.Int("spans", 1_000_000, "spans to send then")
	rounds := flag.Int("rounds", 5, "rounds for each processor")
	only := flag.String("only", "", "names of processors to compare with none, separated by commas; all if empty")
	flag.Parse()
	if err := run(*collector, [2]int{*first, *spans}, *rounds, *only); err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		os.Exit(1)
	}
}

func run(collector string, spans [2]int, rounds int, only string) error {
	if min(spans[0], spans[1]) < batchSpans || rounds < 1 {
		return fmt.Errorf("want at least %d spans twice and 1 round, not %v and %d", batchSpans, spans, rounds)
	}
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	results := make([][]result, len(chosen))
	for round := range rounds {
		for i, c := range chosen {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, rounds, c.name)
			r, err := measure(collector, c, spans)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	return report(chosen, results)
}

// choose returns the candidates of these names, after the one that all are compared with.
func choose(only string) ([]candidate, error) {
	if only == "" {
		return candidates, nil
	}
	chosen := candidates[:1:1]
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(candidates, func(c candidate) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no processor %q is measured", name)
		}
		if i > 0 {
			chosen = append(chosen, candidates[i])
		}
	}
	return chosen, nil
}

// measure runs one collector and sends it the spans.
func measure(binary string, c candidate, spans [2]int) (r result, err error) {
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
	cmd.Env = append(os.Environ(), "GODEBUG=gctrace=1") // one line a cycle
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
	l := load{endpoint: endpoint, pid: cmd.Process.Pid, log: log.Name()}
	if r.first, err = l.send(ctx, spans[0]); err != nil {
		return r, err
	}
	if r.then, err = l.send(ctx, spans[1]); err != nil {
		return r, err
	}
	r.refused = int(l.refused.Load())
	r.peak, err = peakOf(l.pid)
	return r, err
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

func report(chosen []candidate, results [][]result) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, part := range []struct {
		name string
		of   func(*result) *phase
	}{
		{"first", func(r *result) *phase { return &r.first }},
		{"then", func(r *result) *phase { return &r.then }},
	} {
		fmt.Fprintf(w, "%s %d spans\tspans/s\tCPU s per M spans\tagainst nop of the same round (quartiles)\tGC cycles\tGC CPU s\tpeak RSS MiB\trefused batches\n",
			part.name, part.of(&results[0][0]).spans)
		for i, c := range chosen {
			values := func(of func(round int, p *phase) float64) []float64 {
				var vs []float64
				for round := range results[i] {
					vs = append(vs, of(round, part.of(&results[i][round])))
				}
				return vs
			}
			ratios := values(func(round int, p *phase) float64 { return p.perMillion() / part.of(&results[0][round]).perMillion() })
			fmt.Fprintf(w, "%s\t%.0f k\t%.2f\t%.2f (%.2f to %.2f)\t%.0f\t%.2f\t%.0f\t%.0f\n", c.name,
				quantile(values(func(_ int, p *phase) float64 { return float64(p.spans) / p.elapsed.Seconds() }), 0.5)/1000,
				quantile(values(func(_ int, p *phase) float64 { return p.perMillion() }), 0.5),
				quantile(ratios, 0.5), quantile(ratios, 0.25), quantile(ratios, 0.75),
				quantile(values(func(_ int, p *phase) float64 { return float64(p.cycles) }), 0.5),
				quantile(values(func(_ int, p *phase) float64 { return p.collecting.Seconds() }), 0.5),
				quantile(values(func(round int, _ *phase) float64 { return float64(results[i][round].peak) }), 0.5)/(1<<20),
				quantile(values(func(round int, _ *phase) float64 { return float64(results[i][round].refused) }), 0.5))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// quantile returns the nearest of the values that are there.
func quantile(vs []float64, q float64) float64 {
	slices.Sort(vs)
	return vs[int(math.Round(q*float64(len(vs)-1)))]
}
