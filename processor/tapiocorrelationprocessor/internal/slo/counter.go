package slo

import "time"

// counter counts requests in rings of buckets of growing width: an hour by the
// minute, three days by the half hour, three months by the day.
type counter struct {
	// latency above which a request is bad, in ns; 0 for any.
	latency        int64
	levels         [3]ring
	oldest, newest int64
}

// ring holds the newest buckets of one width.
type ring struct {
	width   int64
	buckets []bucket
}

type bucket struct {
	start      int64
	total, bad uint32
}

func newCounter(latency int64) *counter {
	return &counter{latency: latency, levels: [3]ring{
		{int64(time.Minute), make([]bucket, 62)},
		{int64(30 * time.Minute), make([]bucket, 146)},
		{int64(day), make([]bucket, 92)},
	}}
}

// add counts a request that ended at a time.
func (c *counter) add(at int64, bad bool) {
	if at <= 0 {
		return
	}
	if c.oldest == 0 || at < c.oldest {
		c.oldest = at
	}
	c.newest = max(c.newest, at)
	for i := range c.levels {
		c.levels[i].add(at, bad)
	}
}

func (r *ring) add(at int64, bad bool) {
	start := at - at%r.width
	b := &r.buckets[(start/r.width)%int64(len(r.buckets))]
	if b.start > start {
		return // older than all that this ring holds
	}
	if b.start < start {
		*b = bucket{start: start}
	}
	b.total++
	if bad {
		b.bad++
	}
}

// sum returns the requests of a window before a time, from the finest ring that
// reaches back so far; up to one bucket more than the window.
func (c *counter) sum(window time.Duration, now int64) (total, bad float64) {
	r := &c.levels[len(c.levels)-1]
	for i := range c.levels {
		if int64(window) <= c.levels[i].width*int64(len(c.levels[i].buckets)-2) {
			r = &c.levels[i]
			break
		}
	}
	for _, b := range r.buckets {
		if b.start > now-int64(window)-r.width && b.start <= now {
			total += float64(b.total)
			bad += float64(b.bad)
		}
	}
	return total, bad
}

// alert is a pair of windows with the burn rate that both must exceed.
type alert struct {
	long, short time.Duration
	burn        float64
	severity    Severity
}

// alerts are those that the SRE Workbook recommends for a window of 30 days: 2 % of
// the budget in an hour, 5 % in six hours, 10 % in three days. For other windows they
// stretch in proportion, so that the shares stay the same.
var alerts = []alert{
	{time.Hour, 5 * time.Minute, 14.4, SeverityPage},
	{6 * time.Hour, 30 * time.Minute, 6, SeverityPage},
	{3 * day, 6 * time.Hour, 1, SeverityTicket},
}

// minBad is how many bad requests a burn needs: one failure of ten requests is
// chance, not a burn of 100.
const minBad = 3

// status judges the counts against an objective.
func (c *counter) status(o *Objective, now int64) Status {
	s := Status{Objective: *o}
	s.Window = o.window()
	for i, a := range alerts {
		long, bad := c.burn(o, s.stretch(a.long), now)
		short, _ := c.burn(o, s.stretch(a.short), now)
		if i == 0 {
			s.Burn, s.BurnWindow = long, s.stretch(a.long)
		}
		if bad >= minBad && long >= a.burn && short >= a.burn {
			s.Severity, s.Burn, s.BurnWindow = a.severity, long, s.stretch(a.long)
			break
		}
	}
	s.Requests, s.Bad = c.sum(s.Window, now)
	s.Covered = min(time.Duration(max(now-c.oldest, 0)), s.Window)
	s.Left = s.left()
	return s
}

// stretch turns a time that belongs to 30 days into one that belongs to the window.
func (s *Status) stretch(d time.Duration) time.Duration {
	return max(time.Duration(float64(d)*float64(s.Window)/float64(DefaultWindow)), time.Minute)
}

// burn returns the burn rate of a window, and how many requests of it were bad.
func (c *counter) burn(o *Objective, window time.Duration, now int64) (rate, bad float64) {
	total, bad := c.sum(window, now)
	if total == 0 {
		return 0, 0
	}
	return bad / total / (1 - o.Target), bad
}

// left is the share of the budget that is left.
func (s *Status) left() float64 {
	if s.Requests == 0 {
		return 1
	}
	// The first minutes say little about a month: they count as an hour.
	window := s.Requests * float64(s.Window) / float64(min(max(s.Covered, time.Hour), s.Window))
	return 1 - s.Bad/(window*(1-s.Target))
}
