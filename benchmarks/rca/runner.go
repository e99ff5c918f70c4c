package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/benchmarks/rca/perturb"
	"github.com/yairfalse/tapio/benchmarks/rca/symptom"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/replay"
)

// gap is the time between two recordings that follow each other in one engine:
// both are cut off somewhere, and their requests should not seem to overlap.
const gap = time.Second

// sameServices is the least share of a recording's services that another one must
// have for its past to be this one's past.
const sameServices = 0.5

// runner replays recordings.
type runner struct {
	options options
	changes perturb.Options
	logger  *zap.Logger
}

// outcome is what the engine said of one recording.
type outcome struct {
	recording *dataset.Recording
	// of is nil for a fault-free recording.
	of *dataset.Case
	// findings are those of the recording, the best first; before are those of the
	// minutes it was warmed with.
	findings, before []*finding.Finding
	counts           replay.Counts
	dropped          map[string]int64
	// cpu is 0 when it is not known.
	cpu  time.Duration
	warm time.Duration // of fault-free time before it
	// symptom is when the failure showed first, zero when it is not known.
	symptom time.Time
	// named is whom each finding named in turn.
	named map[finding.ID][]replay.Named
}

// all replays every case, then every fault-free recording that is to be judged on an
// engine that was warmed with the others.
func (r *runner) all(ctx context.Context, set *dataset.Set, judged []*dataset.Recording) ([]*outcome, error) {
	past, err := pastOf(set)
	if err != nil {
		return nil, err
	}
	var jobs []func() (*outcome, error)
	for _, c := range set.Cases {
		jobs = append(jobs, func() (*outcome, error) {
			o, err := r.replay(ctx, &c.Recording, set.Baselines)
			if err != nil {
				return nil, err
			}
			o.of = c
			o.symptom, err = firstSymptom(c, past)
			return o, err
		})
	}
	for _, b := range judged {
		others := slices.DeleteFunc(slices.Clone(set.Baselines), func(o *dataset.Recording) bool { return o == b })
		jobs = append(jobs, func() (*outcome, error) { return r.replay(ctx, b, others) })
	}
	return parallel(jobs, r.options.parallel)
}

// pastOf is what the first symptoms of the cases are compared with.
func pastOf(set *dataset.Set) (*symptom.Past, error) {
	if !slices.ContainsFunc(set.Cases, func(c *dataset.Case) bool { return c.Service != "" }) {
		return symptom.NewPast(), nil
	}
	var past []dataset.Telemetry
	for _, b := range set.Baselines {
		t, err := b.Load(0)
		if err != nil {
			return nil, err
		}
		past = append(past, t)
	}
	return symptom.NewPast(past...), nil
}

// firstSymptom is when a case's failure first showed, whatever is withheld from the
// engine.
func firstSymptom(c *dataset.Case, past *symptom.Past) (time.Time, error) {
	if c.Service == "" || c.Onset.IsZero() {
		return c.Onset, nil
	}
	of, err := c.Load(0)
	if err != nil {
		return time.Time{}, err
	}
	if at := past.First(of, c.Service, c.Onset); !at.IsZero() {
		return at, nil
	}
	return c.Onset, nil
}

// parallel does the jobs, n at a time, and returns what they return in order.
func parallel[T any](jobs []func() (T, error), n int) ([]T, error) {
	out, errs := make([]T, len(jobs)), make([]error, len(jobs))
	var wg sync.WaitGroup
	slots := make(chan struct{}, n)
	for i, job := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			out[i], errs[i] = job()
			<-slots
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

// replay takes one recording through a fresh engine.
func (r *runner) replay(ctx context.Context, rec *dataset.Recording, warmers []*dataset.Recording) (o *outcome, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", rec.ID, err)
		}
	}()
	cfg, err := replay.LoadConfig(r.options.config)
	if err != nil {
		return nil, err
	}
	engine, err := replay.Start(ctx, cfg, r.logger)
	if err != nil {
		return nil, err
	}
	o = &outcome{recording: rec}
	cpu := cpuTime()
	late := perturb.NewLate(r.changes, engine)
	var sink replay.Sink = engine
	if r.changes.Delays() {
		sink = late
	}
	buffer := replay.NewBuffer(sink, math.MaxInt)
	if o.warm, err = r.warm(buffer, rec, warmers); err == nil {
		err = r.put(buffer, rec, 0)
	}
	if err == nil {
		err = errors.Join(buffer.Flush(ctx), late.Flush(ctx))
	}
	found, dropped, finished := engine.Finish(ctx)
	if err = errors.Join(err, finished); err != nil {
		return nil, err
	}
	o.counts, o.dropped = buffer.Counts, dropped
	if r.options.parallel == 1 {
		o.cpu = cpuTime() - cpu
	}
	o.sort(found)
	o.named = map[finding.ID][]replay.Named{}
	for _, f := range found {
		o.named[f.ID] = engine.Names(f.ID)
	}
	return o, nil
}

// warm puts the recordings of the same services before rec, the last to end where
// rec begins. It returns how long they are.
func (r *runner) warm(buffer *replay.Buffer, rec *dataset.Recording, warmers []*dataset.Recording) (total time.Duration, err error) {
	end := rec.Start
	for _, w := range nearestFirst(rec, warmers) {
		end = end.Add(-gap)
		if err := r.put(buffer, w, end.Sub(w.End)); err != nil {
			return 0, fmt.Errorf("%s: %w", w.ID, err)
		}
		length := w.End.Sub(w.Start)
		end, total = end.Add(-length), total+length
	}
	return total, nil
}

// nearestFirst returns the recordings that rec can be warmed with, backwards in the
// order in which they are put before it: what an engine saw last should be like
// what it sees next. So those with most signals are nearest, and of these the
// ones that were recorded at nearly the same time.
func nearestFirst(rec *dataset.Recording, warmers []*dataset.Recording) []*dataset.Recording {
	warmers = slices.DeleteFunc(slices.Clone(warmers), func(w *dataset.Recording) bool {
		return overlap(rec.Services, w.Services) < sameServices
	})
	away := func(w *dataset.Recording) time.Duration { return rec.Start.Sub(w.Start).Abs() }
	slices.SortStableFunc(warmers, func(a, b *dataset.Recording) int {
		return cmp.Or(cmp.Compare(b.Signals, a.Signals), cmp.Compare(away(a), away(b)))
	})
	return warmers
}

// overlap is the share of a's elements that b has too; both are sorted.
func overlap(a, b []string) float64 {
	n := 0
	for _, s := range a {
		if _, ok := slices.BinarySearch(b, s); ok {
			n++
		}
	}
	return float64(n) / float64(max(len(a), 1))
}

// put gives the recording's telemetry to the buffer, but for the signals withheld.
func (r *runner) put(buffer *replay.Buffer, rec *dataset.Recording, shift time.Duration) error {
	t, err := rec.Load(shift)
	if err != nil {
		return err
	}
	var errs []error
	for _, td := range t.Traces {
		if !r.options.noTraces {
			_, err := buffer.Traces(td)
			errs = append(errs, err)
		}
	}
	for _, ld := range t.Logs {
		if !r.options.noLogs {
			_, err := buffer.Logs(ld)
			errs = append(errs, err)
		}
	}
	for _, md := range t.Metrics {
		if !r.options.noMetrics {
			_, err := buffer.Metrics(md)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sort tells the findings that count from those of before, and ranks them: those that
// stand before those that were withdrawn, then what began in the recording first, then by confidence, then by detection.
func (o *outcome) sort(found []*finding.Finding) {
	start := o.recording.Start
	for _, f := range found {
		if f.UpdatedAt.Before(start) && f.DetectedAt.Before(start) {
			o.before = append(o.before, f)
		} else {
			o.findings = append(o.findings, f)
		}
	}
	old := func(f *finding.Finding) int {
		if f.DetectedAt.Before(start) {
			return 1
		}
		return 0
	}
	withdrawn := func(f *finding.Finding) int {
		if f.State == finding.StateWithdrawn {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(o.findings, func(a, b *finding.Finding) int {
		return cmp.Or(cmp.Compare(withdrawn(a), withdrawn(b)), cmp.Compare(old(a), old(b)), cmp.Compare(b.Confidence.Score, a.Confidence.Score), a.DetectedAt.Compare(b.DetectedAt))
	})
}

// cpuTime is the CPU time of this process so far.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
