package patterns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/replay"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

// The two scenarios of a pattern.
const (
	Fires  = "fires"
	Nearly = "nearly"
)

// Event is one log record of a scenario.
type Event struct {
	// At is its time after the beginning.
	At time.Duration `yaml:"at"`
	// Event is its EventName, "" for a plain log record.
	Event string `yaml:"event"`
	// Severity is its severity number, 0 for none.
	Severity int `yaml:"severity"`
	// Body is its text.
	Body string `yaml:"body"`
	// Resource and Attributes are those of the record.
	Resource   map[string]any `yaml:"resource"`
	Attributes map[string]any `yaml:"attributes"`
}

// Scenario is a file of events.
type Scenario struct {
	// About says what it plays.
	About    string     `yaml:"about"`
	Events   []Event    `yaml:"events"`
	Metrics  []Metric   `yaml:"metrics"`
	Requests []Requests `yaml:"requests"`
	// Entity is whom the finding must name; Entity and Kind are for fires.yaml.
	Entity string `yaml:"entity"`
	Kind   string `yaml:"kind"`
	// Instead is the pattern whose finding is right in nearly.yaml, "" for none at all.
	Instead string `yaml:"instead"`
}

// epoch is when scenarios begin.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// scenarioEvents is how many events a scenario can hold in the processor at once.
const scenarioEvents = 1 << 14

// maxScenario bounds the length of a scenario.
const maxScenario = 24 * time.Hour

// ReadScenario reads a file; the error says which key is wrong.
func ReadScenario(b []byte) (*Scenario, error) {
	s := &Scenario{}
	if err := pattern.Decode(b, s); err != nil {
		return nil, err
	}
	if len(s.Events)+len(s.Metrics)+len(s.Requests) == 0 {
		return nil, errors.New("events, metrics, requests: want at least one")
	}
	for i := range s.Metrics {
		if err := s.Metrics[i].validate(); err != nil {
			return nil, fmt.Errorf("metrics[%d]: %w", i, err)
		}
	}
	for i := range s.Requests {
		if err := s.Requests[i].validate(); err != nil {
			return nil, fmt.Errorf("requests[%d]: %w", i, err)
		}
	}
	for i, e := range s.Events {
		switch {
		case e.At < 0 || e.At > maxScenario:
			return nil, fmt.Errorf("events[%d].at: %v: want 0s to %v", i, e.At, maxScenario)
		case e.Event == "" && e.Body == "":
			return nil, fmt.Errorf("events[%d]: want event, body or both", i)
		case e.Severity < 0 || e.Severity > 24:
			return nil, fmt.Errorf("events[%d].severity: %d: want 0 to 24", i, e.Severity)
		}
	}
	return s, nil
}

// logs writes an event as OTLP.
func (e *Event) logs() (plog.Logs, error) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	r.SetEventName(e.Event)
	r.SetTimestamp(pcommon.NewTimestampFromTime(epoch.Add(e.At)))
	r.SetSeverityNumber(plog.SeverityNumber(e.Severity))
	r.Body().SetStr(e.Body)
	return ld, errors.Join(rl.Resource().Attributes().FromRaw(e.Resource), r.Attributes().FromRaw(e.Attributes))
}

// Play takes a scenario through the processor and returns the findings that stand at
// its end.
func Play(ctx context.Context, s *Scenario, cfg *tapiocorrelationprocessor.Config) ([]*finding.Finding, error) {
	cfg.Ring.Capacity, cfg.Limits.Details = scenarioEvents, scenarioEvents
	engine, err := replay.Start(ctx, cfg, zap.NewNop())
	if err != nil {
		return nil, err
	}
	buffer := replay.NewBuffer(engine, math.MaxInt)
	for i := range s.Events {
		ld, err := s.Events[i].logs()
		if err == nil {
			_, err = buffer.Logs(ld)
		}
		if err != nil {
			return nil, fmt.Errorf("events[%d]: %w", i, err)
		}
	}
	if err := s.series(buffer); err != nil {
		return nil, err
	}
	err = buffer.Flush(ctx)
	found, _, finished := engine.Finish(ctx)
	found = slices.DeleteFunc(found, func(f *finding.Finding) bool { return f.State == finding.StateWithdrawn })
	return found, errors.Join(err, finished)
}

// check tells what is wrong with the findings of a scenario of a pattern, nil for
// nothing.
func (s *Scenario) check(id, which string, found []*finding.Finding) error {
	var of *finding.Finding
	var names []string
	for _, f := range found {
		names = append(names, fmt.Sprintf("%s of %s %s (%.2f)", f.Pattern, f.RootCause.Entity.Kind, f.RootCause.Entity.Name, f.Confidence.Score))
		if f.Pattern == id {
			of = f
		}
	}
	got := "no finding"
	if len(names) > 0 {
		got = strings.Join(names, ", ")
	}
	if which == Nearly {
		instead := s.Instead != "" && !slices.ContainsFunc(found, func(f *finding.Finding) bool { return f.Pattern == s.Instead })
		if of != nil || instead || (s.Instead == "" && len(found) > 0) {
			return fmt.Errorf("want %s, got %s", wanted(s.Instead), got)
		}
		return nil
	}
	switch {
	case of == nil:
		return fmt.Errorf("want a finding of %s, got %s", id, got)
	case len(found) > 1:
		return fmt.Errorf("want one finding, got %s", got)
	case s.Entity != "" && of.RootCause.Entity.Name != s.Entity:
		return fmt.Errorf("want it to name %s, got %s", s.Entity, got)
	case s.Kind != "" && of.RootCause.Entity.Kind != s.Kind:
		return fmt.Errorf("want it to name a %s, got %s", s.Kind, got)
	}
	return nil
}

func wanted(instead string) string {
	if instead == "" {
		return "no finding"
	}
	return "a finding of " + instead + " instead"
}

// Result is what became of one scenario.
type Result struct {
	Pattern, Scenario string
	// Err is nil when it did what it should.
	Err error
}

// Test plays the scenarios of the patterns with these ids: testdata/ID/fires.yaml and
// nearly.yaml in files. One that is missing is an error of its own.
func Test(ctx context.Context, files fs.FS, ids []string, config func() (*tapiocorrelationprocessor.Config, error)) []Result {
	var out []Result
	for _, id := range ids {
		for _, which := range []string{Fires, Nearly} {
			out = append(out, Result{id, which, test(ctx, files, id, which, config)})
		}
	}
	return out
}

func test(ctx context.Context, files fs.FS, id, which string, config func() (*tapiocorrelationprocessor.Config, error)) error {
	name := path.Join("testdata", id, which+".yaml")
	b, err := fs.ReadFile(files, name)
	if missing := (*fs.PathError)(nil); errors.As(err, &missing) {
		return fmt.Errorf("%s: %w", name, missing.Err)
	}
	s, err := ReadScenario(b)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	cfg, err := config()
	if err != nil {
		return err
	}
	found, err := Play(ctx, s, cfg)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	wrong := s.check(id, which, found)
	if wrong == nil {
		return nil
	}
	wanted := id
	if which == Nearly {
		wanted = s.Instead
	}
	if wanted == "" || slices.ContainsFunc(found, func(f *finding.Finding) bool { return f.Pattern == wanted }) {
		return fmt.Errorf("%s: %w", name, wrong)
	}
	reason, err := whyNot(ctx, s, wanted, config)
	if err != nil {
		return fmt.Errorf("%s: %w", name, errors.Join(wrong, err))
	}
	return fmt.Errorf("%s: %w: %s", name, wrong, reason)
}
