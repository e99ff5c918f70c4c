package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/findingsapi"
)

// maxPageBytes ends a page early, so that a page of large findings does not
// exhaust the memory. A page has at least one finding.
const maxPageBytes = 16 << 20

// Cursor is a place in the list of findings, between two of them.
type Cursor struct {
	rank      int64 // 0 in a list by time alone
	startedAt int64
	id        string
}

// first is before every finding.
var first = Cursor{rank: math.MaxInt64, startedAt: math.MaxInt64, id: "g"} // "g" sorts after every hexadecimal digit

// String returns the form that ParseCursor reads.
func (c Cursor) String() string {
	return fmt.Sprintf("%d-%d-%s", c.rank, c.startedAt, c.id)
}

// ParseCursor reads a cursor; the empty string is the start of the list.
func ParseCursor(s string) (Cursor, error) {
	if s == "" {
		return first, nil
	}
	var c Cursor
	rank, rest, _ := strings.Cut(s, "-")
	at, id, _ := strings.Cut(rest, "-")
	_, notID := finding.ParseID(id)
	var notRank, notTime error
	c.rank, notRank = strconv.ParseInt(rank, 10, 64)
	c.startedAt, notTime = strconv.ParseInt(at, 10, 64)
	c.id = id
	if errors.Join(notRank, notTime, notID) != nil || c.rank < 0 || c.startedAt < 0 {
		return Cursor{}, fmt.Errorf("%q is not the `next` of a page", s)
	}
	return c, nil
}

// byImpact is the rank of a finding in a list by impact: what goes on comes before what is mended and that before what is over, and of
// each what hurt requests before what hurt none.
const byImpact = `(state IN ('open', 'predicted')) * 4 + (state = 'mended') * 2 + (state <> 'withdrawn' AND
		coalesce(body ->> '$.impact.failed_requests', 0) + coalesce(body ->> '$.impact.slow_requests', 0) +
		coalesce(json_array_length(body, '$.hurt_traces'), 0) > 0)`

// List returns up to limit findings as JSON in an order, newest start first within it,
// that come after the cursor, and the cursor of the following page (empty when there is
// none). An empty state selects all.
func (s *Store) List(ctx context.Context, state finding.State, order findingsapi.Order, after Cursor, limit int) (page []json.RawMessage, next string, err error) {
	query, by := "SELECT 0, started_at, id, body FROM finding WHERE (started_at, id) < (?, ?)", ""
	args := []any{after.startedAt, after.id}
	if order == findingsapi.OrderImpact {
		query, by = "SELECT "+byImpact+", started_at, id, body FROM finding WHERE ("+byImpact+", started_at, id) < (?, ?, ?)", byImpact+" DESC, "
		args = slices.Insert(args, 0, any(after.rank))
	}
	if state != "" {
		query += " AND state = ?"
		args = append(args, string(state))
	}
	// One more than asked for tells whether there is a following page.
	return s.page(ctx, limit, query+" ORDER BY "+by+"started_at DESC, id DESC LIMIT ?", append(args, limit+1)...)
}

// ByTrace returns up to limit findings as JSON, newest start first, that hurt
// the trace or that have it as their own trace. traceID is in the form of
// ParseTraceID.
func (s *Store) ByTrace(ctx context.Context, traceID string, limit int) ([]json.RawMessage, error) {
	page, _, err := s.page(ctx, limit, `SELECT 0, started_at, id, body FROM finding
		WHERE id IN (SELECT finding_id FROM finding_trace WHERE trace_id = ?)
		ORDER BY started_at DESC, id DESC LIMIT ?`, traceID, limit)
	return page, err
}

func (s *Store) page(ctx context.Context, limit int, query string, args ...any) (page []json.RawMessage, next string, err error) {
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var last Cursor
	size := 0
	for rows.Next() {
		if len(page) == limit || size >= maxPageBytes {
			return page, last.String(), nil
		}
		var body []byte
		if err := rows.Scan(&last.rank, &last.startedAt, &last.id, &body); err != nil {
			return nil, "", err
		}
		page = append(page, body)
		size += len(body)
	}
	return page, "", rows.Err()
}

// Get returns the one finding whose id begins with prefix (finding.ParseIDPrefix) as JSON,
// ErrNotFound, or an *AmbiguousError.
func (s *Store) Get(ctx context.Context, prefix string) (body json.RawMessage, err error) {
	// "g" sorts after every hexadecimal digit.
	rows, err := s.read.QueryContext(ctx, "SELECT id, body FROM finding WHERE id >= ? AND id < ? ORDER BY id LIMIT ?", prefix, prefix+"g", maxAmbiguous+1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var ids []string
	for rows.Next() {
		var id string
		var b []byte
		if err := rows.Scan(&id, &b); err != nil {
			return nil, err
		}
		ids, body = append(ids, id), b
	}
	switch {
	case rows.Err() != nil:
		return nil, rows.Err()
	case len(ids) == 0:
		return nil, ErrNotFound
	case len(ids) > 1:
		return nil, &AmbiguousError{Prefix: prefix, IDs: ids}
	}
	return body, nil
}

// Unfinished returns up to limit findings that are not over and can be resumed, newest start
// first, each with its Resume. One that this version cannot read is left out: it stays as
// it is.
func (s *Store) Unfinished(ctx context.Context, limit int) (open []*finding.Finding, err error) {
	rows, err := s.read.QueryContext(ctx, `SELECT body, resume FROM finding
		WHERE state IN ('open', 'mended', 'predicted') AND resume <> '' ORDER BY started_at DESC, id DESC LIMIT ?`, limit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var body []byte
		f := &finding.Finding{}
		if err := rows.Scan(&body, &f.Resume); err != nil {
			return nil, err
		}
		if json.Unmarshal(body, f) == nil {
			open = append(open, f)
		}
	}
	return open, rows.Err()
}
