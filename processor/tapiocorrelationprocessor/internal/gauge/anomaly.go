package gauge

import (
	"cmp"
	"math"
	"slices"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// Key names one resource of one entity. It can be compared, and is the same in
// every run that resolves entities in the same order.
type Key struct {
	// Subject is the entity, as the topology resolved it.
	Subject record.EntityID
	Class   Class
	// Container is the container's name where the subject may be its pod.
	Container string
	// Instance tells resources of one class apart: a mount point, a pool, a network
	// interface, a queue; often empty.
	Instance string
}

func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Subject, o.Subject), cmp.Compare(k.Class, o.Class),
		cmp.Compare(k.Container, o.Container), cmp.Compare(k.Instance, o.Instance))
}

// Anomaly is a resource that changed or is at its limit.
type Anomaly struct {
	Key
	// Event names it for patterns, "" when the change is too small to be a cause by
	// itself and only adds to the score of a service.
	Event string
	// Announce is set when it opens and once a minute while it lasts: the moments at
	// which it is an occurrence.
	Announce bool
	// Z is the change against its own past, or against its peers when it has none,
	// as a z score; Score what of it counts for its service: 0 for classes that
	// raise no alarm alone.
	Z, Score float64
	// Value is the value now, Before the median of its past, Limit its limit (0 when
	// unknown), all in Unit (UCUM).
	Value, Before, Limit float64
	Unit                 string
	// Replicas are the other members of the workload that report this resource,
	// Alike those of them that have the same anomaly: when all do, it is load, not
	// one that went wrong.
	Replicas, Alike int
	// Since is when it began, Time the newest sample; ns since 1970.
	Since, Time int64
}

// Detail returns what patterns and findings read of the anomaly. Its name is Event.
func (a *Anomaly) Detail() *record.Detail {
	d := &record.Detail{Name: a.Event, Attrs: attributesOf(a.Key, a.Value, a.Limit)}
	d.Attrs = append(d.Attrs, record.Attr{Key: event.KeyMetricBefore, Value: tidy(a.Before)}, record.Attr{Key: event.KeyMetricZ, Value: tidy(a.Z)})
	return d
}

// tidy rounds to six digits: the past is kept with about seven.
func tidy(x float64) float64 {
	if x == 0 {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(math.Abs(x)))-5)
	return math.Round(x/unit) * unit
}

func attributesOf(k Key, value, limit float64) []record.Attr {
	attrs := []record.Attr{
		{Key: event.KeyMetricClass, Value: k.Class.String()},
		{Key: event.KeyMetricUnit, Value: k.Class.Unit()},
		{Key: event.KeyMetricValue, Value: value},
	}
	if limit > 0 {
		attrs = append(attrs, record.Attr{Key: event.KeyMetricLimit, Value: limit})
	}
	if k.Instance != "" {
		attrs = append(attrs, record.Attr{Key: event.KeyMetricInstance, Value: k.Instance})
	}
	if k.Container != "" {
		attrs = append(attrs, record.Attr{Key: event.KeyContainerName, Value: k.Container})
	}
	return attrs
}

// State is where a prediction stands.
type State uint8

// The states of a prediction.
const (
	// StatePredicted: at this slope the limit is reached within the horizon.
	StatePredicted State = iota + 1
	// StateConfirmed: the limit was reached.
	StateConfirmed
	// StateWithdrawn: the trend ended before the limit.
	StateWithdrawn
)

// String returns the word for the state.
func (s State) String() string {
	switch s {
	case StatePredicted:
		return "predicted"
	case StateConfirmed:
		return "confirmed"
	case StateWithdrawn:
		return "withdrawn"
	}
	return "unknown"
}

// Prediction is a resource on its way to its limit.
type Prediction struct {
	Key
	State State
	// Value is the value now, Limit its limit, in Unit; Slope its growth per second.
	Value, Limit, Slope float64
	Unit                string
	// Consistency is the share of the pairs of samples of which the later is the
	// larger: 1 for a straight line, 0.5 for noise.
	Consistency float64
	// Since is when the growth began (the oldest sample of the trend), Time the newest
	// sample, ETA when the limit is reached; ns since 1970.
	Since, Time, ETA int64
}

// Detail returns what patterns and findings read of the prediction.
func (p *Prediction) Detail() *record.Detail {
	d := &record.Detail{Name: event.MetricLimitPredicted, Attrs: attributesOf(p.Key, p.Value, p.Limit)}
	d.Attrs = append(d.Attrs, record.Attr{Key: event.KeyMetricSlope, Value: p.Slope},
		record.Attr{Key: event.KeyMetricConsistency, Value: p.Consistency},
		record.Attr{Key: event.KeyMetricETA, Value: max(float64(p.ETA-p.Time)/1e9, 0)},
		record.Attr{Key: event.KeyMetricLimitAt, Value: record.UTC(p.ETA).Format("15:04 MST")})
	return d
}

// Report is what Judge found.
type Report struct {
	// Anomalies are all that hold now.
	Anomalies []Anomaly
	// Predictions are those that are new, that changed much, or that ended.
	Predictions []Prediction
}

func (r *Report) sort() {
	slices.SortFunc(r.Anomalies, func(a, b Anomaly) int { return cmp.Or(cmp.Compare(a.Since, b.Since), a.compare(b.Key)) })
	slices.SortFunc(r.Predictions, func(a, b Prediction) int { return cmp.Or(cmp.Compare(a.Time, b.Time), a.compare(b.Key)) })
}
