package engine

import (
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/slo"
)

// served says whose requests an operation takes, for objectives.
func (e *Engine) served(operation record.EntityID) (slo.Target, bool) {
	x, ok := e.graph.Entity(operation)
	if !ok || !x.Serves {
		return slo.Target{}, false
	}
	s, ok := e.graph.Entity(x.Service)
	if !ok {
		return slo.Target{}, false
	}
	namespace, _ := s.Attributes[event.KeyServiceNamespace].(string)
	return slo.Target{Service: s.ID, Name: s.Name, Namespace: namespace, Operation: x.Name}, true
}

// stakes adds to an incident what is at stake for the services that it is about:
// how critical they are and how their objectives stand.
func (e *Engine) stakes(o *open, now int64) {
	var highest slo.Criticality
	o.Objectives = o.Objectives[:0]
	for _, id := range o.Services() {
		s, _ := e.graph.Entity(id)
		text, _ := s.Attributes[event.KeyServiceCriticality].(string)
		highest = max(highest, slo.ParseCriticality(text))
		for _, x := range e.slos.Status(id, now) {
			o.Objectives = append(o.Objectives, finding.Objective{
				Service: s.Name, Promise: x.String(), Severity: x.Severity.String(),
				Burn: x.Burn, BurnSeconds: x.BurnWindow.Seconds(), Left: x.Left,
				Requests: x.Requests, Bad: x.Bad, CoveredSeconds: x.Covered.Round(time.Second).Seconds(),
			})
		}
	}
	o.Criticality = highest.String()
}
