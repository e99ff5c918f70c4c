package gauge

import (
	"math"
	"slices"
	"time"
)

const (
	// minZ is the change from which an anomaly is reported; the prototype counted
	// nothing below 2.5 in the score of a service.
	minZ = 2.5
	// minSpread is the least spread of the past, in natural logarithms: what always
	// had the same value may still vary by a quarter.
	minSpread = 0.25
	// supportScore is the most that a change counts which does not come near the limit,
	// or which has a pattern of its own: below the alarm threshold, it supports other
	// signs and is none by itself.
	supportScore = 4.0
	// rare samples end an alarm at once; of others it takes two, which may vary.
	rare = int64(20 * time.Second)
	// announceEvery is how often a lasting anomaly is an occurrence again.
	announceEvery = int64(time.Minute)
	// adoptAfter is how long an anomaly lasts until it is the new normal.
	adoptAfter = int64(time.Hour)
	// maxOften is the share of the past that may have been as close to the limit.
	maxOften = 0.05
	// full is the share of the limit that nothing is used to.
	full = 0.99
	// warmUp is how long a new series is not compared with its peers.
	warmUp = int64(2 * time.Minute)
	// youngWeight is what a change counts against the first samples only.
	youngWeight = 0.5
	// minPeers is how many peers a comparison needs.
	minPeers = 3
)

// alarm is what is believed of a series.
type alarm struct {
	// open is set while an event holds; soft while there is only a small change.
	open, soft bool
	event      string
	// since is when the condition began to hold, misses the samples without it.
	since     int64
	misses    int
	announced int64
	last      Anomaly
}

// scratch are buffers of the judge.
type scratch struct {
	values [maxSamples]float64
	logs   [maxSamples]float64
	peers  []float64
	// samples and parts are those of a trend.
	samples, parts [maxHistory + maxSamples + 1]sample
}

// Judge looks at all series with new samples and returns what holds at a time, in
// ns since 1970.
func (t *Tracker) Judge(now int64) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.dirty) > 0 {
		t.floors.refresh(t.series, now, &t.scratch.values)
	}
	var r Report
	for i, s := range t.dirty {
		s.dirty = false
		t.dirty[i] = nil
		t.judge(s)
		if p := t.forecast(s); p != nil {
			r.Predictions = append(r.Predictions, *p)
		}
		if s.alarm.open || s.alarm.soft || s.prediction != nil {
			t.active[s] = struct{}{}
		}
	}
	t.dirty = t.dirty[:0]
	t.report(&r, now)
	r.sort()
	return r
}

// report adds the anomalies that hold, and ends those whose data stopped.
func (t *Tracker) report(r *Report, now int64) {
	for s := range t.active {
		if now-s.lastSeen() > s.staleAfter() {
			s.alarm = alarm{}
			if p := s.withdraw(); p != nil {
				r.Predictions = append(r.Predictions, *p)
			}
		}
		if s.prediction == nil && !s.alarm.open && !s.alarm.soft {
			delete(t.active, s)
		}
	}
	for s := range t.active {
		if !s.alarm.open && !s.alarm.soft {
			continue
		}
		a := s.alarm.last
		a.Replicas, a.Alike = t.replicas(s)
		if s.alarm.open && (s.alarm.announced == 0 || a.Time-s.alarm.announced >= announceEvery) {
			s.alarm.announced, a.Announce = a.Time, true
		}
		r.Anomalies = append(r.Anomalies, a)
	}
}

// lastSeen is the newest sample.
func (s *series) lastSeen() int64 {
	if s.nRecent == 0 {
		return 0
	}
	return s.recent[s.nRecent-1].at
}

// staleAfter is how old the newest sample may be for an anomaly to hold.
func (s *series) staleAfter() int64 { return max(3*s.interval, int64(2*time.Minute)) }

// replicas counts the other members of the workload with the same resource, and
// those with the same anomaly.
func (t *Tracker) replicas(s *series) (all, alike int) {
	for _, x := range t.workloads[s.workload] {
		if x == s || !x.sameResource(s) {
			continue
		}
		all++
		if (x.alarm.open || x.alarm.soft) && x.alarm.event == s.alarm.event {
			alike++
		}
	}
	return all, alike
}

// sameResource tells whether two series of a workload can be compared.
func (s *series) sameResource(o *series) bool {
	return s.class == o.class && s.part == o.part && s.instance == o.instance && s.use.rule == o.use.rule
}

// verdict is the outcome of looking at one series once.
type verdict struct {
	event         string
	z, before     float64
	value, limit  float64
	atLimit, soft bool
}

// judge updates the alarm of a series.
func (t *Tracker) judge(s *series) {
	value, at := s.now()
	if at == 0 {
		return
	}
	v := t.look(s, value, at)
	a := &s.alarm
	if v.event == "" {
		a.soft = v.soft
		s.miss(&v)
	} else {
		s.hit(&v, at)
	}
	if a.open && at-a.since > adoptAfter {
		s.adopt()
		*a = alarm{}
		return
	}
	if a.open || a.soft {
		a.last = s.anomaly(&v, at)
	}
}

// hit notes that the condition of an event holds.
func (s *series) hit(v *verdict, at int64) {
	a := &s.alarm
	if a.since == 0 {
		a.since = at
	}
	a.misses, a.soft = 0, v.soft
	if a.open && a.event != v.event {
		a.announced = 0 // it became another one, of the same beginning
	}
	a.open, a.event, s.open.abnormal = true, v.event, true
}

// miss notes that it does not; two in a row end the alarm, one where samples are
// rare.
func (s *series) miss(v *verdict) {
	a := &s.alarm
	if !a.open {
		switch {
		case !v.soft:
			a.since = 0
		case a.since == 0:
			a.since = s.lastSeen()
		}
		return
	}
	a.misses++
	sp := &specs[s.class]
	if sp.clear > 0 && v.limit > 0 && v.value >= sp.clear*v.limit && sp.ceiling.event == a.event {
		a.misses = 0 // not yet far enough from the limit
		return
	}
	if a.misses >= 2 || s.interval >= rare {
		*a = alarm{soft: v.soft, since: s.lastSeen()}
	}
}

func (s *series) anomaly(v *verdict, at int64) Anomaly {
	a := Anomaly{
		Key: s.name(), Z: v.z, Value: v.value, Before: v.before, Limit: v.limit, Unit: s.class.Unit(),
		Since: s.alarm.since, Time: at,
	}
	if s.alarm.open {
		a.Event = s.alarm.event
	}
	a.Score = s.score(v)
	return a
}

// score is what an anomaly counts for its service.
func (s *series) score(v *verdict) float64 {
	sp := &specs[s.class]
	switch {
	case !sp.scores:
		return 0
	case v.atLimit && s.alarm.open && sp.score == 0:
		return supportScore
	case !v.soft:
		return 0
	case !sp.alarms || sp.leastShare > 0 && (v.limit == 0 || v.value < v.limit/2):
		return min(v.z, supportScore)
	}
	return v.z
}

// name returns the key of the series for others.
func (s *series) name() Key {
	k := Key{Subject: s.subject, Class: s.class, Container: s.container, Instance: s.instance}
	if s.part != "" && k.Instance != "" {
		k.Instance += " "
	}
	k.Instance += s.part
	return k
}

// look compares the value of a series with its past, its peers and its limit.
func (t *Tracker) look(s *series, value float64, at int64) verdict {
	sp := &specs[s.class]
	past := s.refresh(&t.scratch.values)
	v := verdict{value: value, before: past.median, limit: s.ceiling()}
	v.z = t.change(s, value, at, past)
	if v.z >= minZ && sp.matters(value, v.limit) {
		v.soft = true
		if sp.change.event != "" && sp.score > 0 && v.z >= sp.score {
			v.event = sp.change.event
		}
	}
	if sp.grows && past.n >= minPast && value >= sp.least && s.grew(value, past.median) {
		v.event = sp.change.event
	}
	if sp.at > 0 && v.limit > 0 && (sp.score == 0 || v.soft) && t.exhausted(s, value, v.limit, past) {
		v.event, v.atLimit = sp.ceiling.event, true
	}
	return v
}

// matters tells whether a change to a value is worth anything.
func (c *change) matters(value, limit float64) bool {
	if limit > 0 && c.leastShare > 0 {
		return value >= c.leastShare*limit
	}
	return value >= c.least
}

// exhausted tells whether a resource is at its limit and is not so all the time, or
// every now and then.
func (t *Tracker) exhausted(s *series, value, limit float64, past stats) bool {
	sp := &specs[s.class]
	share := value / limit
	if share < sp.at && !(s.wait.at > 0 && s.wait.value >= 1 && share >= sp.clear) {
		return false
	}
	if past.n < minPast {
		// Without a past, a CPU that starts up and a pool that fills are not told from
		// those in trouble, nor a disk that is always nearly full; a full one is.
		return !sp.scores && share >= full
	}
	if before := past.median / limit; before >= sp.usual && (share < full || before >= full) {
		return false
	}
	often := 0
	for _, x := range s.normal(&t.scratch.values) {
		if x >= share*limit {
			often++
		}
	}
	return float64(often) <= maxOften*float64(past.n)
}

// change is the z score of a value against its own past, or its peers when there is
// no past.
func (t *Tracker) change(s *series, value float64, at int64, past stats) float64 {
	floor := specs[s.class].floor
	if !specs[s.class].absolute {
		floor = max(t.floors.of(s), floor)
	}
	if floor == 0 {
		return 0 // a class that is judged by its limit only
	}
	if past.n >= minPast {
		if math.Log((value+floor)/(past.median+floor)) < minZ*minSpread {
			return 0 // too small whatever the spread
		}
		return zScore(value, floor, s.normal(&t.scratch.values), t.scratch.logs[:0])
	}
	if len(s.young) >= minYoung {
		values := t.scratch.values[:0]
		for _, x := range s.young {
			values = append(values, float64(x))
		}
		slices.Sort(values)
		// The first minute of what may still start up is half as telling.
		return youngWeight * zScore(value, floor, values, t.scratch.logs[:0])
	}
	if at-s.first < warmUp {
		return 0
	}
	peers := t.peers(s, at)
	if len(peers) < minPeers {
		return 0
	}
	return zScore(value, floor, peers, t.scratch.logs[:0])
}

// peers returns the values of the other members of the workload.
func (t *Tracker) peers(s *series, at int64) []float64 {
	values := t.scratch.peers[:0]
	for _, x := range t.workloads[s.workload] {
		if x != s && x.sameResource(s) && at-x.lastSeen() < x.staleAfter() && len(values) < maxSamples {
			if v, seen := x.now(); seen > 0 {
				values = append(values, v)
			}
		}
	}
	t.scratch.peers = values
	return values
}

// zScore is (ln(x+f) - median) / max(P90 |deviation|, 0.25) of the logarithms of
// the reference. It reports increases only. logs is overwritten; reference is
// sorted.
func zScore(x, f float64, reference, logs []float64) float64 {
	for _, v := range reference {
		logs = append(logs, math.Log(v+f))
	}
	med := median(logs)
	for i, l := range logs {
		logs[i] = math.Abs(l - med)
	}
	slices.Sort(logs)
	return max((math.Log(x+f)-med)/max(ninetieth(logs), minSpread), 0)
}

// grew tells whether a queue grows: three times its past, the last samples in one
// direction.
func (s *series) grew(value, before float64) bool {
	if value < 3*(before+specs[s.class].floor) || s.nRecent < 3 {
		return false
	}
	var up, pairs int
	for i := range s.nRecent {
		for j := i + 1; j < s.nRecent; j++ {
			pairs++
			if s.recent[j].value > s.recent[i].value {
				up++
			}
		}
	}
	return float64(up) >= 0.8*float64(pairs)
}

// floors are half the median of what all series of a metric usually have: what is
// small beside it is noise.
type floors struct {
	at     int64
	byRule map[*rule]float64
}

// floorsEvery is how often they are computed: they read all series.
const floorsEvery = int64(30 * time.Second)

func (f *floors) refresh(all map[uint64]*series, now int64, scratch *[maxSamples]float64) {
	if f.byRule != nil && abs(now-f.at) < floorsEvery {
		return
	}
	f.at = now
	values := map[*rule][]float64{}
	for _, s := range all {
		if r := s.signalRule(); r != nil && s.nRecent > 0 && specs[s.class].floor > 0 {
			values[r] = append(values[r], s.usual(scratch))
		}
	}
	f.byRule = make(map[*rule]float64, len(values))
	for r, v := range values {
		f.byRule[r] = median(v) / 2
	}
}

func (f *floors) of(s *series) float64 { return f.byRule[s.signalRule()] }

// usual is the median of the past, the newest sample while there is too little.
func (s *series) usual(scratch *[maxSamples]float64) float64 {
	if past := s.refresh(scratch); past.n >= minPast {
		return past.median
	}
	return s.recent[s.nRecent-1].value
}

// signalRule is the metric that the signal comes from.
func (s *series) signalRule() *rule {
	if s.use.rule != nil {
		return s.use.rule
	}
	return s.share.rule
}
