// Package explain judges which cause explains what was observed. A hypothesis is
// a pattern together with one event that can be its cause; it gathers what
// follows from that cause, each effect through an identity that both share, and
// says how sure it is. Nothing is linked by time alone.
package explain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

const (
	// Slack is how much earlier than its cause an effect can seem to be: clocks of
	// two hosts differ, and a call is timed by another process than its failure.
	Slack = int64(time.Second)
	// maxLinks bounds the chain of a finding; further kinds of effects are counted
	// as effects but get no link of their own.
	maxLinks = 64
	// maxKnown bounds each of the entities, addresses and explained events that a
	// hypothesis remembers: a crash loop of days is still one incident.
	maxKnown = 4096
)

// Cause is the event that a hypothesis names as the root.
type Cause struct {
	Event  string
	Time   int64
	Entity record.EntityID
	// Attributes are the event's own.
	Attributes []record.Attr
	// Occurrence is the event itself, nil when spans tell of the cause.
	Occurrence *detect.Occurrence
	// Certainty is, where statistics name the cause, how probable they make it; else 0.
	Certainty float64
}

// Target is where a hurt request began to go wrong, as far as is known.
type Target struct {
	// Address is what was called in vain, Process who answered there before (or
	// whose span failed), Service the service of that; 0 when unknown.
	Address, Process, Service record.EntityID
	// Holder is the pod that had the address when the call began or, where Gone, had it
	// last; 0 when unknown.
	Holder record.EntityID
	Gone   bool
	// Caller is who called, 0 where that is not what failed, and Began when.
	Caller record.EntityID
	Began  int64
}

// Key is what groups targets: the service, else the process, else the address.
func (t Target) Key() record.EntityID { return cmp.Or(t.Service, t.Process, t.Address) }

// AtHolder returns the target as the pod that had the address: who answered there may not
// say in which pod he is. It returns false where no pod is known to have had it, or the
// target is that already.
func (t Target) AtHolder() (Target, bool) {
	if t.Holder == 0 || t.Gone || t.Holder == t.Process {
		return t, false
	}
	t.Process = t.Holder
	return t, true
}

// TargetOf finds the target of a request from its deepest hurt span.
func TargetOf(g *topology.Graph, r *detect.Request) (Target, detect.HurtSpan) {
	origin := r.Origin()
	if origin.Kind == record.SpanClient && origin.Peer != 0 {
		t := Target{Caller: origin.Subject, Address: origin.Peer, Process: g.Owner(origin.Peer, origin.End), Began: origin.Start}
		holder, has := g.LastHolder(origin.Peer, origin.Start)
		t.Holder, t.Gone = holder, holder != 0 && !has
		t.Service = g.ServiceOf(t.Process)
		return t, origin
	}
	return Target{Process: origin.Subject, Service: g.ServiceOf(origin.Subject)}, origin
}

// observed is what was seen of one effect that the pattern expects.
type observed struct {
	first, last int64
	count       int64
	by          finding.LinkedBy
	workloads   map[record.EntityID]bool // of the pattern's effect, where it counts them
}

// link is a link of the chain while it is made.
type link struct {
	finding.Link
	rank   int
	parent *link // of the hurt span below, nil when there is none
	// call: it is a call that failed, connection the key of the link of the
	// connection that it waited for, "" for none.
	call       bool
	connection string
	// dialled is the address that it called, 0 where another identity links it.
	dialled record.EntityID
	began   int64           // when it called
	subject record.EntityID // to whom it happened
}

// Hypothesis is a pattern applied to a cause.
type Hypothesis struct {
	Pattern *pattern.Pattern
	Cause   Cause
	// Service is whose cause it is, 0 when unknown.
	Service record.EntityID

	graph     *topology.Graph
	entities  map[record.EntityID]bool // to whom the cause happened; more in a crash loop
	addresses map[record.EntityID]bool // at which they answered, or were called in vain
	effects   []observed               // by index of Pattern.Effects
	links     map[string]*link
	root      *link
	repeats   int64
	// LastEffect is the time of the newest effect, the cause's when there is none.
	LastEffect int64
	// caller is the first service whose calls failed.
	caller string
	// explains are the occurrences that are effects, so that as causes they are
	// explained away.
	explains map[*detect.Occurrence]bool
	// reached is when an effect that spreads happened last to each of those, spreads how
	// many such effects were seen.
	reached map[record.EntityID]int64
	spreads int
	failed  int64
	slow    int64
	// Predicted: the cause has no effect yet.
	Predicted bool
	// Support is how probable the visits of the cause's service make it that this is
	// where it went wrong; 0 when they do not say.
	Support float64
	// suffered are addresses at which calls failed because of the cause.
	suffered map[record.EntityID]bool
	// names are addresses of names that a caller looked up in vain because of the cause:
	// the link of that.
	names map[record.EntityID]string
	// over is when the cause ended, 0 while nothing says that it did; ended is the event
	// that said so.
	over  int64
	ended string
	// resumed is when it was taken up after a restart, 0 for never.
	resumed int64
}

// New returns a hypothesis that has no effects yet. addresses are those that the
// cause is about, if any.
func New(g *topology.Graph, p *pattern.Pattern, c Cause, addresses ...record.EntityID) *Hypothesis {
	happened := c.Entity
	c.Entity = Lift(g, p.Cause.Entity, happened)
	h := &Hypothesis{
		Pattern: p, Cause: c, graph: g, Service: g.ServiceOf(c.Entity),
		entities: map[record.EntityID]bool{happened: true, c.Entity: true}, addresses: map[record.EntityID]bool{},
		effects: make([]observed, len(p.Effects)), links: map[string]*link{},
		LastEffect: c.Time, explains: map[*detect.Occurrence]bool{}, repeats: 1, names: map[record.EntityID]string{},
		reached: map[record.EntityID]int64{}, suffered: map[record.EntityID]bool{},
	}
	if c.Occurrence != nil {
		h.happened(c.Occurrence)
	}
	for _, a := range addresses {
		if a != 0 {
			h.addresses[a] = true
			if owner := g.Owner(a, c.Time+Slack); owner != 0 && !h.onlyHolds(a, owner, happened) {
				h.entities[owner] = true
			}
		}
	}
	h.root = &link{Link: finding.Link{
		Key: "cause", Time: record.UTC(c.Time), Last: record.UTC(c.Time), Layer: p.Cause.Layer, Event: c.Event, Count: 1,
	}}
	h.links[h.root.Key] = h.root
	for i := range p.Effects {
		if p.Effects[i].Event == c.Event {
			h.seeAt(i, happened)
		}
	}
	return h
}

// onlyHolds tells whether a cause has to do with an address for the pod alone that has it:
// who answered there is not known to be in that pod, and can be in others too.
func (h *Hypothesis) onlyHolds(address, owner, happened record.EntityID) bool {
	if !h.Reaches(h.graph.Holder(address, h.Cause.Time+Slack)) || h.Reaches(owner) {
		return false
	}
	_, ok := h.graph.Concerns(happened, owner)
	return !ok
}

// happened takes all for suffering from the cause to whom an event of it happened.
func (h *Hypothesis) happened(o *detect.Occurrence) {
	for _, id := range o.Subjects() {
		remember(h.entities, id)
	}
	if o.Detail.Other != 0 {
		remember(h.entities, Lift(h.graph, h.Pattern.Cause.Entity, o.Detail.Other))
	}
	delete(h.entities, 0)
}

// Matches tells whether an occurrence can be the pattern's cause.
func Matches(p *pattern.Pattern, o *detect.Occurrence) bool {
	return p.Cause.Is(o.Name) && pattern.Holds(p.Cause.Where, o.Detail)
}

// Last returns when the cause happened last: in a crash loop, the last round.
func (h *Hypothesis) Last() int64 { return max(h.Cause.Time, h.root.Last.UnixNano()) }

// Began returns when what the hypothesis explains began: with the cause or, where its
// record tells of a state that was noticed late or another clock timed it, with the first
// effect.
func (h *Hypothesis) Began() int64 {
	began := h.Cause.Time
	for _, o := range h.effects {
		if o.count > 0 {
			began = min(began, o.first)
		}
	}
	return began
}

// Covers tells whether a request that went wrong at t, first at that time, can be
// an effect of this cause: same process, container or pod, same address, or, when
// the cause is a service's, same service.
func (h *Hypothesis) Covers(t Target, first int64) bool {
	if h.OverBefore(cmp.Or(t.Began, first)) || Spares(h.graph, h.Pattern, t.Address) {
		return false
	}
	if first < h.Cause.Time-Slack-int64(h.Pattern.Cause.Before) || first > h.watched()+int64(h.Pattern.Cause.Within) {
		return false
	}
	if h.Cuts(t) {
		return true
	}
	if t.Process != 0 {
		if _, ok := h.concerns(t.Process); ok {
			return true
		}
	} else if h.addresses[t.Address] {
		return true
	}
	e, ok := h.graph.Entity(h.Cause.Entity)
	// The network of a node's pods is known to matter to those alone who called somebody.
	return ok && ((t.Address != 0 || !h.Pattern.OfPodNetwork()) && h.onNode(cmp.Or(t.Process, t.Service)) || e.Kind == topology.KindService && t.Service == e.ID)
}

// Precedes tells whether a request was over before the cause, an event, can have begun: it
// was no effect. That a cause is told of late explains no request that was only slow, where
// the pattern does not expect such.
func (h *Hypothesis) Precedes(r *detect.Request) bool {
	if h.Cause.Occurrence == nil {
		return false
	}
	before := int64(h.Pattern.Cause.Before)
	if !r.Failed() && !slices.ContainsFunc(h.Pattern.Effects, func(f pattern.Effect) bool { return f.Event == pattern.RequestSlow }) {
		before = 0
	}
	return r.Last < h.Cause.Time-Slack-before
}

// Cuts tells whether a call fails for what happened to its caller: who was called may be
// well.
func (h *Hypothesis) Cuts(t Target) bool {
	return h.Pattern.Cause.Outbound && t.Caller != 0 && (h.Reaches(t.Caller) || h.onNode(t.Caller))
}

// Spares tells whether calls of an address cannot suffer from a pattern's cause.
func Spares(g *topology.Graph, p *pattern.Pattern, address record.EntityID) bool {
	return p.Cause.Answers && address != 0 || p.OfPodNetwork() && g.Loopback(address)
}

// onNode tells whether an entity is on the node that the cause is about, where the
// pattern names one.
func (h *Hypothesis) onNode(id record.EntityID) bool {
	e, ok := h.graph.Entity(h.Cause.Entity)
	return ok && e.Kind == topology.KindHost && (h.Pattern.Cause.Entity == pattern.LevelNode || h.Pattern.Cause.Entity == pattern.LevelNetwork) &&
		h.graph.PlaceOf(id).Host == e.ID
}

// concerns tells how an entity is one of those to whom the cause happened.
func (h *Hypothesis) concerns(id record.EntityID) (finding.LinkedBy, bool) {
	if h.entities[id] {
		by, _ := h.graph.Concerns(id, id)
		return by, true
	}
	for e := range h.entities {
		if by, ok := h.graph.Concerns(id, e); ok && by != finding.LinkedByTopology {
			return by, true
		}
	}
	return "", false
}

// Entities returns those to whom the cause happened, Addresses where they answered.
func (h *Hypothesis) Entities() []record.EntityID { return keys(h.entities) }

// Addresses returns the addresses that the cause is about.
func (h *Hypothesis) Addresses() []record.EntityID { return keys(h.addresses) }

func keys(set map[record.EntityID]bool) []record.EntityID {
	return slices.Sorted(maps.Keys(set))
}

// Suffered tells whether calls to an address failed because of the cause.
func (h *Hypothesis) Suffered(address record.EntityID) bool { return h.suffered[address] }

// Caller returns the first service whose calls failed, "" when none did.
func (h *Hypothesis) Caller() string { return h.caller }

// Explains tells whether an occurrence is among the effects.
func (h *Hypothesis) Explains(o *detect.Occurrence) bool { return o != nil && h.explains[o] }

// Same tells whether another cause of the same pattern is a repetition of this
// one: the same service, container or pod again.
func (h *Hypothesis) Same(p *pattern.Pattern, o *detect.Occurrence) bool {
	if p != h.Pattern {
		return false
	}
	if s := h.graph.ServiceOf(o.Subject); s != 0 && s == h.Service {
		return true
	}
	if p.Cause.Entity != "" {
		return Lift(h.graph, p.Cause.Entity, o.Subject) == h.Cause.Entity
	}
	_, ok := h.concerns(o.Subject)
	return ok
}

// Happened notes when what was on its way came about.
func (h *Hypothesis) Happened(at int64) {
	h.root.Last = record.UTC(max(h.root.Last.UnixNano(), at))
	h.LastEffect = max(h.LastEffect, at)
}

// Repeat notes that the same cause happened again, as in a crash loop.
func (h *Hypothesis) Repeat(o *detect.Occurrence) {
	h.repeats++
	h.happened(o)
	remember(h.explains, o)
	h.root.Count++
	h.root.Last = record.UTC(max(h.root.Last.UnixNano(), o.Time))
	h.LastEffect = max(h.LastEffect, o.Time)
}

// Offer takes an occurrence as an effect if the pattern expects it and it shares
// an identity with the cause. It returns whether it did.
func (h *Hypothesis) Offer(o *detect.Occurrence) bool {
	if o == h.Cause.Occurrence || h.explains[o] || h.ends(o) || Spares(h.graph, h.Pattern, o.Detail.Peer) {
		return false
	}
	for i := range h.Pattern.Effects {
		e := &h.Pattern.Effects[i]
		if e.Precursor || e.Event != o.Name || !h.inTime(o.Time, e.Within) {
			continue
		}
		where, ok := pattern.Bound(e.Where, h.says)
		if !ok || !pattern.Holds(where, o.Detail) {
			continue
		}
		by, on, ok := h.relate(e.Relation, o)
		if !ok {
			continue
		}
		remember(h.explains, o)
		h.see(i, o.Time, by)
		h.seeAt(i, o.Subject)
		h.linkOccurrence(e, o, by, on)
		if e.Spreads {
			h.spread(o.Subject, o.Time)
		}
		return true
	}
	return false
}

// spread takes one to whom an effect happened, with its workload or unit, for one whose
// callers suffer from the cause.
func (h *Hypothesis) spread(id record.EntityID, at int64) {
	h.spreads++
	for _, id := range []record.EntityID{id, Lift(h.graph, pattern.LevelWorkload, id)} {
		remember(h.entities, id)
		if h.entities[id] {
			h.reached[id] = max(h.reached[id], at)
		}
	}
}

// Spreads is how many effects that spread were seen.
func (h *Hypothesis) Spreads() int { return h.spreads }

// ReachedAt returns when an effect that spreads happened last to an entity or to its
// container, pod, workload or unit, 0 for never.
func (h *Hypothesis) ReachedAt(id record.EntityID) int64 {
	last := int64(0)
	for of, at := range h.reached {
		if _, ok := h.graph.Concerns(id, of); ok {
			last = max(last, at)
		}
	}
	return last
}

// Reaches tells whether an entity is among those to whom the cause or an effect that
// spreads happened.
func (h *Hypothesis) Reaches(id record.EntityID) bool {
	_, ok := h.concerns(id)
	return ok
}

// ends notes an event that says that the cause is over.
func (h *Hypothesis) ends(o *detect.Occurrence) bool {
	for i := range h.Pattern.Until {
		u := &h.Pattern.Until[i]
		if u.Event != o.Name || o.Time < h.Last() {
			continue
		}
		where, ok := pattern.Bound(u.Where, h.says)
		if !ok || !pattern.Holds(where, o.Detail) {
			continue
		}
		if _, _, ok := h.relate(u.Relation, o); ok {
			h.over, h.ended = max(h.over, o.Time), o.Name
			return true
		}
	}
	return false
}

// Over tells whether something said that the cause has ended since it was seen last.
func (h *Hypothesis) Over() bool { return h.over >= h.Last() && h.over > 0 }

// OverBefore tells whether something said that the cause had ended before a time.
func (h *Hypothesis) OverBefore(at int64) bool { return h.Over() && h.over < at }

// EndedBy is the event that said so, "" for none.
func (h *Hypothesis) EndedBy() string { return h.ended }

// says returns what the cause's event says under a key or, where it says nothing, what
// effects do that the pattern requires; never an empty text.
func (h *Hypothesis) says(key string) []string {
	if h.Cause.Occurrence == nil {
		return nil
	}
	if text, _ := h.Cause.Occurrence.Detail.Attr(key).(string); text != "" {
		return []string{text}
	}
	var texts []string
	for o := range h.explains {
		text, _ := o.Detail.Attr(key).(string)
		if text != "" && slices.ContainsFunc(h.Pattern.Effects, func(f pattern.Effect) bool { return f.Required && f.Event == o.Name }) {
			texts = append(texts, text)
		}
	}
	return texts
}

// remember adds to a set up to its bound.
func remember[K comparable](set map[K]bool, k K) {
	if len(set) < maxKnown {
		set[k] = true
	}
}

func (h *Hypothesis) inTime(t int64, within time.Duration) bool {
	if h.OverBefore(t) {
		return false
	}
	return t >= h.Cause.Time-Slack-int64(h.Pattern.Cause.Before) && t <= h.watched()+int64(within)
}

func (h *Hypothesis) relate(r pattern.Relation, o *detect.Occurrence) (by finding.LinkedBy, on string, ok bool) {
	switch r {
	case pattern.RelationSame:
		by, ok = h.concerns(o.Subject)
		return by, h.identity(o.Subject, by), ok
	case pattern.RelationAddress:
		if o.Detail == nil || o.Detail.Peer == 0 {
			return "", "", false
		}
		peer := o.Detail.Peer
		if !h.addresses[peer] && !h.answered(h.graph.Owner(peer, o.Time)) && !h.entities[h.graph.Holder(peer, o.Time)] {
			return "", "", false
		}
		remember(h.addresses, peer)
		return finding.LinkedByAddress, h.addressOf(peer, o.Time, o.Time), true
	}
	return h.place(r, o.Subject)
}

// answered tells whether who answered at an address is one of those to whom the cause
// happened, or a process of the unit to which it did.
func (h *Hypothesis) answered(owner record.EntityID) bool {
	if h.entities[owner] {
		return true
	}
	unit, ok := h.graph.Entity(h.graph.PlaceOf(owner).Workload)
	return ok && unit.Kind == topology.KindUnit && h.entities[unit.ID]
}

// LookedUp notes that calls to a name fail because of an effect: a lookup of that name.
func (h *Hypothesis) LookedUp(name record.EntityID, o *detect.Occurrence) {
	if name != 0 && h.explains[o] && len(h.names) < maxKnown {
		h.names[name] = h.addressKey(o.Name, h.graph.ServiceName(o.Subject), o.Detail.Peer)
	}
}

// Adopt takes those to whom a cause happened that this one explains for ones who suffer
// from it.
func (h *Hypothesis) Adopt(of *Hypothesis) {
	for id := range of.entities {
		remember(h.entities, id)
	}
}

// addressOf says what an address is and who answered there at a time or, where nobody did
// or the cause has nothing to do with him, which pod had it when a call began.
func (h *Hypothesis) addressOf(address record.EntityID, began, at int64) string {
	a, _ := h.graph.Entity(address)
	owner := h.graph.Owner(address, at)
	holder, ok := h.graph.Entity(h.graph.Holder(address, began))
	if ok && (owner == holder.ID || (h.Reaches(holder.ID) || h.onNode(holder.ID)) && !h.Reaches(owner) && !h.onNode(owner)) {
		return fmt.Sprintf("%s, the address of %s %s", a.Name, holder.Kind, holder.Name)
	}
	if !h.graph.Known(owner) {
		return a.Name
	}
	return fmt.Sprintf("%s, where %s answered", a.Name, Words(h.graph, owner))
}

// identity says what two events share.
func (h *Hypothesis) identity(id record.EntityID, by finding.LinkedBy) string {
	e, _ := h.graph.Entity(id)
	switch by {
	case finding.LinkedByProcess:
		s := fmt.Sprintf("pid %d", e.PID)
		if e.Created != 0 {
			s += " started " + pattern.Clock(e.Created)
		}
		return s
	case finding.LinkedByContainer:
		c, _ := h.graph.Entity(cmp.Or(e.Container, id))
		return "container " + c.Name
	case finding.LinkedByPod:
		p, _ := h.graph.Entity(cmp.Or(e.Pod, id))
		return "pod " + p.Name
	}
	return e.Name
}

func (h *Hypothesis) see(i int, at int64, by finding.LinkedBy) {
	o := &h.effects[i]
	if o.count == 0 {
		o.first, o.last, o.by = at, at, by
	}
	o.first, o.last = min(o.first, at), max(o.last, at)
	o.count++
	h.LastEffect = max(h.LastEffect, at)
	if h.Cause.Occurrence == nil && at < h.Cause.Time {
		// A cause that spans tell of began with the first of them.
		h.Cause.Time = at
		h.root.Time = record.UTC(at)
	}
}

// seeEvent notes an effect that the engine derives from spans, if the pattern
// expects it.
func (h *Hypothesis) seeEvent(name string, at int64, by finding.LinkedBy) {
	for i := range h.Pattern.Effects {
		if h.Pattern.Effects[i].Event == name {
			h.see(i, at, by)
			return
		}
	}
}

// Count sets how many requests the incident hurt, for titles and actions.
func (h *Hypothesis) Count(failed, slow int64) { h.failed, h.slow = failed, slow }

// Weights say how much each part of the evidence counts for the confidence. They
// need not add up to one.
type Weights struct {
	Completeness, Reliability, Timing float64
}

// reliabilities are how surely two events that share an identity belong
// together. A trace id and a process are exact; a container can hold several
// processes, a pod several containers, and an address could have been reused.
var reliabilities = map[finding.LinkedBy]float64{
	finding.LinkedByTrace: 0.99, finding.LinkedByProcess: 0.98, finding.LinkedByContainer: 0.95,
	finding.LinkedByAddress: 0.95, finding.LinkedByPod: 0.9, finding.LinkedByOwner: 0.85, finding.LinkedByTopology: 0.7,
}

// Confidence computes how probable it is that the cause is the root, as the
// weighted mean of
//   - completeness: the share (by weight) of the expected effects that was seen;
//   - reliability: how often such a cause is the root (the pattern's own number)
//     times how probable it is that not all links to its effects are coincidences:
//     effects of several kinds that are seen together speak for each other;
//   - timing: 1 for effects that follow at once, down to 0.5 for those at the end
//     of the time they can take or seemingly before the cause.
func (h *Hypothesis) Confidence(w Weights) finding.Confidence {
	var all, seen, timely float64
	coincidence := 1.0
	for i, o := range h.effects {
		e := &h.Pattern.Effects[i]
		if o.count > 0 || !e.Optional {
			all += e.Weight
		}
		if o.count == 0 {
			continue
		}
		seen += e.Weight
		coincidence *= 1 - reliabilities[o.by]
		timely += e.Weight * h.timing(o.first-h.Cause.Time, int64(e.Within))
	}
	c := finding.Confidence{Reliability: h.Pattern.Cause.Reliability, Timing: 1}
	if all == 0 {
		c.Completeness = unconfirmed
	}
	if seen > 0 {
		c.Completeness = seen / all
		c.Reliability *= 1 - coincidence
		c.Timing = timely / seen
	}
	if h.Cause.Certainty > 0 {
		c.Score, c.Reliability = h.Cause.Certainty, h.Cause.Certainty
		return c
	}
	c.Score = (w.Completeness*c.Completeness + w.Reliability*c.Reliability + w.Timing*c.Timing) /
		(w.Completeness + w.Reliability + w.Timing)
	c.Score = max(c.Score, h.Support)
	return c
}

// unconfirmed is the completeness of a cause of which nothing need follow, and of
// which nothing was seen to follow.
const unconfirmed = 0.5

// Supported tells whether all effects were seen without which the pattern makes no
// finding. What was over before it was told is worth one if it hurt requests.
func (h *Hypothesis) Supported() bool {
	return (!h.Over() || h.failed+h.slow > 0) && h.HasRequired() && (!h.Pattern.Harmful || h.hasEffect())
}

func (h *Hypothesis) hasEffect() bool {
	return slices.ContainsFunc(h.effects, func(o observed) bool { return o.count > 0 })
}

// HasRequired tells whether all effects were seen that the pattern requires.
func (h *Hypothesis) HasRequired() bool {
	for i := range h.effects {
		if h.Pattern.Effects[i].Required && (h.effects[i].count == 0 || !h.seenWidely(i)) {
			return false
		}
	}
	return true
}

func (h *Hypothesis) timing(lag, within int64) float64 {
	if lag < 0 {
		if -lag <= int64(h.Pattern.Cause.Before) {
			return 1 // the cause is a state, and was noticed late
		}
		return 0.5
	}
	return 1 - 0.5*min(float64(lag)/float64(within), 1)
}

// Better orders hypotheses: one that explains another's cause comes first, then
// the one with the higher confidence, then the earlier cause.
func Better(a, b *Hypothesis, w Weights) int {
	switch {
	case a.Explains(b.Cause.Occurrence) && !b.Explains(a.Cause.Occurrence):
		return -1
	case b.Explains(a.Cause.Occurrence) && !a.Explains(b.Cause.Occurrence):
		return 1
	}
	return cmp.Or(
		cmp.Compare(b.Confidence(w).Score, a.Confidence(w).Score),
		cmp.Compare(a.Cause.Time, b.Cause.Time),
		cmp.Compare(a.Pattern.ID, b.Pattern.ID),
	)
}

// Values are what the pattern's templates see.
func (h *Hypothesis) Values() *pattern.Values {
	v := &pattern.Values{
		Service: h.graph.ServiceName(h.Cause.Entity), Entity: Words(h.graph, h.Cause.Entity), Caller: h.caller,
		Predicted: h.Predicted,
		Since:     pattern.Clock(h.Cause.Time), Failed: h.failed, Slow: h.slow, Attributes: map[string]any{},
	}
	if v.Caller == "" {
		v.Caller = "a caller"
	}
	if e, ok := h.graph.Entity(h.Cause.Entity); ok {
		v.Version = e.Version
		for k, x := range e.Attributes {
			v.Attributes[k] = x
		}
		if e.Kind == topology.KindAddress {
			v.Service = ""
		}
	}
	if _, ok := v.Attributes[event.KeyHostName]; !ok { // a pod does not say where it runs
		if host, ok := h.graph.Entity(h.graph.PlaceOf(h.Cause.Entity).Host); ok {
			v.Attributes[event.KeyHostName] = host.Name
		}
	}
	if v.Version == "" {
		if s, ok := h.graph.Entity(h.Service); ok {
			v.Version = s.Version
		}
	}
	for _, a := range h.Cause.Attributes {
		v.Attributes[a.Key] = a.Value
	}
	if o := h.Cause.Occurrence; o != nil && o.Detail.Body != "" {
		v.Attributes[pattern.KeyBody] = o.Detail.Body
	}
	v.Address = h.address()
	return v
}

// address is the name of an address that the cause is about, "" when none is known.
func (h *Hypothesis) address() string {
	var names []string
	for id := range h.addresses {
		if a, ok := h.graph.Entity(id); ok {
			names = append(names, a.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return slices.Min(names)
}

// Missing says what the pattern expects and nobody saw.
func (h *Hypothesis) Missing() []string {
	v := h.Values()
	var out []string
	for i, o := range h.effects {
		if o.count == 0 {
			if s := h.Pattern.Effects[i].MissingFor(v); s != "" {
				out = append(out, s)
			}
		}
	}
	return append(out, h.Pattern.NotObservedFor(v)...)
}

// RootCause is the cause in the form of a finding.
func (h *Hypothesis) RootCause() finding.RootCause {
	evidence := make(map[string]any, len(h.Cause.Attributes))
	for _, a := range h.Cause.Attributes {
		evidence[a.Key] = a.Value
		if list, ok := a.Value.([]string); ok {
			evidence[a.Key] = strings.Join(list, ", ")
		}
	}
	if o := h.Cause.Occurrence; o != nil && o.Detail.Body != "" {
		evidence[pattern.KeyBody] = o.Detail.Body
	}
	if h.repeats > 1 {
		evidence["tapio.cause.count"] = h.repeats
	}
	return finding.RootCause{
		Event: h.Cause.Event, Entity: EntityOf(h.graph, h.Cause.Entity),
		Description: h.Pattern.DescriptionFor(h.Values()), Evidence: evidence,
	}
}

// EntityOf returns the finding's form of an entity.
func EntityOf(g *topology.Graph, id record.EntityID) finding.Entity {
	e, ok := g.Entity(id)
	if !ok {
		return finding.Entity{Kind: topology.KindUnknown.String(), Name: "unknown"}
	}
	name := e.Name
	if s, ok := g.Entity(e.Service); ok {
		if e.Attributes[event.KeyServiceName] == nil && e.Kind != topology.KindAddress && e.Kind != topology.KindHost {
			e.Attributes[event.KeyServiceName] = s.Name
		}
	}
	return finding.Entity{Kind: e.Kind.String(), Name: name, Attributes: e.Attributes}
}

// Words names an entity for people: "payment v2.1.0 (process checkout, pid 42)".
func Words(g *topology.Graph, id record.EntityID) string {
	e, ok := g.Entity(id)
	if !ok {
		return "an unknown source"
	}
	name := g.ServiceName(id)
	if e.Version != "" {
		name += " " + e.Version
	}
	switch e.Kind {
	case topology.KindProcess:
		if e.Executable != "" && e.Executable != name {
			return fmt.Sprintf("%s (process %s, pid %d)", name, e.Executable, e.PID)
		}
		return fmt.Sprintf("%s (pid %d)", name, e.PID)
	case topology.KindContainer, topology.KindPod:
		return fmt.Sprintf("%s (%s %s)", name, e.Kind, e.Name)
	case topology.KindAddress:
		return e.Name
	}
	return name
}
