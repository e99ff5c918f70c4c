package store

import (
	"sync/atomic"

	"github.com/yairfalse/tapio/internal/findingsapi"
)

// counts are the totals since Open, written by Save and Expire.
type counts struct {
	saved, ignored, refused, failed, byAge, byCount, notIndexed atomic.Int64
}

// Counts returns the totals since Open.
func (s *Store) Counts() findingsapi.StoreCounts {
	c := &s.counts
	return findingsapi.StoreCounts{
		Saved: c.saved.Load(), Ignored: c.ignored.Load(), Refused: c.refused.Load(), Failed: c.failed.Load(),
		EvictedByAge: c.byAge.Load(), EvictedByCount: c.byCount.Load(), TracesNotIndexed: c.notIndexed.Load(),
	}
}
