package explain

import (
	"cmp"
	"slices"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

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
		if o.count > 0 || !e.Optional && !h.saw(e.Unless) && !h.isCause(i) {
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

// saw tells whether an effect of that name was seen.
func (h *Hypothesis) saw(event string) bool {
	for i := range h.effects {
		if h.effects[i].count > 0 && h.Pattern.Effects[i].Event == event {
			return true
		}
	}
	return false
}

// unconfirmed is the completeness of a cause of which nothing need follow, and of
// which nothing was seen to follow.
const unconfirmed = 0.5

// Supported tells whether all effects were seen without which the pattern makes no
// finding. What was over before it was told is worth one if it hurt requests, or somebody
// who has to catch up.
func (h *Hypothesis) Supported() bool {
	return (!h.Over() || h.failed+h.slow > 0 || h.Pattern.Settles > 0 && h.hasEffect()) && h.HasRequired() && (!h.Pattern.Harmful || h.lasted || h.hasEffect())
}

// Lasted notes that time has passed, and returns whether the cause makes a finding from now
// on though nothing was seen of what it does.
func (h *Hypothesis) Lasted(now int64) bool {
	p := h.Pattern
	switch {
	case h.lasted, h.Over(), h.Cause.Occurrence == nil, !p.MayLast(h.Cause.Occurrence.Detail):
		return false
	case p.Harmful && h.hasEffect(), now-h.stand.since < int64(p.Lasts):
		return false
	}
	h.lasted = true
	return true
}

// HasLasted tells whether the cause is a finding though no request was hurt, see Lasted.
func (h *Hypothesis) HasLasted() bool { return h.lasted }

func (h *Hypothesis) hasEffect() bool {
	return slices.ContainsFunc(h.effects, func(o observed) bool { return o.count > 0 })
}

// HasRequired tells whether all effects were seen that the pattern requires.
func (h *Hypothesis) HasRequired() bool {
	for i := range h.effects {
		if h.Pattern.Effects[i].Required && (h.effects[i].count == 0 && !h.isCause(i) || !h.seenWidely(i)) {
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

// isCause tells whether an effect is what the cause itself is: of what was seen before it
// nothing is known.
func (h *Hypothesis) isCause(i int) bool {
	f := &h.Pattern.Effects[i]
	return h.Cause.Occurrence != nil && f.Event == h.Cause.Event && pattern.Holds(f.Where, h.Cause.Occurrence.Detail)
}

// SaysMore tells whether, of two hypotheses of one event, this one requires an effect that
// the other does not explain, nor takes for its cause again.
func (h *Hypothesis) SaysMore(than *Hypothesis) bool {
	if h.Cause.Occurrence == nil || h.Cause.Occurrence != than.Cause.Occurrence {
		return false
	}
	for i := range h.effects {
		if o := h.effects[i].said; h.Pattern.Effects[i].Required && o != nil && !than.Explains(o) && !Matches(than.Pattern, o) {
			return true
		}
	}
	return false
}

// Better orders hypotheses: one that explains another's cause, or more of what followed
// from the same one, comes first, then
// the one with the higher confidence, then the earlier cause.
func Better(a, b *Hypothesis, w Weights) int {
	switch {
	case a.SaysMore(b) && !b.SaysMore(a):
		return -1
	case b.SaysMore(a) && !a.SaysMore(b):
		return 1
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
