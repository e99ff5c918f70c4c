package gauge

import (
	"math"
	"time"
)

const (
	// minShare is how much of its limit a resource uses before anything is predicted:
	// below, there is time, and what starts up looks like a leak.
	minShare = 0.7
	// reached is the share of the limit at which a prediction has come true.
	reached = 0.98
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
	// missing is since when the trend is gone, misses for how many samples.
	missing int64
	misses  int
	// told is the ETA that was told last.
	told int64
}

// forecast updates the prediction of a series; it returns one that is new, changed
// or at its end.
func (t *Tracker) forecast(s *series) *Prediction {
	if t.options.Horizon == 0 || !specs[s.class].trend {
		return nil
	}
	value, at := s.now()
	limit := s.ceiling()
	if at == 0 || limit <= 0 {
		return s.withdraw()
	}
	if s.prediction != nil && s.prediction.open && value >= reached*limit {
		return s.end(StateConfirmed, value, limit, at)
	}
	next, ok := s.extrapolate(value, limit, at, t.options.Horizon)
	if !ok {
		return s.fade(value, limit, at)
	}
	return s.hold(next, at)
}

// extrapolate returns when the limit is reached, if that is soon.
func (s *series) extrapolate(value, limit float64, at int64, horizon time.Duration) (Prediction, bool) {
	until := horizon.Seconds()
	if s.prediction != nil && s.prediction.open {
		until *= 2 // what was told is not taken back for a slope that varies
	}
	if value < minShare*limit || value >= reached*limit || !s.mayReach(value, limit, until) {
		return Prediction{}, false
	}
	line, ok := fit(s.samples(value, at), limit)
	if !ok {
		return Prediction{}, false
	}
	left := (limit - max(line.value, value)) / line.slope
	if left > until || math.IsNaN(left) {
		return Prediction{}, false
	}
	return Prediction{
		Key: s.name(), State: StatePredicted, Value: value, Limit: limit, Slope: line.slope, Unit: s.class.Unit(),
		Consistency: line.consistency, Since: line.since, Time: at, ETA: at + int64(max(left, 0)*1e9),
	}, true
}

// mayReach is the cheap test before the line: at twice the steepest growth of the
// last samples, is the limit within reach?
func (s *series) mayReach(value, limit, until float64) bool {
	if len(s.past) < minTrend-1 {
		return false
	}
	for _, x := range s.past[len(s.past)-minTrend+1:] {
		if dt := float64(s.lastSeen()-x.at) / 1e9; dt > 0 && 2*(value-float64(x.value))/dt*until >= limit-value {
			return true
		}
	}
	return false
}

// samples are the past and the present.
func (s *series) samples(value float64, at int64) []sample {
	out := make([]sample, 0, len(s.past)+1)
	out = append(out, s.past...)
	return append(out, sample{at: at, value: float32(value)})
}

// hold notes that the trend holds.
func (s *series) hold(next Prediction, at int64) *Prediction {
	f := s.prediction
	if f == nil {
		s.prediction = &forecast{Prediction: next, first: at}
		return nil // once more, to be sure
	}
	key, since := f.Key, f.Since
	f.Prediction, f.misses = next, 0
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

// fade notes that the trend does not hold; after a while the prediction ends.
func (s *series) fade(value, limit float64, at int64) *Prediction {
	f := s.prediction
	if f == nil {
		return nil
	}
	if !f.open {
		s.prediction = nil
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
