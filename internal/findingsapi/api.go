// Package findingsapi is the HTTP API of the tapio extension as both of its
// ends see it: the paths, the JSON types, and a client.
package findingsapi

import (
	"fmt"
	"time"

	"github.com/yairfalse/tapio/internal/finding"
)

// DefaultAddress is where the extension listens when nothing else is configured.
const DefaultAddress = "127.0.0.1:8467"

// Paths of the API. A path parameter is written as http.ServeMux does.
const (
	// PathFindings lists findings, newest first unless another Order is asked for.
	PathFindings = "/api/v1/findings"
	// PathFinding is one finding by its id.
	PathFinding = "/api/v1/findings/{id}"
	// PathTraceFindings lists the findings that explain a trace: those that it
	// was hurt by, and the one whose own trace it is.
	PathTraceFindings = "/api/v1/traces/{trace_id}/findings"
	// PathStatus says what the store holds and what it dropped.
	PathStatus = "/api/v1/status"
	// PathHealth answers 200 while the store can be read.
	PathHealth = "/healthz"
)

// Query parameters of PathFindings.
const (
	ParamState  = "state"
	ParamLimit  = "limit"
	ParamBefore = "before"
	ParamOrder  = "order"
)

// Order is a value of ParamOrder.
type Order string

// The orders, each with the newest start first in what it does not tell apart.
const (
	// OrderNewest is by start alone, and the default.
	OrderNewest Order = "newest"
	// OrderImpact puts what goes on before what is over, and of each what hurt requests
	// before what hurt none.
	OrderImpact Order = "impact"
)

// Check returns an error that says what is allowed for anything but an order.
func (o Order) Check() error {
	if o != OrderNewest && o != OrderImpact {
		return fmt.Errorf("order: %q, want %s or %s", string(o), OrderNewest, OrderImpact)
	}
	return nil
}

// Bounds of ParamLimit.
const (
	DefaultLimit = 50
	MaxLimit     = 200
)

// Page is a list of findings.
type Page struct {
	Findings []*finding.Finding `json:"findings"`
	// Next is the value of ParamBefore that gives the following page; empty on
	// the last one.
	Next string `json:"next,omitempty"`
}

// Error is the body of every answer that is no success.
type Error struct {
	// Error is a sentence for people.
	Error string `json:"error"`
}

// Health is the body of a successful answer of PathHealth.
type Health struct {
	Status string `json:"status"`
}

// Status describes the store.
type Status struct {
	// Version is that of the collector.
	Version string      `json:"version"`
	Store   StoreStatus `json:"store"`
}

// StoreStatus says what the store holds, its bounds, and what it did since the
// collector started.
type StoreStatus struct {
	// Path is the database file, SizeBytes its size with its write-ahead log.
	Path          string `json:"path"`
	SizeBytes     int64  `json:"size_bytes"`
	SchemaVersion int    `json:"schema_version"`
	// Open counts the findings held that are open or predicted, Resolved those that
	// are over.
	Open     int64 `json:"open"`
	Resolved int64 `json:"resolved"`
	// States counts the findings held by their state, of which every one is there.
	States map[finding.State]int64 `json:"states"`
	// OldestChange is when the finding that would be evicted next was saved last;
	// nil when the store is empty.
	OldestChange *time.Time `json:"oldest_change,omitempty"`
	// Retention and MaxFindings are the configured bounds.
	Retention   string `json:"retention"`
	MaxFindings int    `json:"max_findings"`

	SinceStart StoreCounts `json:"since_start"`
}

// StoreCounts are totals since the collector started.
type StoreCounts struct {
	// Saved revisions are committed to the database.
	Saved int64 `json:"revisions_saved"`
	// Ignored revisions were not newer than the one held.
	Ignored int64 `json:"revisions_ignored"`
	// Refused revisions were invalid or too large.
	Refused int64 `json:"revisions_refused"`
	// Failed attempts to save hit an error of the database; the exporter retries.
	Failed int64 `json:"saves_failed"`
	// EvictedByAge and EvictedByCount are findings deleted for the store's bounds.
	EvictedByAge   int64 `json:"findings_evicted_by_age"`
	EvictedByCount int64 `json:"findings_evicted_by_count"`
	// TracesNotIndexed are hurt traces whose id is no trace id.
	TracesNotIndexed int64 `json:"traces_not_indexed"`
}
