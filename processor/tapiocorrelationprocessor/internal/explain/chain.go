package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// ranks order links that have the same time, from the cause to the user.
const (
	rankCause = iota
	rankEffect
	rankConnection
	rankCall
	rankRequest
)

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

// addLink counts one event on the link with that key, making it when it is new.
// It returns nil when the chain is full.
func (h *Hypothesis) addLink(key string, at int64, rank int, build func() finding.Link) *link {
	l := h.links[key]
	if l == nil {
		if len(h.links) >= maxLinks {
			return nil
		}
		l = &link{Link: build(), rank: rank}
		l.Key, l.Time, l.Last = key, record.UTC(at), record.UTC(at)
		h.links[key] = l
	}
	l.Count++
	if t := record.UTC(at); t.Before(l.Time) {
		l.Time = t
	} else if t.After(l.Last) {
		l.Last = t
	}
	return l
}

func (h *Hypothesis) linkOccurrence(e *pattern.Effect, o *detect.Occurrence, by finding.LinkedBy, on string) {
	who := h.graph.ServiceName(o.Subject)
	rank, key := rankEffect, e.Event+"|"+h.keyOf(cmp.Or(h.unitOf(o.Subject), o.Subject))
	address := e.Relation == pattern.RelationAddress
	if address {
		rank, key = rankConnection, h.addressKey(o.Name, who, o.Detail.Peer)
	}
	l := h.addLink(key, o.Time, rank, func() finding.Link {
		title, detail := occurrenceWords(h.whoIs(o.Subject), o)
		return finding.Link{
			Layer: e.Layer, Event: o.Name, Entity: EntityOf(h.graph, o.Subject), Title: title, Detail: detail,
			LinkedBy: by, LinkedOn: on,
		}
	})
	if l != nil {
		l.call, l.subject = l.call || address, o.Subject
	}
}

func (h *Hypothesis) connectionKey(service string, peer record.EntityID) string {
	return h.addressKey(event.TCPConnectFailed, service, peer)
}

// addressKey is the key of the link of what failed between a service and an address.
func (h *Hypothesis) addressKey(name, service string, peer record.EntityID) string {
	return name + "|" + service + "|" + h.keyOf(peer)
}

// keyOf names an entity in the key of a link, so that every engine that sees the
// same events gives the link the same key.
func (h *Hypothesis) keyOf(id record.EntityID) string {
	if key := h.graph.Key(id); key != "" {
		return key
	}
	return strconv.FormatUint(uint64(id), 10)
}

// death is the link from which failed calls follow: the first end of a process
// where one was seen, else the cause itself.
func (h *Hypothesis) death() *link {
	var first *link
	for _, l := range h.links {
		if l.Event == event.ProcessExit && (first == nil || earlier(l, first) < 0) {
			first = l
		}
	}
	if first == nil {
		return h.root
	}
	return first
}

// earlier orders links by time, then from the cause to the user.
func earlier(a, b *link) int {
	return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.rank, b.rank), cmp.Compare(a.Key, b.Key))
}

// occurrenceWords says what happened in a line and gives the particulars in
// another. Events that it does not know are shown by their name.
func occurrenceWords(who string, o *detect.Occurrence) (title, detail string) {
	attr := func(key string) any { return o.Detail.Attr(key) }
	switch o.Name {
	case event.ProcessExit:
		if name := attr(event.KeyExitSignalName); name != nil {
			return fmt.Sprintf("%s ended by %v", who, name), "the process is gone; its connections are closed and its port is free"
		}
		return fmt.Sprintf("%s ended with exit code %v", who, attr(event.KeyProcessExitCode)), "the process is gone; its connections are closed and its port is free"
	case event.TCPConnectFailed:
		return fmt.Sprintf("%s cannot connect to %v:%v: %v", who, attr(event.KeyPeerAddress), attr(event.KeyPeerPort), attr(event.KeyErrorType)),
			"seen by the kernel at the socket, before any SDK"
	}
	if o.Detail.Body != "" {
		text := line(o.Detail.Body)
		if !strings.Contains(text, who) {
			text = who + ": " + text
		}
		return text, o.Name
	}
	return who + ": " + o.Name, ""
}

// whoIs names an entity by its service or, as most containers say nothing to people, its pod.
func (h *Hypothesis) whoIs(id record.EntityID) string {
	if pod, ok := h.graph.Entity(h.graph.PlaceOf(id).Pod); ok && h.graph.ServiceOf(id) == 0 {
		return pod.Name
	}
	if unit := h.unitOf(id); unit != 0 {
		u, _ := h.graph.Entity(unit)
		return fmt.Sprintf("%s (process %s)", u.Name, h.graph.ServiceName(id))
	}
	return h.graph.ServiceName(id)
}

// whose is the service that an entity is of, or the unit for which it runs, else its own
// name.
func (h *Hypothesis) whose(id record.EntityID) string {
	if u, ok := h.graph.Entity(h.unitOf(id)); ok {
		return u.Name
	}
	return h.graph.ServiceName(id)
}

// unitOf is the unit that a process runs for of which no service is known, 0 for none: the
// fork that has not become the unit's program yet is called systemd.
func (h *Hypothesis) unitOf(id record.EntityID) record.EntityID {
	e, ok := h.graph.Entity(id)
	if !ok || e.Kind != topology.KindProcess || h.graph.ServiceOf(id) != 0 {
		return 0
	}
	return h.graph.UnitOf(id)
}

// maxTitle bounds the text of an event in the title of a link, in bytes.
const maxTitle = 160

// line is the first line of a text, cut to the length of a title.
func line(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	if len(text) > maxTitle {
		text = strings.ToValidUTF8(text[:maxTitle], "") + "..."
	}
	return text
}

// AddSpans takes hurt spans of a request that the hypothesis covers, as links of
// the chain. Spans whose failure only passes on that of the same service get no
// link of their own.
func (h *Hypothesis) AddSpans(r *detect.Request, spans ...detect.HurtSpan) {
	for _, s := range spans {
		h.addSpan(r, s)
	}
	h.relink(r)
}

func (h *Hypothesis) addSpan(r *detect.Request, s detect.HurtSpan) {
	failed := r.Failed()
	if failed && !s.Failed {
		return
	}
	below, deeper := r.Below(s)
	by, on := finding.LinkedByTrace, "trace "+r.TraceID.String()
	name, layer := pattern.RequestFailed, finding.LayerApp
	rank := rankRequest
	if !failed {
		name = pattern.RequestSlow
	}
	if failed && s.Kind == record.SpanClient && h.callsRoot(s, below, deeper) {
		name, rank = pattern.CallFailed, rankCall
		if !deeper && s.Peer != 0 {
			by, on = finding.LinkedByAddress, "" // Chain says what
			remember(h.suffered, s.Peer)
		}
	}
	h.seeEvent(name, s.End, by)
	if name == pattern.CallFailed && s.Parent == (record.SpanID{}) {
		h.seeEvent(pattern.RequestFailed, s.End, finding.LinkedByTrace) // the call is the whole request
	}
	if s.Kind == record.SpanInternal && deeper && s.Parent != (record.SpanID{}) {
		return
	}
	if name == pattern.CallFailed && h.caller == "" {
		h.caller = h.graph.ServiceName(s.Subject)
	}
	l := h.addLink(h.spanKey(r, s), s.End, rank, func() finding.Link {
		title, detail := h.spanWords(s, name)
		return finding.Link{
			Layer: layer, Event: name, Entity: EntityOf(h.graph, s.Subject), Title: title, Detail: detail,
			LinkedBy: by, LinkedOn: on,
		}
	})
	if l == nil {
		return
	}
	l.subject = s.Subject
	if l.LinkedBy == finding.LinkedByAddress {
		l.dialled, l.began = s.Peer, s.Start
	}
}

// callsRoot tells whether a client span called the cause's entity: its address, who
// answered there then or the pod that had it, on the node that the cause is about or, where the callee's span is
// there, the callee itself.
func (h *Hypothesis) callsRoot(s, below detect.HurtSpan, deeper bool) bool {
	if deeper {
		return h.isRoot(below.Subject) && h.graph.ServiceOf(below.Subject) != h.graph.ServiceOf(s.Subject)
	}
	if s.Peer == 0 {
		return false
	}
	if h.addresses[s.Peer] || h.names[s.Peer] != "" {
		return true
	}
	for _, id := range []record.EntityID{h.graph.Owner(s.Peer, s.End), h.graph.Holder(s.Peer, s.Start)} {
		if id != 0 && (h.isRoot(id) || h.onNode(id)) {
			return true
		}
	}
	return false
}

// isRoot tells whether an entity is, or belongs to the service of, the cause.
func (h *Hypothesis) isRoot(id record.EntityID) bool {
	_, ok := h.concerns(id)
	return ok || (h.Service != 0 && h.graph.ServiceOf(id) == h.Service)
}

// spanKey is the key of the link that a span of a request belongs to: spans of requests
// that failed and of ones that were only slow are two steps.
func (h *Hypothesis) spanKey(r *detect.Request, s detect.HurtSpan) string {
	class := ""
	if s.Kind == record.SpanClient {
		class = "|" + s.Failure.String()
	}
	if !r.Failed() {
		class += "|slow"
	}
	return "span|" + h.keyOf(s.Operation) + class
}

// relink sets the parents of the links of a request's spans: the hurt span below,
// or, where nothing is below, what Chain finds.
func (h *Hypothesis) relink(r *detect.Request) {
	for _, s := range r.Spans {
		l := h.links[h.spanKey(r, s)]
		if l == nil {
			continue
		}
		p, leaf := h.linkBelow(r, s)
		if p == nil {
			l.call = l.call || leaf.Kind == record.SpanClient
			if key := h.names[leaf.Peer]; key != "" && leaf.Kind == record.SpanClient {
				l.connection = key
			}
			if leaf.Kind == record.SpanClient && leaf.Failure == record.FailureRefused && l.connection == "" {
				l.connection = h.connectionKey(h.graph.ServiceName(leaf.Subject), leaf.Peer)
			}
			continue
		}
		// Of several branches the first to fail is the one that it follows from.
		if p != l && !descends(p, l) && (l.parent == nil || earlier(p, l.parent) < 0) {
			l.parent = p
		}
	}
}

// linkBelow returns the link of the nearest hurt span below s that has one, or nil
// and the span at which the branch ends.
func (h *Hypothesis) linkBelow(r *detect.Request, s detect.HurtSpan) (p *link, leaf detect.HurtSpan) {
	for range r.Spans {
		child, ok := r.Below(s)
		if !ok {
			break
		}
		if l := h.links[h.spanKey(r, child)]; l != nil {
			return l, child
		}
		s = child
	}
	return nil, s
}

// parentOf returns the link that a link follows from: the hurt span below it; the
// connection that its call waited for; for calls the end of the process; else the
// cause. It is decided when the chain is written, because they arrive in any order.
func (h *Hypothesis) parentOf(l *link) *link {
	if l.parent != nil {
		return l.parent
	}
	if c := h.links[l.connection]; c != nil && c != l && !c.Time.After(l.Time) {
		return c
	}
	if d := h.death(); l.call && d != l && !d.Time.After(l.Time) {
		return d
	}
	return h.root
}

// descends tells whether l is an ancestor of p: linking l below p would be a circle.
func descends(p, l *link) bool {
	for n := 0; p != nil && n < maxLinks; n++ {
		if p == l {
			return true
		}
		p = p.parent
	}
	return false
}

func (h *Hypothesis) spanWords(s detect.HurtSpan, name string) (title, detail string) {
	who := h.graph.ServiceName(s.Subject)
	switch {
	case name == pattern.RequestSlow:
		return fmt.Sprintf("%s %s is slow", who, s.Name), "took " + time.Duration(s.End-s.Start).Round(time.Millisecond).String()
	case s.Kind == record.SpanClient:
		title = fmt.Sprintf("%s: call %s fails: %s", who, s.Name, s.Failure)
	default:
		title = fmt.Sprintf("%s %s fails", who, s.Name)
	}
	if s.HTTPStatus != 0 {
		title += fmt.Sprintf(" with HTTP %d", s.HTTPStatus)
	}
	return title, cmp.Or(s.Message, s.ErrorType)
}

// Chain returns the links in causal order: by time, and never before the link
// that they follow from.
func (h *Hypothesis) Chain() []finding.Link {
	v := h.Values()
	h.root.Title, h.root.Detail = h.Pattern.TitleFor(v), h.description()
	h.root.Entity = EntityOf(h.graph, h.Cause.Entity)
	links := make([]*link, 0, len(h.links))
	for _, l := range h.links {
		links = append(links, l)
	}
	slices.SortFunc(links, earlier)
	out := make([]finding.Link, 0, len(links))
	done := map[*link]bool{}
	var put func(l *link)
	put = func(l *link) {
		if done[l] {
			return
		}
		done[l] = true
		if l != h.root {
			p := h.parentOf(l)
			put(p)
			l.Parent = p.Key
		}
		if l.dialled != 0 { // who had it may have become known after the call
			l.LinkedOn = h.addressOf(l.dialled, l.began, l.Time.UnixNano())
		}
		out = append(out, l.Link)
	}
	put(h.root)
	for _, l := range links {
		put(l)
	}
	return out
}

// KeyOf returns the key of the link that a span of a request belongs to.
func (h *Hypothesis) KeyOf(r *detect.Request, s detect.HurtSpan) string { return h.spanKey(r, s) }
