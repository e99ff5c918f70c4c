package explain

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// stand is whether the cause of a hypothesis lasts. It can be there several times at once,
// or again in another form, as a file that is mended and then broken elsewhere.
type stand struct {
	// causes are the events of it of which nothing says that they are over; nil stands for a
	// cause that spans tell of.
	causes []*detect.Occurrence
	// since is the time of the first of those that lasted without a gap.
	since int64
	// over is when the last of them ended, 0 while none did, ended the event that said so.
	over  int64
	ended string
	// ending is that event, where it happened to whom the cause did; else nil.
	ending *detect.Occurrence
	// shown is the newest event that lasts or, where none does, the one that ended last; nil
	// for the cause itself.
	shown *detect.Occurrence
}

// maxStanding bounds the events of one cause that can last at once.
const maxStanding = 16

// Over tells whether something said that the cause has ended since it was seen last.
func (h *Hypothesis) Over() bool { return h.stand.over > 0 && len(h.stand.causes) == 0 }

// OverSince is when the cause ended, 0 while nothing says that it did.
func (h *Hypothesis) OverSince() int64 {
	if !h.Over() {
		return 0
	}
	return h.stand.over
}

// OverBefore tells whether the cause had ended so long before a time that what began then
// is no effect of it.
func (h *Hypothesis) OverBefore(at int64) bool {
	later := h.settles()
	if h.Cause.Occurrence == nil { // what it does is all that tells of it
		later = h.Proof()
	}
	return h.Over() && h.stand.over+later < at
}

// What shows that a cause that spans tell of is over.
const (
	// wellFor is for how long calls must have succeeded again, at least.
	wellFor = int64(10 * time.Second)
	// wellTimes is how many times as long as between two requests that failed: of who
	// fails now and then, so long a while without any is a chance of e^-5 (below 1 %).
	wellTimes = 5
)

// Proof is for how long calls must have succeeded again to show that a cause that spans tell
// of is over.
func (h *Hypothesis) Proof() int64 {
	return max(wellFor, wellTimes*(h.LastCall()-h.Cause.Time)/max(h.failed+h.slow-1, 1))
}

// LastCall is when a call failed last because of the cause, when it happened while none did.
func (h *Hypothesis) LastCall() int64 {
	last := h.Cause.Time
	for i, o := range h.effects {
		if f := &h.Pattern.Effects[i]; f.Event == pattern.CallFailed || f.Relation == pattern.RelationAddress {
			last = max(last, o.last)
		}
	}
	return last
}

// CalledInVain returns the addresses at which calls failed because of the cause.
func (h *Hypothesis) CalledInVain() []record.EntityID {
	all := maps.Clone(h.addresses)
	maps.Copy(all, h.suffered)
	return keys(all)
}

// WellAgain notes since when calls succeed again, 0 where that is not shown. A cause that was
// over is not when a call failed since, as one that is told of late.
func (h *Hypothesis) WellAgain(since int64) {
	switch {
	case since > 0:
		h.stand.over, h.stand.causes = since, nil
	case h.Over() && h.LastCall() > h.stand.over:
		h.stand.over, h.stand.causes = 0, []*detect.Occurrence{nil}
	}
}

// Settled tells whether the cause has ended, and nothing more of it is expected.
func (h *Hypothesis) Settled(now int64) bool {
	return h.Over() && now-h.stand.over >= h.settles()
}

// settles is how long effects can be seen after the cause is over: not where another one
// has taken its place.
func (h *Hypothesis) settles() int64 {
	if h.final {
		return 0
	}
	return int64(h.Pattern.Settles)
}

// EndedBy is the event that said that the cause is over, "" for none.
func (h *Hypothesis) EndedBy() string { return h.stand.ended }

// Ending is the event of the one to whom the cause happened that said that it is over, nil
// for none.
func (h *Hypothesis) Ending() *detect.Occurrence { return h.stand.ending }

// Shown is what a finding says of its cause: the event that it is told by, and since when
// it is over, 0 while it is not.
type Shown struct {
	Event *detect.Occurrence
	Over  int64
}

// Shown returns what a finding says of the cause now.
func (h *Hypothesis) Shown() Shown { return Shown{h.shown(), h.OverSince()} }

func (h *Hypothesis) shown() *detect.Occurrence { return cmp.Or(h.stand.shown, h.Cause.Occurrence) }

// attributes are those of the event by which the cause is told.
func (h *Hypothesis) attributes() []record.Attr {
	if h.stand.shown != nil {
		return h.stand.shown.Detail.Attrs
	}
	return h.Cause.Attributes
}

// stands notes that the cause is there again. Of a pattern that knows when it is over, the
// newest event says what is wrong now.
func (h *Hypothesis) stands(o *detect.Occurrence) {
	s := &h.stand
	if o.Time < s.over { // of the same moment is what takes its place
		return // it came late, and is over
	}
	if len(s.causes) == 0 {
		s.since = o.Time
	}
	s.causes = append(s.causes[max(0, len(s.causes)-maxStanding+1):], o)
	if len(h.Pattern.Until) > 0 && (s.shown == nil || o.Time >= s.shown.Time || len(s.causes) == 1) {
		s.shown = o
	}
}

// relapses notes an effect that is what the pattern's cause is, too: what was said to be over
// is not, as of a unit that was active for a moment and failed again.
func (h *Hypothesis) relapses(o *detect.Occurrence) {
	if !h.Over() || h.final || o.Time <= h.stand.over || !Matches(h.Pattern, o) || !h.Reaches(o.Subject) {
		return
	}
	again := *o // as an event that lasts: the cause is told as before
	if c := h.shown(); c != nil {
		again.Name, again.Detail = c.Name, c.Detail
	}
	h.stand.causes = []*detect.Occurrence{&again}
}

// ends notes an event that says that the cause, as it was seen once or several times, is
// over.
func (h *Hypothesis) ends(o *detect.Occurrence) bool {
	for i := range h.Pattern.Until {
		u := &h.Pattern.Until[i]
		if u.Event != o.Name {
			continue
		}
		if left := h.left(u, o); len(left) < len(h.stand.causes) {
			h.stand.causes = left
			if len(left) == 0 {
				h.stand.over, h.stand.ended, h.stand.ending = max(h.stand.over, o.Time), o.Name, nil
				if o.Subject == h.Cause.Entity {
					h.stand.ending = o
				}
			} else {
				h.stand.shown = left[len(left)-1]
			}
			return true
		}
	}
	return false
}

// left are the events of the cause that last after one that ends some of them.
func (h *Hypothesis) left(u *pattern.Until, o *detect.Occurrence) (left []*detect.Occurrence) {
	for _, c := range h.stand.causes {
		if where, ok := pattern.Bound(u.Where, h.saidBy(c)); ok && o.Time >= h.lastOf(c) && pattern.Holds(where, o.Detail) {
			if _, _, ok := h.relate(u.Relation, o); ok {
				continue
			}
		}
		left = append(left, c)
	}
	return left
}

// lastOf is when an event of the cause happened; where spans tell of it, when it did last.
func (h *Hypothesis) lastOf(c *detect.Occurrence) int64 {
	if c == nil {
		return h.Last()
	}
	return c.Time
}

// toldAgain tells whether an event that lasts is told once more, as those who tell of it do
// after a restart.
func (h *Hypothesis) toldAgain(o *detect.Occurrence) bool {
	return h.resumed > 0 && o.Detail.Body != "" && slices.ContainsFunc(h.stand.causes, func(c *detect.Occurrence) bool {
		return c != nil && c.Name == o.Name && c.Detail.Body == o.Detail.Body
	})
}

// Parts notes an event that is such a cause once more: where this one had been over for
// long enough, it has ended for good, and the event is of another incident; not where systemd
// restarts it each time.
func (h *Hypothesis) Parts(o *detect.Occurrence) {
	if h.Pattern.StartsOver.Event != "" && h.again == 0 {
		return
	}
	if h.Pattern.Apart > 0 && h.Over() && o.Time >= h.stand.over+int64(h.Pattern.Apart) {
		h.final = true
	}
}

// Succeeded ends the cause when the one to whom it happened fails anew.
func (h *Hypothesis) Succeeded(at int64) {
	if !h.Over() {
		h.stand.over, h.stand.ended = max(h.stand.over, at), h.Pattern.StartsOver.Event
	}
	h.stand.causes, h.final = nil, true
}

// says returns what the event that tells of the cause says under a key or, where it says
// nothing, what effects do that the pattern requires; never an empty text.
func (h *Hypothesis) says(key string) []string { return h.saidBy(h.shown())(key) }

func (h *Hypothesis) saidBy(c *detect.Occurrence) func(key string) []string {
	return func(key string) (texts []string) {
		if c == nil {
			return nil
		}
		if text, _ := c.Detail.Attr(key).(string); text != "" {
			return []string{text}
		}
		for o := range h.explains {
			text, _ := o.Detail.Attr(key).(string)
			if text != "" && slices.ContainsFunc(h.Pattern.Effects, func(f pattern.Effect) bool { return f.Required && f.Event == o.Name }) {
				texts = append(texts, text)
			}
		}
		return texts
	}
}

// SavedStand is a stand in a form that outlives the engine.
type SavedStand struct {
	Causes []SavedEvent `json:"causes,omitempty"`
	Since  int64        `json:"since"`
	Over   int64        `json:"over,omitempty"`
	Ended  string       `json:"ended,omitempty"`
	Ending *SavedEvent  `json:"ending,omitempty"`
	// Shown is where in Causes the event is that tells of the cause, from 1, 0 for the cause
	// itself; one that is Gone does not last.
	Shown int  `json:"shown,omitempty"`
	Gone  bool `json:"gone,omitempty"`
}

// SavedEvent is an event of the cause; First is the cause itself.
type SavedEvent struct {
	First      bool        `json:"first,omitempty"`
	Event      string      `json:"event,omitempty"`
	Time       int64       `json:"time,omitempty"`
	Attributes []SavedAttr `json:"attributes,omitempty"`
	Body       string      `json:"body,omitempty"`
}

func saveEvent(o *detect.Occurrence) SavedEvent {
	return SavedEvent{Event: o.Name, Time: o.Time, Attributes: saveAttrs(o.Detail.Attrs), Body: o.Detail.Body}
}

// of is the event, that it happened to an entity.
func (e *SavedEvent) of(id record.EntityID) *detect.Occurrence {
	return &detect.Occurrence{
		Name: e.Event, Time: e.Time, Subject: id, Detail: &record.Detail{Name: e.Event, Attrs: resumeAttrs(e.Attributes), Body: e.Body},
	}
}

func (h *Hypothesis) saveStand() *SavedStand {
	s := &SavedStand{Since: h.stand.since, Over: h.stand.over, Ended: h.stand.ended}
	all := h.stand.causes
	if o := h.stand.shown; o != nil && !slices.Contains(all, o) {
		all, s.Gone = append(slices.Clone(all), o), true
	}
	for _, o := range all {
		if o == nil || o == h.Cause.Occurrence {
			s.Causes = append(s.Causes, SavedEvent{First: true})
			continue
		}
		s.Causes = append(s.Causes, saveEvent(o))
	}
	if o := h.stand.ending; o != nil {
		ending := saveEvent(o)
		s.Ending = &ending
	}
	if o := h.stand.shown; o != nil {
		s.Shown = slices.Index(all, o) + 1
	}
	return s
}

// resumeStand takes over what was saved; nil is what an earlier version saved.
func (h *Hypothesis) resumeStand(s *SavedStand) {
	if s == nil {
		return
	}
	h.stand = stand{since: s.Since, over: s.Over, ended: s.Ended}
	if s.Ending != nil {
		h.stand.ending = s.Ending.of(h.Cause.Entity)
	}
	var all []*detect.Occurrence
	for _, e := range s.Causes[:min(len(s.Causes), maxStanding+1)] {
		o := h.Cause.Occurrence
		if !e.First {
			o = e.of(h.Cause.Entity)
		}
		all = append(all, o)
	}
	if s.Shown > 0 && s.Shown <= len(all) {
		h.stand.shown = all[s.Shown-1]
	}
	if s.Gone && len(all) > 0 {
		all = all[:len(all)-1]
	}
	h.stand.causes = all
}
