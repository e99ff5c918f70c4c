package perturb

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/internal/event"
)

// Set changes all recordings of a set, when they are loaded.
func Set(set *dataset.Set, o Options) error {
	if o == (Options{Thin: 1, Seed: o.Seed}) {
		return nil
	}
	if o.Baseline > len(set.Baselines) {
		return fmt.Errorf("baseline: %d: %s has %d fault-free recordings", o.Baseline, set.Name, len(set.Baselines))
	}
	if o.Baseline > 0 {
		set.Baselines = set.Baselines[o.Baseline-1 : o.Baseline]
	}
	var names *renamer
	if o.Names || o.Permute {
		var err error
		if names, err = newRenamer(set, o); err != nil {
			return err
		}
	}
	for _, c := range set.Cases {
		c.Start, c.End = c.Start.Add(o.Head), c.End.Add(-o.Tail)
		if names != nil && c.Truth != nil {
			c.Truth, c.Service = names.truth(c.Truth), names.name(c.Service)
		}
		change(&c.Recording, o, names)
	}
	for _, b := range set.Baselines {
		change(b, o, names)
	}
	return nil
}

func change(r *dataset.Recording, o Options, names *renamer) {
	load, start, end := r.Load, r.Start, r.End
	id := sum(o.Seed, r.ID)
	if names != nil {
		r.Services = names.all(r.Services)
	}
	r.Load = func(shift time.Duration) (dataset.Telemetry, error) {
		t, err := load(shift)
		if err != nil {
			return t, err
		}
		p := &pass{
			options: o, random: rand.New(rand.NewPCG(o.Seed, id)),
			from: pcommon.NewTimestampFromTime(start.Add(shift)), to: pcommon.NewTimestampFromTime(end.Add(shift)),
		}
		p.telemetry(t)
		if names != nil {
			names.telemetry(t)
		}
		return t, nil
	}
}

// pass changes one recording.
type pass struct {
	options  Options
	random   *rand.Rand
	from, to pcommon.Timestamp
}

func sum(seed uint64, text string) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d %s", seed, text)
	return h.Sum64()
}

// keeps tells whether what belongs to a trace, at a time, is kept.
func (p *pass) keeps(trace pcommon.TraceID, at pcommon.Timestamp) bool {
	if at < p.from || at > p.to || p.options.Drop > 0 && p.random.Float64() < p.options.Drop {
		return false
	}
	return trace.IsEmpty() || float64(sum(p.options.Seed, string(trace[:])))/math.MaxUint64 <= p.options.Thin
}

// skew is how far the clock of a resource's service is off.
func (p *pass) skew(r pcommon.Resource) int64 {
	name, ok := r.Attributes().Get(event.KeyServiceName)
	if !ok || p.options.Skew == 0 {
		return 0
	}
	share := float64(sum(p.options.Seed, name.Str())) / math.MaxUint64
	return int64((2*share - 1) * float64(p.options.Skew))
}

func moved(at pcommon.Timestamp, by int64) pcommon.Timestamp {
	return pcommon.Timestamp(max(int64(at)+by, 1))
}

func (p *pass) telemetry(t dataset.Telemetry) {
	for _, td := range t.Traces {
		for _, rs := range td.ResourceSpans().All() {
			skew := p.skew(rs.Resource())
			for _, ss := range rs.ScopeSpans().All() {
				ss.Spans().RemoveIf(func(s ptrace.Span) bool { return !p.span(s, skew) })
			}
		}
	}
	for _, ld := range t.Logs {
		for _, rl := range ld.ResourceLogs().All() {
			skew := p.skew(rl.Resource())
			for _, sl := range rl.ScopeLogs().All() {
				sl.LogRecords().RemoveIf(func(l plog.LogRecord) bool { return !p.log(l, skew) })
			}
		}
	}
	for _, md := range t.Metrics {
		for _, rm := range md.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					p.points(m)
				}
			}
		}
	}
}

func (p *pass) span(s ptrace.Span, skew int64) bool {
	if !p.keeps(s.TraceID(), s.EndTimestamp()) {
		return false
	}
	length := float64(s.EndTimestamp() - s.StartTimestamp())
	if p.options.Jitter > 0 {
		length *= math.Exp(p.options.Jitter * p.random.NormFloat64())
	}
	s.SetStartTimestamp(moved(s.StartTimestamp(), skew))
	s.SetEndTimestamp(moved(s.StartTimestamp(), int64(length)))
	return true
}

func (p *pass) log(l plog.LogRecord, skew int64) bool {
	if !p.keeps(l.TraceID(), max(l.Timestamp(), l.ObservedTimestamp())) {
		return false
	}
	if l.Timestamp() != 0 {
		l.SetTimestamp(moved(l.Timestamp(), skew))
	}
	if l.ObservedTimestamp() != 0 {
		l.SetObservedTimestamp(moved(l.ObservedTimestamp(), skew))
	}
	return true
}

// points drops data points. Those from before a case are the past of its metrics: they
// are not cut off.
func (p *pass) points(m pmetric.Metric) {
	drop := func(n pmetric.NumberDataPoint) bool {
		return p.options.Tail > 0 && n.Timestamp() > p.to || p.options.Drop > 0 && p.random.Float64() < p.options.Drop
	}
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		m.Gauge().DataPoints().RemoveIf(drop)
	case pmetric.MetricTypeSum:
		m.Sum().DataPoints().RemoveIf(drop)
	}
}
