package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/yairfalse/tapio/benchmarks/rca/cloudopsbench"
	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/benchmarks/rca/nezha"
	"github.com/yairfalse/tapio/benchmarks/rca/perturb"
	"github.com/yairfalse/tapio/benchmarks/scenario"
	"github.com/yairfalse/tapio/internal/replay"
)

// format is a data set that the harness can read. Which one a directory is its
// files tell.
type format struct {
	name string
	is   func(dir string) (bool, error)
	open func(dir string) (*dataset.Set, error)
}

var formats = []format{
	{nezha.Name, nezha.Is, nezha.Open},
	{cloudopsbench.Name, cloudopsbench.Is, cloudopsbench.Open},
}

type options struct {
	data, json, config, cases   string
	scenario, perturb, known    string
	noTraces, noLogs, noMetrics bool
	noBaseline, verbose, robust bool
	parallel                    int
}

func main() {
	var o options
	flag.StringVar(&o.data, "data", "", "directory of a data set (required)")
	flag.StringVar(&o.scenario, "scenario", "", "instead of --data: generated failures, such as services=50,noise=1,missing=logs+kernel,skew=500ms,loss=0.1,faults=all,seed=1,cases=1; \"default\" for all defaults")
	flag.StringVar(&o.perturb, "perturb", "", "change the recordings: thin=0.5 (traces kept), drop=0.05 (records lost), late=5s (batches of exporters, out of order), retry=0.02 (of these, a minute late), skew=500ms (clocks of services), jitter=0.3 (durations), head=20s, tail=20s (cut off cases), baseline=1 (warm with this one only), names or words (replaced by random ones), permute (names change places), seed=1")
	flag.StringVar(&o.known, "known", "", "JSON file of failures that are known to be in fault-free recordings: a list of recording, entity, peer (may be left out) and reason; findings that name one are right, and counted apart")
	flag.BoolVar(&o.robust, "robust", false, "measure under a battery of changes, one line for each")
	flag.StringVar(&o.json, "json", "", "file to write the results to")
	flag.StringVar(&o.config, "config", "", "YAML file with the processor's section of a collector's configuration")
	flag.StringVar(&o.cases, "cases", "", "only cases and fault-free recordings whose id this regular expression matches")
	flag.BoolVar(&o.noTraces, "no-traces", false, "withhold spans")
	flag.BoolVar(&o.noLogs, "no-logs", false, "withhold log records and events")
	flag.BoolVar(&o.noMetrics, "no-metrics", false, "withhold metrics")
	flag.BoolVar(&o.noBaseline, "no-baseline", false, "do not look for false findings in the fault-free recordings")
	flag.IntVar(&o.parallel, "parallel", 1, "cases at once; CPU time per case is known for 1 only")
	flag.BoolVar(&o.verbose, "v", false, "print every finding in full, as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rca:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, o options) error {
	if (o.data == "") == (o.scenario == "") {
		return errors.New("want --data, the directory of a data set, or --scenario, what to generate")
	}
	if o.parallel < 1 || o.parallel > 64 {
		return fmt.Errorf("--parallel %d: want 1 to 64", o.parallel)
	}
	if o.robust {
		if o.perturb != "" {
			return errors.New("want --robust or --perturb, not both")
		}
		return robust(ctx, out, o)
	}
	sum, err := measured(ctx, o)
	if err != nil {
		return err
	}
	if err := printSummary(out, sum, o.verbose); err != nil {
		return err
	}
	return writeJSON(o.json, sum)
}

// measured replays all recordings.
func measured(ctx context.Context, o options) (*summary, error) {
	only, err := regexp.Compile(o.cases)
	if err != nil {
		return nil, fmt.Errorf("--cases: %w", err)
	}
	if _, err := replay.LoadConfig(o.config); err != nil {
		return nil, err
	}
	changes, err := perturb.Parse(o.perturb)
	if err != nil {
		return nil, fmt.Errorf("--perturb: %w", err)
	}
	failures, err := readKnown(o.known)
	if err != nil {
		return nil, fmt.Errorf("--known: %w", err)
	}
	set, err := o.set()
	if err != nil {
		return nil, err
	}
	if err := perturb.Set(set, changes); err != nil {
		return nil, fmt.Errorf("--perturb: %w", err)
	}
	set.Cases = slices.DeleteFunc(set.Cases, func(c *dataset.Case) bool { return !only.MatchString(c.ID) })
	judged := slices.DeleteFunc(slices.Clone(set.Baselines), func(b *dataset.Recording) bool { return o.noBaseline || !only.MatchString(b.ID) })
	if len(set.Cases) == 0 && len(judged) == 0 {
		return nil, fmt.Errorf("--cases %q: no case of %s has such an id", o.cases, set.Name)
	}
	r := &runner{options: o, changes: changes, logger: zap.New(zapcore.NewCore(
		zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()), zapcore.Lock(os.Stderr), zapcore.WarnLevel))}
	results, err := r.all(ctx, set, judged)
	if err != nil {
		return nil, err
	}
	return summarize(set.Name, results, failures), nil
}

// set reads or generates the data set.
func (o *options) set() (*dataset.Set, error) {
	if o.scenario == "" {
		return open(o.data)
	}
	if o.scenario == "default" {
		return scenario.New(scenario.DefaultOptions())
	}
	generated, err := scenario.Parse(o.scenario)
	if err != nil {
		return nil, fmt.Errorf("--scenario: %w", err)
	}
	return scenario.New(generated)
}

// open reads the data set in dir.
func open(dir string) (*dataset.Set, error) {
	if _, err := os.ReadDir(dir); err != nil {
		return nil, err
	}
	names := ""
	for _, f := range formats {
		is, err := f.is(dir)
		if err != nil {
			return nil, err
		}
		if is {
			return f.open(dir)
		}
		names += " " + f.name
	}
	return nil, fmt.Errorf("--data %s: no recording of a data set is there; known are:%s", dir, names)
}

func writeJSON(path string, v any) error {
	if path == "" {
		return nil
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o600)
}
