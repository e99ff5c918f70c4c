//go:build linux

// Command ebpf measures what the kernel programs of the receiver tapio_ebpf cost,
// and bpftrace beside it, counting the same events: failing system calls by
// cgroup, call and error.
//
// An empty program at the place of the receiver's shows what is the kernel's own part:
// from the first program on, every call of the machine goes the way of traced ones.
//
// The calls are made by another process, on every CPU, and each thread reads its
// own CPU time, so that who else runs on the machine counts as little as can be.
// The rounds of the candidates are interleaved; the table has their medians.
// The receiver is the real one, with its defaults, into a consumer that does
// nothing but add up.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		if err := produce(role); err != nil {
			fmt.Fprintln(os.Stderr, "ebpf:", err)
			os.Exit(1)
		}
		return
	}
	rounds := flag.Int("rounds", 5, "rounds of each candidate")
	idle := flag.Duration("idle", 0, "measure the default groups for so long with nothing to do, and nothing else")
	flag.Parse()
	measureAll := func() error { return run(*rounds) }
	if *idle > 0 {
		measureAll = func() error { return measureIdle(*idle) }
	}
	if err := measureAll(); err != nil {
		fmt.Fprintln(os.Stderr, "ebpf:", err)
		os.Exit(1)
	}
}

// candidate is something that may watch the calls.
type candidate struct {
	name string
	// start returns when it watches.
	start func() (watcher, error)
	// counts says that it counts the failing calls.
	counts bool
}

// candidates in the order of the table, which its last lines compare.
var candidates = []candidate{
	{"nothing", startNothing, false}, {"an empty program", startEmpty, false}, {"tapio_ebpf", startReceiver, true}, {"bpftrace", startBpftrace, true},
}

// Places of candidates.
const (
	nobody = iota
	emptyProgram
	ours
	theirs
)

// watcher is a candidate that runs.
type watcher interface {
	// cpu is the CPU time of its user space so far.
	cpu() (time.Duration, error)
	// stop ends it and returns how many of the failing calls it has counted.
	stop() (counted uint64, err error)
}

// round is what one round of one candidate measured.
type round struct {
	succeeding, failing float64 // ns of CPU for each call, kernel included
	produced, counted   uint64
	rate                float64 // failing calls a second
	reader              float64 // CPUs that user space used meanwhile
}

func run(rounds int) error {
	results := make([][]round, len(candidates))
	for n := range rounds {
		for i, c := range candidates {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", n+1, rounds, c.name)
			r, err := measure(c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	return report(results)
}

func measure(c candidate) (r round, err error) {
	w, err := c.start()
	if err != nil {
		return r, err
	}
	ok, err := runRole(roleSucceed)
	if err != nil {
		_, stopErr := w.stop()
		return r, errors.Join(err, stopErr)
	}
	before, err := w.cpu()
	if err != nil {
		return r, err
	}
	failed, err := runRole(roleFail)
	after, cpuErr := w.cpu()
	counted, stopErr := w.stop()
	return round{
		succeeding: ok.perCall(), failing: failed.perCall(), produced: failed.Calls, counted: counted,
		rate: float64(failed.Calls) / failed.Elapsed.Seconds(), reader: (after - before).Seconds() / failed.Elapsed.Seconds(),
	}, errors.Join(err, cpuErr, stopErr)
}

func report(results [][]round) error {
	median := func(i int, of func(round) float64) float64 {
		var all []float64
		for _, r := range results[i] {
			all = append(all, of(r))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	succeeding := func(r round) float64 { return r.succeeding }
	failing := func(r round) float64 { return r.failing }
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	var host unix.Utsname
	if err := unix.Uname(&host); err != nil {
		return err
	}
	fmt.Printf("Linux %s, %s, %d CPUs; medians of %d rounds\n", unix.ByteSliceToString(host.Release[:]), runtime.GOARCH, runtime.NumCPU(), len(results[0]))
	fmt.Fprintln(w, "watching\tns added to a call that succeeds\tto one that fails\tfailing calls/s\tlost\tCPUs of the reader")
	for i, c := range candidates {
		var produced, counted uint64
		for _, r := range results[i] {
			produced, counted = produced+r.produced, counted+r.counted
		}
		lost := "-"
		if c.counts {
			lost = fmt.Sprintf("%d of %d", int64(produced)-int64(counted), produced)
		}
		fmt.Fprintf(w, "%s\t%.0f (of %.0f)\t%.0f (of %.0f)\t%.0f\t%s\t%.4f\n", c.name,
			median(i, succeeding)-median(nobody, succeeding), median(i, succeeding), median(i, failing)-median(nobody, failing), median(i, failing),
			median(i, func(r round) float64 { return r.rate }), lost, median(i, func(r round) float64 { return r.reader }))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	added := func(i int, of func(round) float64) float64 { return median(i, of) - median(nobody, of) }
	fmt.Printf("tapio_ebpf against bpftrace: %.2f of its cost for a call that succeeds, %.2f for one that fails; an empty program at the same place: %.2f and %.2f\n",
		added(ours, succeeding)/added(theirs, succeeding), added(ours, failing)/added(theirs, failing),
		added(emptyProgram, succeeding)/added(theirs, succeeding), added(emptyProgram, failing)/added(theirs, failing))
	return nil
}
