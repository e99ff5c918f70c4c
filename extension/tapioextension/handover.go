package tapioextension

import (
	"sync"

	"github.com/yairfalse/tapio/internal/finding"
)

// handedOver is what HandOver was told of revisions that SaveFinding has not seen yet: of
// each finding the newest, of at most MaxOpenFindings findings.
type handedOver struct {
	mu      sync.Mutex
	byID    map[finding.ID]resumable
	next    uint64
	dropped int64
}

type resumable struct {
	revision int
	resume   string
	order    uint64
}

func (h *handedOver) put(f *finding.Finding) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.Resume == "" {
		delete(h.byID, f.ID)
		return
	}
	if h.byID == nil {
		h.byID = map[finding.ID]resumable{}
	}
	h.next++
	h.byID[f.ID] = resumable{revision: f.Revision, resume: f.Resume, order: h.next}
	if len(h.byID) > MaxOpenFindings {
		h.dropOldest()
	}
}

func (h *handedOver) dropOldest() {
	var oldest finding.ID
	least := h.next
	for id, r := range h.byID {
		if r.order <= least {
			oldest, least = id, r.order
		}
	}
	delete(h.byID, oldest)
	h.dropped++
}

// of returns what was handed over for a revision or, when that is what is there, a newer
// one; "" for none.
func (h *handedOver) of(id finding.ID, revision int) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.byID[id]; r.revision >= revision {
		return r.resume
	}
	return ""
}

// saved forgets what the store has now.
func (h *handedOver) saved(id finding.ID, revision int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r, ok := h.byID[id]; ok && r.revision <= revision {
		delete(h.byID, id)
	}
}

// lost is how many were dropped before their revision came.
func (h *handedOver) lost() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dropped
}
