package patterns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/replay"
)

// Level is a value from a time on.
type Level struct {
	// At is a time after the beginning.
	At time.Duration `yaml:"at"`
	// Value holds until the next level; for counters it is the increase per second.
	Value float64 `yaml:"value"`
}

// Metric is a metric of a scenario, sampled at a steady pace until its end.
type Metric struct {
	Metric string `yaml:"metric"`
	// Counter makes a cumulative counter of it.
	Counter bool `yaml:"counter"`
	// Histogram makes a cumulative histogram of it: ten values a second, whose mean the
	// levels are.
	Histogram bool `yaml:"histogram"`
	// Every is the time between samples, Until that of the last.
	Every time.Duration `yaml:"every"`
	Until time.Duration `yaml:"until"`
	// Levels are in order of time, the first at 0s.
	Levels []Level `yaml:"levels"`
	// Resource and Attributes are those of the data points.
	Resource   map[string]any `yaml:"resource"`
	Attributes map[string]any `yaml:"attributes"`
}

// Requests are server spans of a scenario, at a steady pace.
type Requests struct {
	// Name is that of the spans.
	Name string `yaml:"name"`
	// Every is the time between two, Until that of the last.
	Every time.Duration `yaml:"every"`
	Until time.Duration `yaml:"until"`
	// Seconds are how long they take; a tenth of variation is added.
	Seconds []Level `yaml:"seconds"`
	// Failing is the share of them that fail, 0 or 1; none without it.
	Failing  []Level        `yaml:"failing"`
	Resource map[string]any `yaml:"resource"`
	// Caller is the resource of who makes them: each then has a client span, its parent,
	// that fails with it. Without it they come from nobody.
	Caller map[string]any `yaml:"caller"`
}

// maxSamples bounds a metric or the requests of a scenario.
const maxSamples = 100_000

// pace says what is wrong with the times of a series.
func pace(every, until time.Duration, levels []Level) error {
	switch {
	case every <= 0 || until < 0 || until > maxScenario:
		return fmt.Errorf("every: %v, until: %v: want every above 0s and until up to %v", every, until, maxScenario)
	case until/every > maxSamples:
		return fmt.Errorf("every: %v: want at most %d until %v", every, maxSamples, until)
	case len(levels) == 0 || levels[0].At != 0:
		return errors.New("want at least one level, the first at 0s")
	}
	for i := 1; i < len(levels); i++ {
		if levels[i].At <= levels[i-1].At {
			return fmt.Errorf("level %d, at %v: want the order of time", i, levels[i].At)
		}
	}
	return nil
}

func (m *Metric) validate() error {
	switch {
	case m.Metric == "":
		return errors.New("metric: must be set")
	case m.Counter && m.Histogram:
		return errors.New("counter, histogram: want one of them")
	}
	return pace(m.Every, m.Until, m.Levels)
}

func (r *Requests) validate() error {
	if r.Name == "" {
		return errors.New("name: must be set")
	}
	err := pace(r.Every, r.Until, r.Seconds)
	if err == nil && len(r.Failing) > 0 {
		err = pace(r.Every, r.Until, r.Failing)
	}
	return err
}

// at returns the value at a time, 0 without levels.
func at(levels []Level, t time.Duration) (v float64) {
	for _, l := range levels {
		if l.At <= t {
			v = l.Value
		}
	}
	return v
}

// metrics calls do with each sample.
func (m *Metric) metrics(do func(pmetric.Metrics) error) error {
	total, count := 0.0, 0.0
	for t := time.Duration(0); t <= m.Until; t += m.Every {
		md := pmetric.NewMetrics()
		rm := md.ResourceMetrics().AppendEmpty()
		x := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
		x.SetName(m.Metric)
		value := at(m.Levels, t)
		if m.Histogram {
			n := 10 * m.Every.Seconds()
			count, total = count+n, total+value*n
			h := x.SetEmptyHistogram()
			h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			dp := h.DataPoints().AppendEmpty()
			dp.SetTimestamp(pcommon.NewTimestampFromTime(epoch.Add(t)))
			dp.SetCount(uint64(count))
			dp.SetSum(total)
			if err := errors.Join(rm.Resource().Attributes().FromRaw(m.Resource), dp.Attributes().FromRaw(m.Attributes), do(md)); err != nil {
				return err
			}
			continue
		}
		var dp pmetric.NumberDataPoint
		if m.Counter {
			total += value * m.Every.Seconds()
			s := x.SetEmptySum()
			s.SetIsMonotonic(true)
			s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			dp, value = s.DataPoints().AppendEmpty(), total
		} else {
			dp = x.SetEmptyGauge().DataPoints().AppendEmpty()
		}
		dp.SetTimestamp(pcommon.NewTimestampFromTime(epoch.Add(t)))
		dp.SetDoubleValue(value)
		if err := errors.Join(rm.Resource().Attributes().FromRaw(m.Resource), dp.Attributes().FromRaw(m.Attributes), do(md)); err != nil {
			return err
		}
	}
	return nil
}

// traces calls do with each request. n tells the requests of a scenario apart.
func (r *Requests) traces(n int, do func(ptrace.Traces) error) error {
	for i, t := 0, time.Duration(0); t <= r.Until; i, t = i+1, t+r.Every {
		td := ptrace.NewTraces()
		rs := td.ResourceSpans().AppendEmpty()
		s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		var id [16]byte
		binary.BigEndian.PutUint64(id[:], uint64(n+1)<<32|uint64(i+1))
		binary.BigEndian.PutUint64(id[8:], uint64(n+1)<<32|uint64(i+1))
		s.SetTraceID(id)
		s.SetSpanID([8]byte(id[8:]))
		s.SetName(r.Name)
		s.SetKind(ptrace.SpanKindServer)
		seconds := at(r.Seconds, t) * (1 + 0.1*float64(i*7%11)/11)
		s.SetStartTimestamp(pcommon.NewTimestampFromTime(epoch.Add(t)))
		s.SetEndTimestamp(pcommon.NewTimestampFromTime(epoch.Add(t + time.Duration(seconds*float64(time.Second)))))
		if at(r.Failing, t) > 0 {
			s.Status().SetCode(ptrace.StatusCodeError)
		}
		err := rs.Resource().Attributes().FromRaw(r.Resource)
		if err == nil && r.Caller != nil {
			err = r.call(td, s)
		}
		if err := errors.Join(err, do(td)); err != nil {
			return err
		}
	}
	return nil
}

// call adds the client span that makes a request.
func (r *Requests) call(td ptrace.Traces, request ptrace.Span) error {
	rs := td.ResourceSpans().AppendEmpty()
	s := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	request.CopyTo(s)
	id := request.SpanID()
	id[0] |= 0x80 // the other ids begin with a small number
	s.SetSpanID(id)
	s.SetKind(ptrace.SpanKindClient)
	request.SetParentSpanID(id)
	return rs.Resource().Attributes().FromRaw(r.Caller)
}

// series delivers the metrics and requests of a scenario.
func (s *Scenario) series(to *replay.Buffer) error {
	for i := range s.Metrics {
		if err := s.Metrics[i].metrics(func(md pmetric.Metrics) error {
			_, err := to.Metrics(md)
			return err
		}); err != nil {
			return fmt.Errorf("metrics[%d]: %w", i, err)
		}
	}
	for i := range s.Requests {
		if err := s.Requests[i].traces(i, func(td ptrace.Traces) error {
			_, err := to.Traces(td)
			return err
		}); err != nil {
			return fmt.Errorf("requests[%d]: %w", i, err)
		}
	}
	return nil
}
