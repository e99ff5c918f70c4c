package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/internal/finding"
)

// MaxFindingBytes bounds the JSON of one finding. One with a chain of ten links
// and a hundred hurt traces has about 20 KiB.
const MaxFindingBytes = 1 << 20

// Save commits a revision. It replaces an older revision of the same finding and
// is ignored, without an error, when the store holds that revision or a newer
// one. A revision without Resume leaves that of an older one, unless it is over: one that
// waited in a queue on disk while the collector was down goes on with that. An error that
// wraps ErrRefused is final; after any other the same call may be repeated.
func (s *Store) Save(ctx context.Context, f *finding.Finding) error {
	row, err := newRow(f, s.now())
	if err != nil {
		s.counts.refused.Add(1)
		return err
	}
	saved, evicted, err := s.commit(ctx, row)
	switch {
	case err != nil:
		s.counts.failed.Add(1)
		return fmt.Errorf("saving finding %s: %w", f.ID, err)
	case !saved:
		s.counts.ignored.Add(1)
	default:
		s.counts.saved.Add(1)
		s.counts.byCount.Add(evicted)
		s.counts.notIndexed.Add(row.invalidTraces)
	}
	return nil
}

// row is a finding as the database keeps it.
type row struct {
	id, state, body    string
	resume             string // "": what is there stays, unless it is over
	over               bool
	revision           int
	startedAt, savedAt int64
	traces             []string
	invalidTraces      int64
}

func newRow(f *finding.Finding, now time.Time) (*row, error) {
	switch {
	case f.ID == finding.ID{}:
		return nil, fmt.Errorf("%w: it has no id", ErrRefused)
	case f.Revision < 1:
		return nil, fmt.Errorf("%w: finding %s has revision %d, want 1 or more", ErrRefused, f.ID, f.Revision)
	case f.State.Check() != nil:
		return nil, fmt.Errorf("%w: finding %s: %w", ErrRefused, f.ID, f.State.Check())
	}
	body, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("%w: finding %s: %w", ErrRefused, f.ID, err)
	}
	if len(body) > MaxFindingBytes {
		return nil, fmt.Errorf("%w: finding %s has %d bytes as JSON, at most %d are kept", ErrRefused, f.ID, len(body), MaxFindingBytes)
	}
	r := &row{
		id: f.ID.String(), state: string(f.State), body: string(body), resume: f.Resume, over: f.State.Over(), revision: f.Revision,
		startedAt: f.StartedAt.UnixNano(), savedAt: now.UnixNano(),
	}
	if r.over || len(r.resume) > MaxFindingBytes {
		r.resume = ""
	}
	r.indexTraces(f)
	return r, nil
}

// indexTraces lists the traces that lead to the finding: its own, and those that
// it hurt.
func (r *row) indexTraces(f *finding.Finding) {
	r.traces = append(r.traces, r.id)
	for _, t := range f.HurtTraces {
		id, err := ParseTraceID(t.TraceID)
		if err != nil {
			r.invalidTraces++
			continue
		}
		r.traces = append(r.traces, id)
	}
}

// ParseTraceID returns the trace id in the form of the index: 32 lower-case
// hexadecimal digits, not all zero.
func ParseTraceID(s string) (string, error) {
	id, err := finding.ParseID(strings.ToLower(s))
	if err != nil || pcommon.TraceID(id).IsEmpty() {
		return "", fmt.Errorf("%q is not a trace id: want 32 hexadecimal digits, not all zero", s)
	}
	return id.String(), nil
}

// commit writes the row, unless an equal or newer revision is there, and evicts
// what exceeds the bound, in one transaction.
func (s *Store) commit(ctx context.Context, r *row) (saved bool, evicted int64, err error) {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return false, 0, err
	}
	defer func() { _ = tx.Rollback() }()
	var held int
	err = tx.QueryRowContext(ctx, "SELECT revision FROM finding WHERE id = ?", r.id).Scan(&held)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, 0, err
	}
	if err == nil && held >= r.revision {
		return false, 0, nil
	}
	if err := r.put(ctx, tx); err != nil {
		return false, 0, err
	}
	if evicted, err = evict(ctx, tx, r.id, s.opts.MaxFindings); err != nil {
		return false, 0, err
	}
	return true, evicted, tx.Commit()
}

func (r *row) put(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO finding (id, revision, state, started_at, saved_at, body, resume) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, state = excluded.state,
			started_at = excluded.started_at, saved_at = excluded.saved_at, body = excluded.body,
			resume = CASE WHEN excluded.resume = '' AND NOT ? THEN resume ELSE excluded.resume END`,
		r.id, r.revision, r.state, r.startedAt, r.savedAt, r.body, r.resume, r.over)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM finding_trace WHERE finding_id = ?", r.id); err != nil {
		return err
	}
	for _, t := range r.traces {
		if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO finding_trace (trace_id, finding_id) VALUES (?, ?)", t, r.id); err != nil {
			return err
		}
	}
	return nil
}

// evict deletes the findings above limit that changed longest ago, never keep:
// a clock that was set back must not evict what was just saved.
func evict(ctx context.Context, tx *sql.Tx, keep string, limit int) (int64, error) {
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM finding").Scan(&n); err != nil || n <= limit {
		return 0, err
	}
	res, err := tx.ExecContext(ctx,
		"DELETE FROM finding WHERE id IN (SELECT id FROM finding WHERE id <> ? ORDER BY saved_at, id LIMIT ?)", keep, n-limit)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Expire deletes the findings that have not changed for the retention and
// returns how many they were.
func (s *Store) Expire(ctx context.Context) (int64, error) {
	res, err := s.write.ExecContext(ctx, "DELETE FROM finding WHERE saved_at < ?", s.now().Add(-s.opts.Retention).UnixNano())
	if err != nil {
		return 0, fmt.Errorf("deleting expired findings: %w", err)
	}
	n, err := res.RowsAffected()
	s.counts.byAge.Add(n)
	return n, err
}
