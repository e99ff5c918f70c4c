// Package explain judges which cause explains what was observed. A hypothesis is
// a pattern together with one event that can be its cause; it gathers what
// follows from that cause, each effect through an identity that both share, and
// says how sure it is. Nothing is linked by time alone.
package explain

import (
	"fmt"
	"maps"
	"slices"
	"time"

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
	// spreadAt is when such an effect happened first to each that is not the cause's own.
	spreadAt map[record.EntityID]int64
	spreads  int
	failed   int64
	slow     int64
	// LastLines are what the one that ended wrote before the cause, see Quote.
	LastLines []finding.LogLine
	// FailedUnits are those of pattern.Values.
	FailedUnits string
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
	stand stand
	// begun is when the one to whom the cause happened began anew before it, again when
	// it did after it, 0 for never: Pattern.StartsOver.
	begun, again int64
	final        bool // see Final
	lasted       bool // see Lasted
	// changes are when each of Pattern.Changes happened last before the cause.
	changes map[int]int64
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
		changes: map[int]int64{}, reached: map[record.EntityID]int64{}, spreadAt: map[record.EntityID]int64{}, suffered: map[record.EntityID]bool{},
		stand: stand{causes: []*detect.Occurrence{c.Occurrence}, since: c.Time},
	}
	if c.Occurrence != nil {
		h.happened(c.Occurrence)
	}
	for _, a := range addresses {
		if a != 0 {
			h.addresses[a] = true
			if owner := g.Owner(a, c.Time+Slack); owner != 0 && !h.onlyHolds(a, owner, happened) {
				h.entities[owner] = true
				if e, _ := g.Entity(happened); e.Kind == topology.KindUnit {
					h.spreadAt[owner] = c.Time // a unit that needs this one, unless it is a process of it
				}
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

// Entities returns those to whom the cause happened, Addresses where they answered.
func (h *Hypothesis) Entities() []record.EntityID { return keys(h.entities) }

// Addresses returns the addresses that the cause is about.
func (h *Hypothesis) Addresses() []record.EntityID { return keys(h.addresses) }

func keys(set map[record.EntityID]bool) []record.EntityID {
	return slices.Sorted(maps.Keys(set))
}

// Caller returns the first service whose calls failed, "" when none did.
func (h *Hypothesis) Caller() string { return h.caller }

// Explains tells whether an occurrence is among the effects.
func (h *Hypothesis) Explains(o *detect.Occurrence) bool { return o != nil && h.explains[o] }

// Shares is how many of another hypothesis's effects that are events are this one's, too.
func (h *Hypothesis) Shares(of *Hypothesis) (n, all int) {
	for o := range of.explains {
		all++
		if h.explains[o] || o == h.Cause.Occurrence {
			n++
		}
	}
	return n, all
}

// Same tells whether another cause of the same pattern is a repetition of this
// one: the same service, container or pod again.
func (h *Hypothesis) Same(p *pattern.Pattern, o *detect.Occurrence) bool {
	if p != h.Pattern {
		return false
	}
	if s := h.graph.ServiceOf(o.Subject); s != 0 && s == h.Service {
		return true
	}
	if h.Cause.Occurrence != nil && slices.ContainsFunc(p.Cause.Identity, func(key string) bool {
		return fmt.Sprint(h.Cause.Occurrence.Detail.Attr(key)) != fmt.Sprint(o.Detail.Attr(key)) // a list cannot be compared
	}) {
		return false
	}
	if p.Cause.Entity != "" {
		return Lift(h.graph, p.Cause.Entity, o.Subject) == h.Cause.Entity && !h.otherNetwork(o.Subject)
	}
	if _, reached := h.onlyReached(o.Subject); reached {
		return false
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
	if !h.toldAgain(o) {
		h.repeats++
		h.root.Count++
	}
	h.stands(o)
	h.happened(o)
	remember(h.explains, o)
	h.root.Last = record.UTC(max(h.root.Last.UnixNano(), o.Time))
	h.LastEffect = max(h.LastEffect, o.Time)
}

// remember adds to a set up to its bound.
func remember[K comparable](set map[K]bool, k K) {
	if len(set) < maxKnown {
		set[k] = true
	}
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

// Count sets how many requests the incident hurt, for titles and actions.
func (h *Hypothesis) Count(failed, slow int64) { h.failed, h.slow = failed, slow }
