package journal

import "time"

// fakeClock stands still until it is advanced.
type fakeClock struct{ t time.Duration }

func (c *fakeClock) now() time.Time          { return time.Unix(1_790_000_000, 0).Add(c.t) }
func (c *fakeClock) advance(d time.Duration) { c.t += d }
