package gauge

import (
	"math"
	"time"
)

const (
	// minShare is how much of its limit a resource uses before anything is predicted:
	// below, there is time, and what starts up looks like a leak.
	minShare = 0.7
	// reached is the share of the limit at which a prediction has come true when the
	// line is there soon, brimful the one at which it has in any case.
	reached, brimful = 0.98, 0.995
	soon             = int64(5 * time.Minute)
	// rearm is the share of the limit below which the next time can be foretold.
	rearm = 0.9
	// predictAfter is how long a trend must have held, endAfter how long it must have
	// been gone, where samples are frequent.
	predictAfter = int64(30 * time.Second)
	endAfter     = int64(time.Minute)
	// revise is by how much the time left changes for a prediction to be told again.
	revise = 0.25
)

// forecast is the state of a series on its way to its limit.
type forecast struct {
	Prediction
	// first is when the trend was first seen, open whether it was told.
	first int64
	open  bool
	// line is the trend when it was seen last.
	line trend
	// missing is since when the trend is gone, misses for how many samples.
	missing int64
	misses  int
	// told is the ETA that was told last.
	told int64
}

// forecast updates the prediction of a series; it returns one that is new, changed
// or at its end.
func (t *Tracker) forecast(s *series) *Prediction {
	if t.options.Horizon == 0 || specs[s.class].goal == 0 {
		return nil
	}
	value, at := s.now()
	limit := s.ceiling()
	if at == 0 || limit <= 0 {
		return s.withdraw()
	}
	if value < rearm*s.deadly(limit) {
		s.arrived = false
	}
	if s.prediction != nil && s.prediction.open && s.hasArrived(value, limit, at) {
		s.arrived, s.died = true, at
		return s.end(StateConfirmed, value, limit, at)
	}
	next, line, ok := t.extrapolate(s, value, limit, at)
	if !ok {
		return s.fade(value, limit, at)
	}
	return s.hold(next, line, at)
}

// hasArrived tells whether what was foretold has come true: what grows slowly is near
// its limit long before it is there.
func (s *series) hasArrived(value, limit float64, at int64) bool {
	return value >= brimful*limit || value >= reached*limit && s.prediction.ETA-at <= soon
}

// extrapolate returns when the limit is reached, if that is soon.
func (t *Tracker) extrapolate(s *series, value, limit float64, at int64) (Prediction, trend, bool) {
	until, goal := t.options.Horizon.Seconds(), specs[s.class].goal
	open := s.prediction != nil && s.prediction.open
	if open {
		until *= 2 // what was told is not taken back for a slope that varies
	} else if s.arrived || !s.mayReach(value, limit, goal, until) {
		return Prediction{}, trend{}, false
	}
	samples := s.history.samples(t.scratch.samples[:0])
	samples = append(append(samples, s.past...), sample{at: at, value: float32(value)})
	collected := s.falls[0] > max(s.died+2*step, at-day)
	line, ok := fit(samples, limit, goal, min(lives*limit, s.deadly(limit)), collected, t.scratch.parts[:0])
	if !ok || (goal*limit-line.value)/line.slope > until || !open && line.value >= goal*limit {
		return Prediction{}, trend{}, false
	}
	left := max((limit-line.value)/line.slope, 0)
	return Prediction{
		Key: s.name(), State: StatePredicted, Value: value, Limit: limit, Slope: line.slope, Unit: s.class.Unit(),
		Consistency: line.consistency, Since: line.since, Time: at, ETA: at + int64(left*1e9),
	}, line, true
}

// deadly is the value at which something was seen to end, the limit before that.
func (s *series) deadly(limit float64) float64 {
	if s.fatal > 0 {
		return min(s.fatal, limit)
	}
	return limit
}

// mayReach is the cheap test before the line: is much in use, and at twice the
// steepest growth of the last samples, is the goal within reach?
func (s *series) mayReach(value, limit, goal, until float64) bool {
	if len(s.past) < minTrend-1 {
		return false
	}
	last := s.past[len(s.past)-minTrend+1:]
	if top := max(float64(peak(last)), value); top < minShare*limit || value >= goal*limit {
		return false
	}
	for _, x := range last {
		if dt := float64(s.lastSeen()-x.at) / 1e9; dt > 0 && 2*(value-float64(x.value))/dt*until >= goal*limit-value {
			return true
		}
	}
	return false
}

// hold notes that the trend holds.
func (s *series) hold(next Prediction, line trend, at int64) *Prediction {
	f := s.prediction
	if f == nil {
		s.prediction = &forecast{Prediction: next, line: line, first: at}
		return nil // once more, to be sure
	}
	key, since := f.Key, f.Since
	f.Prediction, f.line, f.misses = next, line, 0
	if f.open {
		f.Key, f.Since = key, since // whom it was told of
	}
	switch {
	case !f.open && (at-f.first >= predictAfter || s.interval >= predictAfter):
		f.open = true
	case !f.open || math.Abs(float64(f.ETA-f.told)) <= revise*math.Abs(float64(f.told-at)):
		return nil
	}
	f.told = f.ETA
	p := f.Prediction
	return &p
}

// fade notes that the trend does not hold; the prediction ends when the value is
// behind the line by half of what was left, and by more than it varies.
func (s *series) fade(value, limit float64, at int64) *Prediction {
	f := s.prediction
	if f == nil {
		return nil
	}
	if !f.open {
		s.prediction = nil
		return nil
	}
	expected := f.line.value + f.line.slope*float64(at-f.Time)/1e9
	if behind := expected - value; behind < max((limit-f.line.value)/2, 5*f.line.residual) {
		f.misses = 0
		return nil
	}
	if f.misses == 0 {
		f.missing = at
	}
	f.misses++
	if f.misses < 3 || at-f.missing < endAfter {
		return nil
	}
	return s.end(StateWithdrawn, value, limit, at)
}

// withdraw ends the prediction of a series without further data.
func (s *series) withdraw() *Prediction {
	if s.prediction == nil {
		return nil
	}
	if !s.prediction.open {
		s.prediction = nil
		return nil
	}
	return s.end(StateWithdrawn, s.prediction.Value, s.prediction.Limit, s.lastSeen())
}

func (s *series) end(state State, value, limit float64, at int64) *Prediction {
	p := s.prediction.Prediction
	p.State, p.Value, p.Limit, p.Time = state, value, limit, at
	s.prediction = nil
	return &p
}

// Confirm ends the prediction of a resource whose limit was seen to be reached in
// another way, by an out-of-memory kill for example; at is when, in ns since 1970.
// ok is false when nothing is predicted of it.
func (t *Tracker) Confirm(k Key, at int64) (p Prediction, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.active {
		f := s.prediction
		if f == nil || !f.open || f.Key != k {
			continue
		}
		s.fatal, s.arrived, s.died = reached*f.Value, true, at
		ended := s.end(StateConfirmed, f.Value, f.Limit, at)
		if !ok || ended.Since < p.Since { // two metrics of one resource: the longer trend
			p, ok = *ended, true
		}
	}
	return p, ok
}

// Predicted returns the predictions that are open.
func (t *Tracker) Predicted() []Prediction {
	t.mu.Lock()
	defer t.mu.Unlock()
	var r Report
	for s := range t.active {
		if s.prediction != nil && s.prediction.open {
			r.Predictions = append(r.Predictions, s.prediction.Prediction)
		}
	}
	r.sort()
	return r.Predictions
}
