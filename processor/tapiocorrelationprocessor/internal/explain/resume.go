package explain

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/typed"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// maxSaved bounds each of the entities and addresses that a saved hypothesis names.
const maxSaved = 32

// Saved is what of a hypothesis its finding does not say, in a form that outlives the
// engine. Entities are places in a list of topology.Remembered.
type Saved struct {
	Event      string       `json:"event"`
	Time       int64        `json:"time"`
	Entity     topology.Nth `json:"entity"`
	Service    topology.Nth `json:"service,omitempty"`
	Attributes []SavedAttr  `json:"attributes,omitempty"`
	// Seen: the cause is an event, which happened to Subject and Other; else spans tell of it.
	Seen      bool           `json:"seen,omitempty"`
	Subject   topology.Nth   `json:"subject,omitempty"`
	Peer      topology.Nth   `json:"peer,omitempty"`
	Other     topology.Nth   `json:"other,omitempty"`
	Body      string         `json:"body,omitempty"`
	Certainty float64        `json:"certainty,omitempty"`
	Support   float64        `json:"support,omitempty"`
	Entities  []topology.Nth `json:"entities,omitempty"`
	Addresses []topology.Nth `json:"addresses,omitempty"`
	Effects   []SavedEffect  `json:"effects,omitempty"`
	Links     []SavedLink    `json:"links,omitempty"`
	Repeats   int64          `json:"repeats,omitempty"`
	Last      int64          `json:"last"`
	Stand     *SavedStand    `json:"stand,omitempty"`
	Begun     int64          `json:"begun,omitempty"`
	Again     int64          `json:"again,omitempty"`
	Final     bool           `json:"final,omitempty"`
	Changes   map[int]int64  `json:"changes,omitempty"`
	Caller    string         `json:"caller,omitempty"`
}

// SavedAttr is an attribute with its type.
type SavedAttr struct {
	Key string `json:"k"`
	typed.Value
}

func saveAttrs(attrs []record.Attr) (out []SavedAttr) {
	for _, a := range attrs {
		v, _ := typed.Of(a.Value) // of the types that record.Attr has
		out = append(out, SavedAttr{a.Key, v})
	}
	return out
}

func resumeAttrs(saved []SavedAttr) (out []record.Attr) {
	for i := range saved {
		out = append(out, record.Attr{Key: saved[i].Key, Value: saved[i].Any()})
	}
	return out
}

// SavedEffect is what was seen of the effect of the pattern with that index.
type SavedEffect struct {
	Index int              `json:"index"`
	Event string           `json:"event"`
	First int64            `json:"first"`
	Last  int64            `json:"last"`
	Count int64            `json:"count"`
	By    finding.LinkedBy `json:"by"`
	// Body and Attributes are those of the last event that told of it.
	Body       string      `json:"body,omitempty"`
	Attributes []SavedAttr `json:"attributes,omitempty"`
}

// occurrence is the event that told of the effect, nil where none did.
func (e *SavedEffect) occurrence() *detect.Occurrence {
	if e.Body == "" && len(e.Attributes) == 0 {
		return nil
	}
	d := &record.Detail{Name: e.Event, Body: e.Body, Attrs: resumeAttrs(e.Attributes)}
	return &detect.Occurrence{Name: e.Event, Time: e.Last, Detail: d}
}

// SavedLink is what a link of the chain does not say of itself.
type SavedLink struct {
	Key        string `json:"key"`
	Rank       int    `json:"rank,omitempty"`
	Parent     string `json:"parent,omitempty"`
	Call       bool   `json:"call,omitempty"`
	Connection string `json:"connection,omitempty"`
	// Subject is to whom it happened: another event of it may not say who that is.
	Subject topology.Nth `json:"subject,omitempty"`
}

// Named lists the entities that a saved hypothesis names.
func (h *Hypothesis) Named() []record.EntityID {
	ids := []record.EntityID{h.Cause.Entity, h.Service}
	if o := h.Cause.Occurrence; o != nil {
		ids = append(ids, o.Subject, o.Detail.Peer, o.Detail.Other)
	}
	ids = append(ids, first(h.Entities())...)
	ids = append(ids, first(h.Addresses())...)
	for _, l := range h.links {
		ids = append(ids, l.subject)
	}
	return ids
}

func first(ids []record.EntityID) []record.EntityID { return ids[:min(len(ids), maxSaved)] }

// Save returns what Resume needs beside the finding; at says where in the list of
// remembered entities each of those is that Named lists.
func (h *Hypothesis) Save(at map[record.EntityID]topology.Nth) Saved {
	places := func(ids []record.EntityID) (out []topology.Nth) {
		for _, id := range first(ids) {
			out = append(out, at[id])
		}
		return out
	}
	s := Saved{
		Event: h.Cause.Event, Time: h.Cause.Time, Entity: at[h.Cause.Entity], Service: at[h.Service],
		Certainty: h.Cause.Certainty, Support: h.Support, Entities: places(h.Entities()), Addresses: places(h.Addresses()),
		Repeats: h.repeats, Last: h.LastEffect, Stand: h.saveStand(), Begun: h.begun, Again: h.again, Final: h.final, Caller: h.caller, Changes: h.changes,
	}
	s.Attributes = saveAttrs(h.Cause.Attributes)
	if o := h.Cause.Occurrence; o != nil {
		s.Seen, s.Subject, s.Peer, s.Other, s.Body = true, at[o.Subject], at[o.Detail.Peer], at[o.Detail.Other], o.Detail.Body
	}
	for i, o := range h.effects {
		if o.count > 0 {
			e := SavedEffect{Index: i, Event: h.Pattern.Effects[i].Event, First: o.first, Last: o.last, Count: o.count, By: o.by}
			if o.said != nil {
				e.Body = o.said.Detail.Body
				e.Attributes = saveAttrs(o.said.Detail.Attrs)
			}
			s.Effects = append(s.Effects, e)
		}
	}
	for key, l := range h.links {
		x := SavedLink{Key: key, Rank: l.rank, Call: l.call, Connection: l.connection, Subject: at[l.subject]}
		if l.parent != nil {
			x.Parent = l.parent.Key
		}
		s.Links = append(s.Links, x)
	}
	slices.SortFunc(s.Links, func(a, b SavedLink) int { return cmp.Compare(a.Key, b.Key) })
	return s
}

// Resume makes the hypothesis of a finding again, from now on, with ids the entities as
// they are known again. It fails when the pattern is not what it was.
func Resume(g *topology.Graph, p *pattern.Pattern, s *Saved, chain []finding.Link, ids []record.EntityID, now int64) (*Hypothesis, error) {
	id := func(n topology.Nth) record.EntityID {
		if n < 1 || int(n) > len(ids) {
			return 0
		}
		return ids[n-1]
	}
	c := Cause{Event: s.Event, Time: s.Time, Entity: id(s.Entity), Certainty: s.Certainty}
	if !p.Cause.Is(s.Event) || c.Entity == 0 {
		return nil, fmt.Errorf("%s at an entity that is known: not the cause of pattern %s any more", s.Event, p.ID)
	}
	c.Attributes = resumeAttrs(s.Attributes)
	if s.Seen {
		c.Occurrence = &detect.Occurrence{
			Name: s.Event, Time: s.Time, Subject: id(s.Subject),
			Detail: &record.Detail{Name: s.Event, Attrs: c.Attributes, Body: s.Body, Peer: id(s.Peer), Other: id(s.Other)},
		}
	}
	h := New(g, p, c)
	h.Cause.Entity, h.Service = c.Entity, id(s.Service)
	for _, n := range s.Entities {
		remember(h.entities, id(n))
	}
	for _, n := range s.Addresses {
		remember(h.addresses, id(n))
	}
	delete(h.entities, 0)
	delete(h.addresses, 0)
	h.begun, h.again, h.final = s.Begun, s.Again, s.Final
	h.Support, h.repeats, h.LastEffect, h.caller, h.resumed = s.Support, max(s.Repeats, 1), s.Last, s.Caller, now
	h.resumeStand(s.Stand)
	for i, at := range s.Changes {
		if i >= 0 && i < len(p.Changes) {
			h.changes[i] = at
		}
	}
	for _, e := range s.Effects {
		if e.Index < 0 || e.Index >= len(p.Effects) || p.Effects[e.Index].Event != e.Event {
			return nil, fmt.Errorf("%s is not effect %d of pattern %s any more", e.Event, e.Index, p.ID)
		}
		h.effects[e.Index] = observed{first: e.First, last: e.Last, count: e.Count, by: e.By, said: e.occurrence()}
	}
	h.relinked(chain, s.Links, id)
	return h, nil
}

// relinked takes over the links of a chain.
func (h *Hypothesis) relinked(chain []finding.Link, saved []SavedLink, id func(topology.Nth) record.EntityID) {
	for i := range chain {
		if l := chain[i]; l.Key == h.root.Key {
			h.root.Link = l
		} else if len(h.links) < maxLinks {
			l.Parent = ""
			h.links[l.Key] = &link{Link: l}
		}
	}
	known := map[string]bool{}
	for _, s := range saved {
		if l := h.links[s.Key]; l != nil && l != h.root {
			known[s.Key] = true
			l.rank, l.call, l.connection, l.subject = s.Rank, s.Call, s.Connection, id(s.Subject)
			if p := h.links[s.Parent]; p != nil && !descends(p, l) {
				l.parent = p
			}
		}
	}
	for key, l := range h.links {
		if l != h.root && !known[key] { // such as the sum of the impact, which the incident adds
			delete(h.links, key)
		}
	}
}

// Resumed is when the incident was taken up after a restart of the engine, 0 for never.
func (h *Hypothesis) Resumed() int64 { return h.resumed }

// watched is until when the incident was watched at least: what an effect that came
// later can follow. Nobody watched before a restart.
func (h *Hypothesis) watched() int64 { return max(h.LastEffect, h.resumed) }
