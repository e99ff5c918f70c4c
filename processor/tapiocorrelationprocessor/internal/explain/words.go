package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// Values are what the pattern's templates see.
func (h *Hypothesis) Values() *pattern.Values {
	v := &pattern.Values{
		Service: h.whose(h.Cause.Entity), Entity: Words(h.graph, h.Cause.Entity), Caller: h.caller,
		Predicted: h.Predicted, FailedUnits: h.FailedUnits,
		Since: pattern.Clock(h.since()), Failed: h.failed, Slow: h.slow, Attributes: map[string]any{},
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
	for _, a := range h.attributes() {
		v.Attributes[a.Key] = a.Value
	}
	if o := h.shown(); o != nil && o.Detail.Body != "" {
		v.Attributes[pattern.KeyBody] = o.Detail.Body
	}
	v.Address = h.address()
	v.Seen = map[string]*pattern.Seen{}
	for i := range h.effects {
		if o := h.effects[i].said; o != nil {
			v.Seen[o.Name] = pattern.NewSeen(o.Time, o.Detail)
		}
	}
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
		if o.count == 0 && !h.saw(h.Pattern.Effects[i].Unless) {
			if s := h.Pattern.Effects[i].MissingFor(v); s != "" {
				out = append(out, s)
			}
		}
	}
	if s := h.unsaid(); s != "" {
		out = append(out, s)
	}
	return append(out, h.Pattern.NotObservedFor(v)...)
}

// RootCause is the cause in the form of a finding.
func (h *Hypothesis) RootCause() finding.RootCause {
	evidence := make(map[string]any, len(h.attributes()))
	for _, a := range h.attributes() {
		evidence[a.Key] = a.Value
		if list, ok := a.Value.([]string); ok {
			evidence[a.Key] = strings.Join(list, ", ")
		}
	}
	event := h.Cause.Event
	if o := h.shown(); o != nil {
		event = o.Name
	}
	if o := h.shown(); o != nil && o.Detail.Body != "" {
		evidence[pattern.KeyBody] = o.Detail.Body
	}
	if h.repeats > 1 {
		evidence["tapio.cause.count"] = h.repeats
	}
	for i, at := range h.changes {
		evidence[h.Pattern.Changes[i].Event] = pattern.Clock(at)
	}
	return finding.RootCause{
		Event: event, Entity: EntityOf(h.graph, h.Cause.Entity),
		Description: h.description(), Evidence: evidence, LastLines: slices.Clone(h.LastLines),
	}
}

// since is when the cause, as it is told, began.
func (h *Hypothesis) since() int64 {
	if len(h.Pattern.Until) == 0 {
		return h.Cause.Time // which can begin earlier than was thought
	}
	return h.stand.since
}

// description is the cause in a sentence, with what was done just before it.
func (h *Hypothesis) description() string {
	v := h.Values()
	text := strings.TrimSpace(h.Pattern.DescriptionFor(v) + " " + h.doneBefore(v))
	if h.Over() {
		text = fmt.Sprintf("%s; over since %s.", strings.TrimSuffix(text, "."), pattern.Clock(h.OverSince()))
	}
	return text
}

// Watch says what to do once the cause is over.
func (h *Hypothesis) Watch() string {
	text := fmt.Sprintf("Nothing to do at once: the cause is over since %s.", pattern.Clock(h.OverSince()))
	if h.Pattern.Settles > 0 {
		text += fmt.Sprintf(" Watch that what it did ends, too, within %s.", h.Pattern.Settles)
	}
	return text
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
			return fmt.Sprintf("%s (process %s, %s)", name, e.Executable, pidWords(e))
		}
		return fmt.Sprintf("%s (%s)", name, pidWords(e))
	case topology.KindContainer, topology.KindPod:
		return fmt.Sprintf("%s (%s %s)", name, e.Kind, e.Name)
	case topology.KindAddress:
		return e.Name
	}
	return name
}

// pidWords is the number of a process for people.
func pidWords(e topology.Snapshot) string {
	if e.PID == 0 {
		return "outside of the collector's pid namespace"
	}
	return fmt.Sprintf("pid %d", e.PID)
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
		s := pidWords(e)
		if e.PID == 0 {
			s = "process " + e.Name
		}
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
