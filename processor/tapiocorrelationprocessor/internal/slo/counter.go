package slo

import "time"

// level is a ring of buckets of one width.
type level struct {
	width   int64
	buckets []bucket
}

type bucket struct {
	start      int64
	total, bad float32
}

// counter counts requests in rings of growing width: an hour by the minute, three
// days by the half hour, ninety days by the day.
type counter struct {
	levels         [3]level
	oldest, newest int64
}

func newCounter() *counter {
	return &counter{levels: [3]level{
		{int64(time.Minute), make([]bucket, 62)},
		{int64(30 * time.Minute), make([]bucket, 146)},
		{int64(24 * time.Hour), make([]bucket, 92)},
	}}
}

// add counts n requests that ended at a time.
func (c *counter) add(at int64, n float64, bad bool) {
	if at <= 0 {
		return
	}
	if c.oldest == 0 || at < c.oldest {
		c.oldest = at
	}
	c.newest = max(c.newest, at)
	for i := range c.levels {
		l := &c.levels[i]
		start := at - at%l.width
		b := &l.buckets[(start/l.width)%int64(len(l.buckets))]
		if b.start > start {
			continue // older than all that this level holds
		}
		if b.start < start {
			*b = bucket{start: start}
		}
		b.total += float32(n)
		if bad {
			b.bad += float32(n)
		}
	}
}

// sum returns the requests of the last window before a time, from the finest level
// that reaches back so far.
func (c *counter) sum(window time.Duration, now int64) (total, bad float64) {
	l := &c.levels[len(c.levels)-1]
	for i := range c.levels {
		if int64(window) <= c.levels[i].width*int64(len(c.levels[i].buckets)-2) {
			l = &c.levels[i]
			break
		}
	}
	for i := range l.buckets {
		if b := &l.buckets[i]; b.start > now-int64(window)-l.width && b.start <= now {
			total += float64(b.total)
			bad += float64(b.bad)
		}
	}
	return total, bad
}

// burn returns the burn rate of a window.
func (c *counter) burn(o *Objective, window time.Duration, now int64) (rate, bad float64) {
	total, bad := c.sum(window, now)
	if total == 0 {
		return 0, 0
	}
	return bad / total / (1 - o.Target), bad
}

// status judges the counts against an objective.
func (c *counter) status(o *Objective, now int64) Status {
	s := Status{Objective: *o, BurnWindow: time.Hour}
	s.Window = o.window()
	s.Burn, _ = c.burn(o, time.Hour, now)
	// The share of the budget that an alert's rate uses in its long window is that of
	// 30 days, whatever the objective's window.
	scale := float64(s.Window) / float64(DefaultWindow)
	for _, a := range alerts {
		long, bad := c.burn(o, a.long, now)
		short, _ := c.burn(o, a.short, now)
		if a.long <= s.Window && bad >= minBad && long >= a.burn*scale && short >= a.burn*scale {
			s.Severity, s.Burn, s.BurnWindow = a.severity, long, a.long
			break
		}
	}
	s.Requests, s.Bad = c.sum(s.Window, now)
	s.Covered = min(time.Duration(max(now-c.oldest, 0)), s.Window)
	s.Left = c.left(o, &s)
	return s
}

// left is the share of the budget that is left. The budget is that of the whole
// window: what was not seen of it is assumed to have had as many requests, all good.
func (c *counter) left(o *Objective, s *Status) float64 {
	if s.Requests == 0 {
		return 1
	}
	allowed := s.Requests * (1 - o.Target)
	if s.Covered > 0 {
		// Not less than an hour: the first seconds say little about a month.
		allowed *= float64(s.Window) / float64(max(s.Covered, time.Hour))
	}
	return 1 - s.Bad/allowed
}
