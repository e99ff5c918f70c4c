package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/gauge"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// slowFor is how long requests must be slow before a service is named: its callers'
// and callees' metrics are not scraped at the same moment.
const slowFor = 30 * time.Second

// slowAtOnce is how much later than the first a service can become slow and still be
// why: metrics are averaged and scraped at moments of their own.
const slowAtOnce = time.Minute

// slowService is a service whose requests take longer, as its metrics say. Nobody
// sees its spans: they would say it better.
type slowService struct {
	service record.EntityID
	score   float64
	// most is the metric that changed most.
	most *gauge.Anomaly
	// since is when the first of its metrics changed, last its newest sample.
	since, last int64
}

// factor is how many times longer than before its requests take.
func (s *slowService) factor() float64 { return s.most.Value / max(s.most.Before, 0.001) }

// slowServices lists the services whose requests are slow, the most changed first, after
// them those that became slow when others had been for long.
func (e *Engine) slowServices(anomalies []gauge.Anomaly) []slowService {
	type route struct {
		service record.EntityID
		name    string
	}
	squares := map[route]float64{}
	byService := map[record.EntityID]*slowService{}
	for i := range anomalies {
		a := &anomalies[i]
		service := e.graph.ServiceOf(a.Subject)
		if a.Class != gauge.ClassDuration || service == 0 {
			continue
		}
		of := route{service, routeOf(a.Instance)}
		squares[of] += a.Z * a.Z // a change that is too small for an event counts with others
		if a.Event == "" || (byService[service] == nil && len(e.graph.Operations(service)) > 0) {
			continue
		}
		s := byService[service]
		if s == nil {
			s = &slowService{service: service, since: a.Since, most: a}
			byService[service] = s
		}
		if a.Z > s.most.Z {
			s.most = a
		}
		s.since, s.last = min(s.since, a.Since), max(s.last, a.Time)
	}
	for of, square := range squares {
		if s := byService[of.service]; s != nil {
			s.score = max(s.score, math.Sqrt(square))
		}
	}
	out := make([]slowService, 0, len(byService))
	for id, s := range byService {
		for i := range e.slow { // what it was worst
			if before := &e.slow[i]; before.service == id && before.score > s.score {
				s.score, s.most, s.since = before.score, before.most, min(s.since, before.since)
			}
		}
		out = append(out, *s)
	}
	first := int64(math.MaxInt64)
	for i := range out {
		first = min(first, out[i].since)
	}
	late := func(s slowService) int {
		if s.since-first > int64(slowAtOnce) {
			return 1
		}
		return 0
	}
	slices.SortFunc(out, func(a, b slowService) int {
		return cmp.Or(cmp.Compare(late(a), late(b)), cmp.Compare(b.score, a.score), cmp.Compare(e.graph.Key(a.service), e.graph.Key(b.service)))
	})
	return out
}

// routeOf is an instance without the quantile at its end.
func routeOf(instance string) string {
	if i := strings.LastIndexByte(instance, ' '); i >= 0 {
		return instance[:i]
	}
	return ""
}

// judgeDurations opens an incident for the service whose requests slowed down most
// against their own past: the time that a callee loses is small beside what its
// callers take anyhow. Of several that are slow at once the others are its shadows,
// unless it is known that they have nothing to do with each other.
func (e *Engine) judgeDurations(anomalies []gauge.Anomaly, now int64) {
	e.slow = e.slowServices(anomalies)
	for i := range e.slow {
		s := &e.slow[i]
		if o := e.about(s.service); o != nil {
			o.Hypothesis.LastEffect = max(o.Hypothesis.LastEffect, min(s.last, e.latest()))
			o.Dirty = true
		}
	}
	if len(e.slow) == 0 {
		return
	}
	s := &e.slow[0]
	if now-s.since < int64(slowFor) || s.last-s.since < int64(slowFor)/2 {
		return
	}
	if o := e.slowIncident(); o != nil {
		if h := o.Hypothesis; h.Service == s.service || s.since-h.Cause.Time > int64(slowAtOnce) {
			return
		}
		if h := e.whySlow(s); h != nil {
			o.Replace(h, e.now(), fmt.Sprintf("By now the requests of %s have slowed down more.", e.graph.ServiceName(s.service)))
		}
		return
	}
	if e.shadowed(s) {
		return
	}
	if h := e.whySlow(s); h != nil {
		if o := e.open(h); o != nil {
			o.Witness()
		}
	}
}

// slowIncident returns the open incident that was made of durations alone: it goes on
// with the service that turns out to have slowed down more. Nil for none.
func (e *Engine) slowIncident() *open {
	for _, o := range e.incidents {
		if h := o.Hypothesis; h.Cause.Event == pattern.ServiceSlow {
			return o
		}
	}
	return nil
}

// whySlow is the hypothesis of what happened to a slow service, where something did,
// else that it is the cause itself.
func (e *Engine) whySlow(s *slowService) *explain.Hypothesis {
	h := e.best(explain.Target{Service: s.service}, s.last)
	if h == nil || !h.Supported() || h.Confidence(e.options.Weights).Score < e.options.MinScore {
		return e.slowest(s)
	}
	return h
}

// about returns the open incident that has a service as its cause, nil for none.
func (e *Engine) about(service record.EntityID) *open {
	for _, o := range e.incidents {
		if o.Hypothesis.Service == service && o.Emitted() && !o.Predicted() {
			return o
		}
	}
	return nil
}

// shadowed tells whether an open incident may be why a service is slow: its own, that
// of one that it calls, or, where nobody knows whom it calls, any.
func (e *Engine) shadowed(s *slowService) bool {
	callees := e.calleesOf(s.service)
	return slices.ContainsFunc(e.incidents, func(o *open) bool {
		h := o.Hypothesis
		return o.Emitted() && !o.Predicted() && (len(callees) == 0 || h.Service == s.service || h.Service == 0 || slices.Contains(callees, h.Service))
	})
}

// slowest is the hypothesis that a service itself is why requests are slow.
func (e *Engine) slowest(s *slowService) *explain.Hypothesis {
	p := e.patternFor(pattern.ServiceSlow)
	if p == nil {
		return nil
	}
	rival := 0.0
	if len(e.slow) > 1 {
		rival = e.slow[1].score
	}
	attrs := append(s.most.Detail().Attrs, record.Attr{Key: event.KeyMetricFactor, Value: math.Round(s.factor())})
	h := explain.New(e.graph, p, explain.Cause{
		Event: p.Cause.Event, Time: s.since, Entity: s.service, Attributes: attrs,
		Certainty: p.Cause.Reliability * certainty(s.score, rival),
	})
	e.offerKnown(h)
	return h
}

// otherSlow are the services whose requests slowed down too, but less.
func (e *Engine) otherSlow(o *open) []finding.Hypothesis {
	root := slices.IndexFunc(e.slow, func(s slowService) bool { return s.service == o.Hypothesis.Service })
	if root < 0 {
		return nil
	}
	r := &e.slow[root]
	var out []finding.Hypothesis
	for i := range e.slow {
		s := &e.slow[i]
		if s.service == r.service {
			continue
		}
		x := finding.Hypothesis{
			Entity: explain.EntityOf(e.graph, s.service), Score: 0.5 * s.score / max(s.score+r.score, 1),
			Reason: fmt.Sprintf("its requests take %.0f times as long as before, those of %s %.0f times (score %.1f against %.1f)",
				s.factor(), e.graph.ServiceName(r.service), r.factor(), s.score, r.score),
		}
		if p := e.patternFor(pattern.ServiceSlow); p != nil {
			x.Pattern = p.ID
		}
		out = append(out, x)
	}
	return out
}
