package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/explain"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/incident"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// occur takes a named event: as an effect of open incidents, and as a cause.
func (e *Engine) occur(o *detect.Occurrence) {
	if o.Name == event.EBPFStarted {
		e.started(o)
		return
	}
	e.reports(o)
	if o.Name == event.ProcessSignal {
		e.occurrences.Add(o, e.uses.until(o), o.Subject) // evidence of who ended a process; of itself it is nothing
		return
	}
	if !e.named[o.Name] {
		return
	}
	if e.duplicate(o) {
		e.Counters.Duplicates.Add(1)
		return
	}
	if outOfMemory(o) {
		e.killed(o)
		e.reached(o)
	}
	if o.Name == event.ProcessExit {
		process, _ := e.graph.Entity(o.Subject)
		o.Detail.Attrs = append(o.Detail.Attrs, record.Attr{Key: keyExitClass, Value: exitClass(o.Detail, process.Executable)})
		e.sender(o)
		e.graph.End(o.Subject, o.Time)
		e.toldByUnit(o)
	}
	if x, ok := e.graph.Entity(o.Subject); ok && x.Kind == topology.KindUnit {
		o.Detail.Attrs = append(o.Detail.Attrs, record.Attr{Key: event.KeySystemdUnit, Value: x.Name})
	}
	e.occurrences.Add(o, e.uses.until(o), e.under(o)...)
	e.tellsOfEnds(o)
	e.parts(o)
	var spread []*open
	for _, i := range e.incidents {
		if o.Subject == i.Hypothesis.Cause.Entity {
			e.startsOver(i.Hypothesis)
		}
		before := i.Hypothesis.Spreads()
		shown := i.Hypothesis.Shown()
		taken := i.Hypothesis.Offer(o)
		if taken || i.Hypothesis.Shown() != shown {
			i.Dirty = true
		}
		// A lookup that failed ties calls by that name to the cause, which may wait.
		if i.Hypothesis.Spreads() > before || taken && (o.Name == event.DNSFailed || o.Name == event.DNSSlow) {
			spread = append(spread, i)
		}
		if o.Subject == i.Hypothesis.Cause.Entity {
			e.succeeded(i.Hypothesis)
		}
	}
	for _, i := range spread { // requests may wait for those whom it reaches now
		e.absorbGroups(i)
		e.absorbInferred(i)
	}
	e.completes(o)
	e.cause(o)
	e.spreadFrom(o)
	if o.Name == event.MemoryGrowth {
		e.growing(o)
	}
}

// outOfMemory tells whether an event says that one was killed for want of memory: the
// kernel's, or, where nobody watches that, what Kubernetes says of a container.
func outOfMemory(o *detect.Occurrence) bool {
	return o.Name == event.OOMKill || o.Name == event.K8sContainerTerminated && o.Detail.Attr(event.KeyContainerReason) == "OOMKilled"
}

// parts ends for good what was over for a while before an event that happened to the same
// one and is a cause of such, whichever. Of a unit, that is the end of the process with which
// it was well again; others of its processes come and go.
func (e *Engine) parts(o *detect.Occurrence) {
	if !slices.ContainsFunc(e.options.Patterns, func(p *pattern.Pattern) bool { return p.Apart > 0 && explain.Matches(p, o) }) {
		return
	}
	workload := explain.Lift(e.graph, pattern.LevelWorkload, o.Subject)
	subject, _ := e.graph.Entity(o.Subject)
	for _, i := range e.incidents {
		if ending := i.Hypothesis.Ending(); ending != nil && o.Name == event.ProcessExit && i.Hypothesis.Pattern.StartsOver.Event != "" {
			if pid, _ := ending.Detail.Attr(event.KeyProcessPID).(int64); pid != subject.PID {
				continue
			}
		}
		if h := i.Hypothesis; h.Over() && (h.Same(h.Pattern, o) || h.Reaches(o.Subject) || explain.Lift(e.graph, pattern.LevelWorkload, h.Cause.Entity) == workload) {
			h.Parts(o)
		}
	}
}

// completes looks whether an event is the effect without which one that was seen before
// is no cause.
func (e *Engine) completes(o *detect.Occurrence) {
	for _, p := range e.options.Patterns {
		if !slices.ContainsFunc(p.Effects, func(f pattern.Effect) bool { return f.Required && f.Event == o.Name }) {
			continue
		}
		if i := e.explainer(o); i != nil && i.Hypothesis.Pattern == p {
			continue
		}
		for _, k := range e.causesBeside(p, o) {
			h := e.hypothesis(p, k)
			if !h.HasRequired() || !h.Explains(o) || h.Final() || h.Over() && h.OverSince() < o.Time {
				continue // what comes after it was over completes nothing
			}
			if e.replaces(p, k) || e.explainsGroup(p, k) {
				return
			}
			if p.Alone && e.explainer(k) == nil && !slices.ContainsFunc(e.incidents, func(i *open) bool { return i.Hypothesis.Cause.Occurrence == k }) {
				if i := e.open(h); i != nil {
					e.supersede(i)
					e.absorbInferred(i)
				}
				return
			}
		}
	}
}

// causesBeside are the last events that can be a pattern's cause and that happened to
// the workload or unit of another event or, where that is a wider relation, anywhere.
func (e *Engine) causesBeside(p *pattern.Pattern, o *detect.Occurrence) []*detect.Occurrence {
	workload := explain.Lift(e.graph, pattern.LevelWorkload, o.Subject)
	wide := slices.ContainsFunc(p.Effects, func(f pattern.Effect) bool {
		return p.Alone && f.Event == o.Name && f.Relation != pattern.RelationOwner && f.Relation != pattern.RelationSame
	})
	known := e.occurrences.Named(p.Cause.Event)
	var causes []*detect.Occurrence
	for _, k := range known[max(0, len(known)-maxCompared):] {
		if k != o && explain.Matches(p, k) && (wide || explain.Lift(e.graph, pattern.LevelWorkload, k.Subject) == workload) {
			if i := e.explainer(k); i == nil || i.Hypothesis.Cause.Occurrence == k && i.Hypothesis.Pattern != p {
				causes = append(causes, k)
			}
		}
	}
	return causes
}

// spreadFrom looks whether an event that was taken for the cause of an incident came to
// its unit or pod from another one, whose own cause was seen before and hurt nobody then.
func (e *Engine) spreadFrom(o *detect.Occurrence) {
	n := slices.IndexFunc(e.incidents, func(i *open) bool { return i.Hypothesis.Cause.Occurrence == o })
	if n < 0 {
		return
	}
	i := e.incidents[n]
	var best *explain.Hypothesis
	for _, p := range e.options.Patterns {
		if !slices.ContainsFunc(p.Effects, func(f pattern.Effect) bool { return f.Spreads && f.Event == o.Name }) {
			continue
		}
		known := e.occurrences.Named(p.Cause.Event)
		for _, k := range known[max(0, len(known)-maxCompared):] {
			if k == o || !explain.Matches(p, k) || !e.often(p, k) || !i.HasHurt() && !p.StandsAlone(k.Detail) {
				continue
			}
			// Where others answered ties nobody to an event that is not tied to it anyhow.
			own := e.hypothesis(p, k)
			if !own.HasRequired() || !deeper(own, i.Hypothesis) || own.Over() && own.OverSince() < o.Time {
				continue
			}
			h := e.hypothesis(p, k, i.Hypothesis.Addresses()...)
			if h.HasRequired() && deeper(h, i.Hypothesis) && (best == nil || explain.Better(h, best, e.options.Weights) < 0) {
				best = h
			}
		}
	}
	if best != nil {
		e.replace(i, best)
	}
}

// deeper tells whether a hypothesis explains the cause of another one. Where each
// explains the other, as a crash and the back-off after it do, it is the one whose
// cause is the more often the root, else the earlier one. Of one event, the pattern says
// more that requires what was seen to follow.
func deeper(h, than *explain.Hypothesis) bool {
	if o := h.Cause.Occurrence; o != nil && o == than.Cause.Occurrence {
		return h.SaysMore(than)
	}
	if o := than.Cause.Occurrence; o != nil && !explain.Matches(than.Pattern, o) { // it is known for no cause since
		return h.Explains(o)
	}
	if !h.Explains(than.Cause.Occurrence) {
		return false
	}
	r, other := h.Pattern.Cause.Reliability, than.Pattern.Cause.Reliability
	return !than.Explains(h.Cause.Occurrence) || r > other || r == other && h.Cause.Time < than.Cause.Time
}

// maxCompared bounds how many of an entity's last events a new one is compared with.
const maxCompared = 64

// duplicate tells whether an event is there already: an exporter that retries may
// deliver it twice.
func (e *Engine) duplicate(o *detect.Occurrence) bool {
	known := e.occurrences.Of(o.Subject)
	return slices.ContainsFunc(known[max(0, len(known)-maxCompared):], func(k *detect.Occurrence) bool {
		return k.Time == o.Time && k.Name == o.Name && k.Subject == o.Subject && k.Detail.Peer == o.Detail.Peer &&
			k.Detail.Body == o.Detail.Body && sameAttributes(k.Detail, o.Detail)
	})
}

// sameAttributes tells whether an event says what another one says. The engine may
// have added to the one that it knows already.
func sameAttributes(known, again *record.Detail) bool {
	for _, a := range again.Attrs {
		if list, ok := a.Value.([]string); ok {
			had, _ := known.Attr(a.Key).([]string)
			if !slices.Equal(list, had) {
				return false
			}
			continue
		}
		if had := known.Attr(a.Key); had != a.Value {
			return false
		}
	}
	return true
}

// under lists the entities under which an event is found, each once: its own and all that
// it is part of, and the address that it is about with the pod that has it.
func (e *Engine) under(o *detect.Occurrence) []record.EntityID {
	ids := o.Subjects()
	for _, of := range o.Subjects() {
		for _, id := range append(e.graph.PlaceOf(of).All(), o.Detail.Peer, e.graph.Holder(o.Detail.Peer, o.Time)) {
			if id != 0 && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// cause looks whether an event is the root of something: of another round of an
// open incident, of an incident or of failed requests that had no better
// explanation, or of an incident of its own.
func (e *Engine) cause(o *detect.Occurrence) {
	var best *explain.Hypothesis
	for _, p := range e.options.Patterns {
		if !explain.Matches(p, o) || !e.often(p, o) {
			continue
		}
		complete := !p.Requires() || e.hypothesis(p, o).HasRequired()
		if (complete || p.Alone) && e.repeats(p, o) {
			return
		}
		if !complete {
			continue
		}
		if e.replaces(p, o) {
			return
		}
		if e.explainer(o) != nil {
			continue // what it does to others is what its own cause does
		}
		if e.explainsGroup(p, o) {
			return
		}
		if !p.StandsAlone(o.Detail) {
			continue
		}
		if h := e.hypothesis(p, o); best == nil || explain.Better(h, best, e.options.Weights) < 0 {
			best = h
		}
	}
	if best != nil {
		if i := e.open(best); i != nil {
			e.supersede(i)
			e.absorbInferred(i)
		}
	}
}

// often tells whether a cause was seen as often as its pattern wants.
func (e *Engine) often(p *pattern.Pattern, o *detect.Occurrence) bool {
	if p.Cause.MinCount <= 1 {
		return true
	}
	n := 0
	for _, k := range e.occurrences.Of(explain.Lift(e.graph, p.Cause.Entity, o.Subject)) {
		if explain.Matches(p, k) && k.Time <= o.Time && k.Time >= o.Time-int64(p.Cause.CountWithin) {
			n++
		}
	}
	return n >= p.Cause.MinCount
}

// supersede takes the place of other incidents whose causes are among the effects of
// this one, or were only inferred from spans of those to whom it happened: one root
// for many symptoms.
func (e *Engine) supersede(root *open) {
	h := root.Hypothesis
	e.replaceAll(root, func(i *open) bool {
		inferred := h.Cause.Occurrence != nil && i.Hypothesis.Cause.Occurrence == nil && e.causes(h.Pattern, h.Cause.Occurrence, i.Hypothesis)
		return inferred || deeper(h, i.Hypothesis)
	})
}

// replaceAll takes the place of other incidents.
func (e *Engine) replaceAll(root *open, takes func(*open) bool) {
	var early []*detect.Request
	e.incidents = slices.DeleteFunc(e.incidents, func(i *open) bool {
		if i == root || !takes(i) {
			return false
		}
		e.requests.Each(func(r *detect.Request) {
			if incident.Of(r) == i.Incident && !e.hurtBy(root, r) {
				early = append(early, r)
			}
		})
		if i.Emitted() {
			i.Withdraw(e.now(), fmt.Sprintf("Finding %s explains it.", root.ID()))
			e.revise(i, e.now())
		}
		return true
	})
	e.unassign(early)
}

// maxBackOff is how long after its last effect an incident can go on: the kubelet backs
// off for five minutes at most, and what it starts then lives for a while. Later it is
// another one, with a cause of its own.
const maxBackOff = int64(8 * time.Minute)

// repeats takes an event as another round of an incident: of one that is open, or
// of one that was resolved while a crash loop backed off.
func (e *Engine) repeats(p *pattern.Pattern, o *detect.Occurrence) bool {
	same := func(i *open) bool {
		h := i.Hypothesis
		return h.Cause.Occurrence != nil && !h.Final() && h.Same(p, o) && !h.Completes(o) && e.main(o, h, p)
	}
	n := slices.IndexFunc(e.incidents, same)
	if n < 0 {
		// What was said to be over, and of which nothing more came, was that.
		old := slices.IndexFunc(e.resolved, func(i *open) bool {
			return same(i) && !i.Hypothesis.Over() && o.Time-i.Hypothesis.LastEffect <= maxBackOff
		})
		if old < 0 || len(e.incidents) >= e.options.MaxIncidents {
			return false
		}
		n = len(e.incidents)
		e.reopen(old)
	}
	e.incidents[n].Hypothesis.Repeat(o)
	e.incidents[n].Dirty = true
	return true
}

// main tells whether an event is of a process that matters to a hypothesis: one of
// its own, or the first of a container; helpers and probes come and go.
func (e *Engine) main(o *detect.Occurrence, h *explain.Hypothesis, p *pattern.Pattern) bool {
	subject, _ := e.graph.Entity(o.Subject)
	return p.Cause.Scope == pattern.ScopeContainer || subject.Container == 0 || subject.VPID == 1 ||
		slices.Contains(h.Entities(), o.Subject)
}

// explainer returns the open incident of which an event is an effect, nil for none.
func (e *Engine) explainer(o *detect.Occurrence) *open {
	if o == nil {
		return nil
	}
	for _, i := range e.incidents {
		if i.Hypothesis.Explains(o) && !i.Hypothesis.Settled(e.now()) {
			return i
		}
	}
	return nil
}

// replaces gives an incident whose cause was only inferred from spans, or is
// itself an effect of this event, its real cause.
func (e *Engine) replaces(p *pattern.Pattern, o *detect.Occurrence) bool {
	for _, i := range e.incidents {
		old := i.Hypothesis
		h := e.instead(p, o, old)
		if h == nil || old.Cause.Occurrence != nil && !deeper(h, old) || old.Cause.Event == pattern.ErrorsLogged && !e.convinces(h) {
			continue
		}
		e.replace(i, h)
		return true
	}
	return false
}

// replace gives an incident another cause.
func (e *Engine) replace(i *open, h *explain.Hypothesis) {
	i.Replace(h, e.now(), e.whyReplaced(i.Hypothesis, h))
	e.relink(i)
	e.release(i)
	e.absorbGroups(i)
	e.supersede(i)
}

// relink makes the requests of an incident effects of its new cause.
func (e *Engine) relink(i *open) {
	h := i.Hypothesis
	e.requests.Each(func(r *detect.Request) {
		if incident.Of(r) == i.Incident && !h.Precedes(r) {
			e.namesOf(h, r)
			h.AddSpans(r, r.Spans...)
		}
	})
}

// convinces tells whether a hypothesis is sure enough by itself to be a finding: nothing
// else says that anybody was hurt.
func (e *Engine) convinces(h *explain.Hypothesis) bool {
	return h.Supported() && h.Confidence(e.options.Weights).Score >= e.options.MinScore
}

// whyReplaced says why an event is a better cause than the one that was named.
func (e *Engine) whyReplaced(old, h *explain.Hypothesis) string {
	seen := fmt.Sprintf("%s of %s at %s was seen", h.Cause.Event, explain.Words(e.graph, h.Cause.Entity), pattern.Clock(h.Cause.Time))
	if old.Cause.Occurrence == nil {
		return seen + "; the cause before was only inferred from requests."
	}
	return seen + ", of which the cause before is an effect."
}

// instead makes a hypothesis of an event that can be why another hypothesis was made:
// it happened near to it or, where the other's cause is about an address, to who
// answered there. It returns nil for an event that cannot.
func (e *Engine) instead(p *pattern.Pattern, o *detect.Occurrence, old *explain.Hypothesis) *explain.Hypothesis {
	switch {
	case e.causes(p, o, old):
		return e.hypothesis(p, o, old.Addresses()...)
	case byAddress(p, old.Cause.Occurrence):
		if h := e.behind(p, o, old.Cause.Occurrence); h.HasRequired() && h.Explains(old.Cause.Occurrence) {
			adopt(h, old)
			return h
		}
	}
	return nil
}

// causes tells whether an event is near enough, in time and place, to be why a
// hypothesis was made.
func (e *Engine) causes(p *pattern.Pattern, o *detect.Occurrence, h *explain.Hypothesis) bool {
	return o.Time <= h.Cause.Time+explain.Slack+int64(p.Cause.Before) && o.Time >= h.Cause.Time-int64(p.Cause.Within) && e.touches(h, o, p)
}

// touches tells whether an event happened to one of those that a hypothesis is
// about, as near as the pattern wants.
func (e *Engine) touches(h *explain.Hypothesis, o *detect.Occurrence, p *pattern.Pattern) bool {
	if p.Cause.Scope == pattern.ScopeName {
		return e.calledInVain(h, o)
	}
	targets := h.Entities()
	for _, a := range h.Addresses() {
		if explain.Spares(e.graph, p, a) {
			return false
		}
		targets = append(targets, e.graph.Owner(a, o.Time), e.graph.Holder(a, h.Cause.Time))
	}
	return slices.ContainsFunc(targets, func(id record.EntityID) bool { return e.near(o, id, p) })
}

// near tells whether an event happened so near to a target that the pattern can
// name it as the cause of the target's failures.
func (e *Engine) near(o *detect.Occurrence, target record.EntityID, p *pattern.Pattern) bool {
	if p.Cause.Scope == pattern.ScopeName {
		return false // it happened to the caller
	}
	return e.nearTo(o, o.Subject, target, p) || o.Detail.Other != 0 && e.nearTo(o, o.Detail.Other, target, p)
}

// nearTo tells that of one of those to whom the event happened.
func (e *Engine) nearTo(o *detect.Occurrence, id, target record.EntityID, p *pattern.Pattern) bool {
	if _, ok := e.graph.Concerns(id, target); !ok {
		return e.above(o, target, p) || e.ofUnit(o, target, p) || (e.spreads(p) && e.hypothesis(p, o).Reaches(target))
	}
	if id == target || p.Cause.Scope == pattern.ScopeContainer {
		return true
	}
	t, _ := e.graph.Entity(target)
	subject, _ := e.graph.Entity(id)
	switch t.Kind {
	case topology.KindContainer, topology.KindPod:
		// The container ends when its first process does; others come and go. And one
		// that had not answered before was not the one that served: an init container.
		return subject.VPID == 1 && e.answered.Any(target)
	case topology.KindService:
		return subject.Container == 0 || subject.VPID == 1
	}
	return t.Kind == topology.KindWorkload || t.Kind == topology.KindK8sService || subject.Kind != topology.KindProcess
}

// ofUnit tells whether a target belongs to the unit of systemd that a pattern names for
// an event of one of its processes.
func (e *Engine) ofUnit(o *detect.Occurrence, target record.EntityID, p *pattern.Pattern) bool {
	if p.Cause.Entity != pattern.LevelWorkload {
		return false
	}
	_, ok := e.graph.Concerns(e.graph.UnitOf(o.Subject), target)
	return ok
}

// spreads tells whether an effect that spreads was seen of any cause of a pattern.
func (e *Engine) spreads(p *pattern.Pattern) bool {
	return slices.ContainsFunc(p.Effects, func(f pattern.Effect) bool { return f.Spreads && len(e.occurrences.Named(f.Event)) > 0 })
}

// above tells whether an event happened to the node or the namespace of a target,
// where a pattern names those.
func (e *Engine) above(o *detect.Occurrence, target record.EntityID, p *pattern.Pattern) bool {
	switch p.Cause.Entity {
	case pattern.LevelNode, pattern.LevelNamespace, pattern.LevelNetwork:
		at := explain.Lift(e.graph, p.Cause.Entity, o.Subject)
		place := e.graph.PlaceOf(target)
		return at == target || at == place.Host || at == place.Namespace
	}
	// A fault of the control plane is above all; what spreads reaches those alone to whom it spread.
	return slices.ContainsFunc(p.Effects, func(f pattern.Effect) bool { return f.Relation == pattern.RelationCluster && !f.Spreads })
}
