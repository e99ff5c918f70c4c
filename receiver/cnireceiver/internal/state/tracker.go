package state

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

// condition is something wrong that lasts.
type condition struct {
	// key identifies it from one picture to the next.
	key string
	// version changes when it must be told again, because it is wrong in another way.
	version string
	// sources are what must be seen to say that it is over.
	sources []Source
	// hold is how long it must last before it is told.
	hold time.Duration
	// linger is how long it must be gone before it is told to be over: what comes
	// and goes is one event.
	linger time.Duration
	// weak: it is reason to go on for what was told, not to begin. Between the mark at
	// which a condition begins and the one at which it ends, it is weak.
	weak bool
	// about names a part of the picture: while that is explained by something else the
	// condition keeps its state. "" for none.
	about string
	// began is when it did as far as that is known, zero when it is not: it counts if it
	// is after the picture before.
	began time.Time
	// event is what to tell. Its time is filled in.
	event Event
}

// held is a condition that lasts.
type held struct {
	condition
	since time.Time
	// raised says that it was told as it is, told what was told last, of which version;
	// nil for nothing.
	raised      bool
	told        *Event
	toldVersion string
	// gone is since when it is not there, zero while it is.
	gone time.Time
	// before says that it was told before the start, and was not seen since.
	before bool
}

// tracker remembers which conditions last, and tells when they begin and end.
type tracker struct {
	held map[string]*held
	// limit bounds held; dropped counts what found no place.
	limit   int
	dropped int64
	// last is when the last picture was taken, before when the one before that was.
	last, before time.Time
	// fresh are the keys of what was told, over those of what was told to be over, since
	// somebody asked (Decider.Changed).
	fresh map[string]struct{}
	over  []string
}

func newTracker(limit int) *tracker {
	return &tracker{held: make(map[string]*held), limit: limit, fresh: make(map[string]struct{})}
}

// update takes all conditions of one picture and returns what is new. explained are
// the parts of the picture of which it tells nothing: what was told of them is not over.
func (t *tracker) update(p *Picture, now []condition, explained map[string]bool) []Event {
	t.before, t.last = t.last, p.At
	present := make(map[string]bool, len(now))
	var events []Event
	for _, weak := range []bool{false, true} {
		for _, c := range now {
			if c.weak != weak || present[c.key] {
				continue
			}
			present[c.key] = true
			if ev, ok := t.see(p, c); ok {
				events = append(events, ev)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(t.held)) {
		h := t.held[key]
		if present[key] || !p.Sees(h.sources...) {
			continue
		}
		if h.gone.IsZero() {
			h.gone = p.At
		}
		switch {
		case h.told == nil:
			delete(t.held, key)
		case explained[h.about]:
			h.gone = time.Time{}
		case p.At.Sub(h.gone) >= h.linger:
			delete(t.held, key)
			t.over = append(t.over, key)
			events = append(events, recovered(*h.told, h.gone, h.before))
		}
	}
	return events
}

// see returns the event of a condition that has lasted long enough for the
// first time.
func (t *tracker) see(p *Picture, c condition) (Event, bool) {
	at := p.At
	h, ok := t.held[c.key]
	if c.weak {
		t.seeWeak(h, c)
		return Event{}, false
	}
	if !ok {
		if !p.Sees(c.sources...) {
			return Event{}, false
		}
		if len(t.held) >= t.limit {
			t.dropped++
			return Event{}, false
		}
		h = &held{since: t.since(c), condition: c}
		t.held[c.key] = h
	}
	if h.version != c.version {
		// What changed for a moment only is still as it was told.
		h.since, h.raised = at, h.told != nil && h.toldVersion == c.version
	}
	h.condition, h.gone = c, time.Time{}
	if h.before && h.raised { // the same event again: whoever forgot it may need it, others know it
		h.before = false
		return *h.told, true
	}
	h.before = false
	if h.raised || at.Sub(h.since) < c.hold {
		return Event{}, false
	}
	h.raised = true
	h.event.Time = h.since
	told := h.event
	h.told, h.toldVersion = &told, c.version
	t.fresh[c.key] = struct{}{}
	return told, true
}

// since is when a condition that is new in this picture began.
func (t *tracker) since(c condition) time.Time {
	if !t.before.IsZero() && c.began.After(t.before) && c.began.Before(t.last) {
		return c.began
	}
	return t.last
}

// seeWeak keeps what was told as it is, and forgets what only waits to be.
func (t *tracker) seeWeak(h *held, c condition) {
	switch {
	case h == nil:
	case h.told == nil:
		delete(t.held, c.key)
	default:
		h.gone, h.before = time.Time{}, false
	}
}

// lasts says whether a condition of a picture of that time has lasted long enough
// to be told.
func (t *tracker) lasts(c condition, at time.Time) bool {
	since := at
	if h, ok := t.held[c.key]; ok {
		since = h.since
	}
	return at.Sub(since) >= c.hold
}

// due is when the next condition will have lasted, or have been gone, for long
// enough; zero when none waits. One that should have been told by now waits for a
// source that is not seen: it is due at no certain time.
func (t *tracker) due() time.Time {
	var next time.Time
	for _, h := range t.held {
		at := h.since.Add(h.hold)
		if !h.gone.IsZero() {
			at = h.gone.Add(h.linger)
		} else if h.raised {
			continue
		}
		if at.After(t.last) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// identifying are the attributes by which one finds the event that is over.
var identifying = []string{
	event.KeyFilePath, event.KeyInterfaceName, event.KeyCNIAddress, event.KeyCNINetwork, event.KeyCNINetns,
	event.KeyCNIOther, event.KeyCNIPlugin, event.KeyCNIRoute, event.KeyNetworkNamespace,
}

// recovered is that an event is over, at a time; unwatched says that nobody looked between
// the two, so that it may have ended earlier.
func recovered(ev Event, at time.Time, unwatched bool) Event {
	over := "Over"
	if unwatched {
		over = fmt.Sprintf("Over when the collector looked again after its start, at %s UTC", at.UTC().Format(time.TimeOnly))
	}
	attrs := map[string]any{event.KeyCNIRecovered: ev.Name}
	for _, key := range identifying {
		if v, ok := ev.Attributes[key]; ok {
			attrs[key] = v
		}
	}
	return Event{
		Name: event.CNIRecovered, Time: at, Severity: plog.SeverityNumberInfo,
		Body: fmt.Sprintf("%s: %s", over, ev.Body), Pod: ev.Pod, Attributes: attrs,
	}
}
