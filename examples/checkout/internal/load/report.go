package load

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/yairfalse/tapio/examples/checkout/internal/shop"
)

// MaxTraceIDs bounds how many failed orders a report lists; it counts them all.
const MaxTraceIDs = 10_000

// Report is what the load generator knows of its orders: the truth that a
// finding can be compared with.
type Report struct {
	StartedAt time.Time `json:"started_at"`
	// UpdatedAt is when this report was written.
	UpdatedAt time.Time `json:"updated_at"`
	// Complete is true in the last report of a run: no order is on its way.
	Complete bool `json:"complete"`

	// Sent = OK + Failed + those on their way.
	Sent   int64 `json:"sent"`
	OK     int64 `json:"ok"`
	Failed int64 `json:"failed"`
	// NotSent orders were due while too many others were on their way.
	NotSent int64 `json:"not_sent"`

	// FailedUsers are the distinct users of failed orders, sorted.
	FailedUsers []string `json:"failed_users"`
	// FailedAmount is the sum over the failed orders.
	FailedAmount shop.Cents `json:"failed_amount"`
	// FailedTraceIDs are the traces of the first MaxTraceIDs failed orders, in
	// the order in which they failed.
	FailedTraceIDs []string `json:"failed_trace_ids"`
	// FirstFailure is when the first order failed, nil while none has.
	FirstFailure *time.Time `json:"first_failure,omitempty"`
}

// ReadReport reads the report that a load generator wrote to the file.
func ReadReport(path string) (Report, error) {
	var r Report
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("report %s: %w", path, err)
	}
	return r, nil
}

// Write replaces the file as a whole, so that who reads it meanwhile sees the
// report before or this one.
func (r Report) Write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(b, '\n'))
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
		return fmt.Errorf("report %s: %w", path, err)
	}
	return nil
}

// tally counts orders. It is safe for concurrent use.
type tally struct {
	mu     sync.Mutex
	report Report
	users  map[string]bool
}

func newTally(start time.Time) *tally {
	return &tally{report: Report{StartedAt: start}, users: map[string]bool{}}
}

func (t *tally) sent() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Sent++
}

func (t *tally) notSent() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.NotSent++
}

func (t *tally) ok() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.OK++
}

// failed counts an order whose answer, at that time, was no 200.
func (t *tally) failed(o shop.Order, traceID string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Failed++
	t.report.FailedAmount += o.Amount
	t.users[o.UserID] = true
	if len(t.report.FailedTraceIDs) < MaxTraceIDs {
		t.report.FailedTraceIDs = append(t.report.FailedTraceIDs, traceID)
	}
	if t.report.FirstFailure == nil {
		t.report.FirstFailure = &at
	}
}

// snapshot returns the report as of now.
func (t *tally) snapshot(now time.Time, complete bool) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.report
	r.UpdatedAt, r.Complete = now, complete
	r.FailedTraceIDs = append([]string{}, r.FailedTraceIDs...)
	r.FailedUsers = make([]string, 0, len(t.users))
	for u := range t.users {
		r.FailedUsers = append(r.FailedUsers, u)
	}
	slices.Sort(r.FailedUsers)
	return r
}
