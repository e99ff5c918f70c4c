package engine

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/gauge"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// gaugeEvery is how often resource metrics are judged: they are sampled every 10
// to 60 seconds.
const gaugeEvery = 5 * time.Second

// Metrics takes in data points. It does not change or keep md.
func (e *Engine) Metrics(md pmetric.Metrics) {
	take := func() {
		counts := e.gauges.Metrics(md, e.decoder.Entity, e.now())
		c := &e.Counters
		c.Points.Add(int64(counts.Used + counts.Ignored + counts.Invalid + counts.Late + counts.Refused))
		c.PointsIgnored.Add(int64(counts.Ignored))
		c.Invalid.Add(int64(counts.Invalid))
		c.Late.Add(int64(counts.Late))
		c.SeriesRefused.Add(int64(counts.Refused))
	}
	if e.options.EventTime {
		e.inEventTime(newestPoint(md), take)
		return
	}
	take()
}

// judgeGauges makes events of what resource metrics say: causes like any other
// event, and warnings of limits that will be reached.
func (e *Engine) judgeGauges(now int64) {
	if now-e.gauged < int64(gaugeEvery) && now >= e.gauged {
		return
	}
	e.gauged = now
	report := e.gauges.Judge(now)
	lasting := make(map[gauge.Key]bool, len(report.Anomalies))
	for i := range report.Anomalies {
		a := &report.Anomalies[i]
		lasting[a.Key] = true
		if a.Announce && a.Event != "" {
			e.occur(&detect.Occurrence{Name: a.Event, Time: e.began(a), Subject: a.Subject, Detail: e.detailOf(a)})
		}
	}
	for key := range e.announced {
		if !lasting[key] {
			delete(e.announced, key)
		}
	}
	e.resources(report.Anomalies, now)
	e.judgeDurations(report.Anomalies, now)
	for i := range report.Predictions {
		e.predict(&report.Predictions[i])
	}
}

// detailOf adds to an anomaly what kind of entity it is of: the disk of a node is that
// of all pods on it, a volume is that of one.
func (e *Engine) detailOf(a *gauge.Anomaly) *record.Detail {
	d := a.Detail()
	if x, ok := e.graph.Entity(a.Subject); ok {
		d.Attrs = append(d.Attrs, record.Attr{Key: event.KeyMetricEntityKind, Value: x.Kind.String()})
	}
	return d
}

// began is when an anomaly began; when it was announced before, when it was seen
// last: it goes on.
func (e *Engine) began(a *gauge.Anomaly) int64 {
	if e.announced[a.Key] {
		return a.Time
	}
	e.announced[a.Key] = true
	return a.Since
}

// resources tells the judge of visits which services have an abnormal resource.
func (e *Engine) resources(anomalies []gauge.Anomaly, now int64) {
	scores := map[record.EntityID]float64{}
	for i := range anomalies {
		a := &anomalies[i]
		if service := e.graph.ServiceOf(a.Subject); service != 0 && a.Score > 0 {
			scores[service] = max(scores[service], a.Score)
		}
	}
	for service := range e.scored {
		if _, still := scores[service]; !still {
			e.visits.Resource(service, 0, now)
		}
	}
	for service, z := range scores {
		e.visits.Resource(service, z, now)
	}
	e.scored = scores
}

// predict opens, updates, confirms or withdraws the warning of a limit.
func (e *Engine) predict(p *gauge.Prediction) {
	i := e.predicted[p.Key]
	switch {
	case p.State == gauge.StatePredicted && i == nil:
		o := &detect.Occurrence{Name: event.MetricLimitPredicted, Time: p.Since, Subject: p.Subject, Detail: p.Detail()}
		e.occur(o)
		for _, i := range e.incidents {
			again := i.Predicted() && i.Hypothesis.Explains(o) // predicted before, as of before a restart
			if again || i.Hypothesis.Cause.Occurrence == o {
				i.Predict()
				e.predicted[p.Key] = i
			}
		}
	case i == nil:
	case p.State == gauge.StatePredicted:
		i.Hypothesis.Cause.Attributes = p.Detail().Attrs
		i.Dirty = true
	case p.State == gauge.StateConfirmed:
		i.Confirm(p.Time)
		delete(e.predicted, p.Key)
	default:
		i.Withdraw(p.Time, "The resource is not on its way to its limit any more, or nothing is heard of it.")
		delete(e.predicted, p.Key)
	}
}

// killed confirms a warning when the kernel kills for want of the memory.
func (e *Engine) killed(o *detect.Occurrence) {
	e.confirmForgotten(o)
	for key := range e.predicted {
		if key.Class != gauge.ClassMemory && key.Class != gauge.ClassHeap {
			continue
		}
		if _, ok := e.graph.Concerns(o.Subject, key.Subject); !ok {
			continue
		}
		if p, ok := e.gauges.Confirm(key, o.Time); ok {
			e.predict(&p)
		}
	}
}
