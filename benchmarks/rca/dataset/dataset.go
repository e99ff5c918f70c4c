package dataset

import (
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/finding"
)

// Set is a directory of recordings.
type Set struct {
	// Name says which data set it is, for people.
	Name string
	// Cases are recordings of failures, in the order of their ids.
	Cases []*Case
	// Baselines are recordings of fault-free time.
	Baselines []*Recording
}

// Recording is the telemetry of some minutes.
type Recording struct {
	// ID is the name of its folder.
	ID string
	// Start is when what is judged begins: telemetry from before is its past, and a
	// finding that was over by then does not count. End is the last telemetry.
	Start, End time.Time
	// Signals is how many signals it has: spans, logs, metrics. An engine is warmed
	// last with the recordings that have most.
	Signals int
	// Services are the service.name values in it. An engine is warmed only with
	// recordings of the same services.
	Services []string
	// Load returns the telemetry with all times moved by shift, in any order. The
	// caller may change what it gets: each call makes it anew. It is called from
	// several goroutines.
	Load func(shift time.Duration) (Telemetry, error)
}

// Telemetry is OTLP of all three signals.
type Telemetry struct {
	Traces  []ptrace.Traces
	Logs    []plog.Logs
	Metrics []pmetric.Metrics
}

// Case is a recording of a failure.
type Case struct {
	Recording
	// Onset is when the failure was caused, zero when that is not known.
	Onset time.Time
	// Service is the service.name in whose telemetry the failure shows first, "" when
	// that is not known.
	Service string
	// Group is the kind of failure, by which results are summed up.
	Group string
	// Truth is nil when there is no label.
	Truth Truth
}

// Truth is what a label says of a case.
type Truth interface {
	// String is the right answer, for people.
	String() string
	// Judge compares findings, the best first, with the label. There is at least one.
	Judge(findings []*finding.Finding) Verdict
	// Right tells whether the root cause of a finding is the right one: what its
	// confidence is the probability of.
	Right(f *finding.Finding) bool
}

// Verdict is how right an answer is.
type Verdict struct {
	// Rank is the place of the right object among those that the findings name, from
	// 1; 0 when they do not name it.
	Rank int `json:"rank"`
	// Exact says that all that the label says is right, not the object alone. For a
	// label that names an object only it is the same as Rank 1.
	Exact bool `json:"exact"`
}

// Ranking lists what findings name, the best first and nothing twice: the root
// causes of all in order, then the rejected hypotheses of each. name gives an
// entity in the words of the labels, "" for what they have no word for.
func Ranking(findings []*finding.Finding, name func(*finding.Entity) string) []string {
	var out []string
	seen := map[string]bool{"": true}
	add := func(e *finding.Entity) {
		if n := name(e); !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	for _, f := range findings {
		add(&f.RootCause.Entity)
	}
	for _, f := range findings {
		for i := range f.Rejected {
			add(&f.Rejected[i].Entity)
		}
	}
	return out
}
