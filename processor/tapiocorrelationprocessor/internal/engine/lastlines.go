package engine

import "time"

// quoteFor is how long after its first revision an incident is looked after for what the one
// that ended said: a log comes another way than the news of the end, and in batches. Later
// revisions look themselves.
const quoteFor = int64(30 * time.Second)

// quote makes an incident say what came of the log of the one that ended.
func (e *Engine) quote(o *open, now int64) {
	if o.Emitted() && !o.Resolved() && now-o.since < quoteFor && o.Hypothesis.Quote(e.tails) {
		o.Dirty = true
	}
}
