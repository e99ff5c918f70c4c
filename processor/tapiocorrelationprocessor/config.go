package tapiocorrelationprocessor

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/section"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/gauge"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/slo"
)

// Config is the configuration of the processor.
type Config struct {
	// Window is how far apart a cause and its effects can be, and how far back
	// evidence is looked for.
	Window time.Duration `mapstructure:"window"`
	// MinScore is the least confidence, in [0,1], with which a finding is emitted.
	MinScore float64 `mapstructure:"min_score"`
	// Retention is how long entities and resolved incidents are remembered.
	Retention time.Duration `mapstructure:"retention"`
	// ResolveAfter is how long after its last effect an incident is resolved.
	ResolveAfter time.Duration `mapstructure:"resolve_after"`
	// EventTime makes the time of the newest item the engine's clock: for replays of
	// recorded telemetry, which must be delivered in the order in which it happened.
	EventTime bool `mapstructure:"event_time"`
	// Ring bounds the events that are held.
	Ring RingConfig `mapstructure:"ring"`
	// ConfidenceWeights say how the parts of the confidence count.
	ConfidenceWeights ConfidenceWeights `mapstructure:"confidence_weights"`
	// Impact says which attributes count users and value.
	Impact ImpactConfig `mapstructure:"impact"`
	// Waits are regular expressions of whole names of spans that wait on purpose: how long
	// they take is not judged.
	Waits []string `mapstructure:"waits"`
	// Objectives are what services promise: findings say how fast they are broken.
	Objectives []slo.Objective `mapstructure:"objectives"`
	// Patterns adds patterns to the library.
	Patterns PatternsConfig `mapstructure:"patterns"`
	// Metrics says what resource metrics mean.
	Metrics MetricsConfig `mapstructure:"metrics"`
	// Limits bound everything else that grows.
	Limits LimitsConfig `mapstructure:"limits"`
}

// RingConfig bounds the ring of events.
type RingConfig struct {
	// Capacity is how many events are held, rounded up to a power of two; each
	// takes 48 bytes.
	Capacity int `mapstructure:"capacity"`
}

// ConfidenceWeights are the weights of the three parts of the confidence. They
// need not add up to 1.
type ConfidenceWeights struct {
	// Completeness: the share of the expected evidence that was seen.
	Completeness float64 `mapstructure:"completeness"`
	// Reliability: how surely cause and effects belong together.
	Reliability float64 `mapstructure:"reliability"`
	// Timing: whether effects followed when they should.
	Timing float64 `mapstructure:"timing"`
}

// ImpactConfig names the attributes that say whom a failed request hurt.
type ImpactConfig struct {
	// UserAttributes are keys of span attributes that identify the user; the first
	// that a request carries counts.
	UserAttributes []string `mapstructure:"user_attributes"`
	// ValueAttribute is the key of a numeric span attribute that is summed over
	// failed requests, such as the amount of an order. Empty: value is unknown.
	ValueAttribute string `mapstructure:"value_attribute"`
}

// MetricsConfig says how resource metrics are read.
type MetricsConfig struct {
	// Horizon is how far ahead limits are predicted; 0 predicts nothing.
	Horizon time.Duration `mapstructure:"horizon"`
	// Rules give metrics a meaning that the built-in table does not know.
	Rules []gauge.Rule `mapstructure:"rules"`
}

// PatternsConfig says where patterns of one's own are.
type PatternsConfig struct {
	// Directory holds *.yaml files, one pattern each. One with the id of a pattern of
	// the library takes its place. Empty: the library alone.
	Directory string `mapstructure:"directory"`
	// Disabled are ids of patterns that are not looked for: their causes are not named.
	Disabled []string `mapstructure:"disabled"`
	// OnlyWithImpact are ids of patterns that make no finding before a request was hurt.
	OnlyWithImpact []string `mapstructure:"only_with_impact"`
	// OnCauseAlone are ids of patterns of which the cause makes a finding, whatever else
	// they want. It is no key of a configuration: a test of patterns asks by it what was wanting.
	OnCauseAlone []string `mapstructure:"-"`
}

// load returns the patterns that are looked for.
func (c *PatternsConfig) load() ([]*pattern.Pattern, error) {
	all, err := pattern.LoadAll(c.Directory)
	if err != nil {
		return nil, pattern.Within("patterns::directory", err)
	}
	known := map[string]bool{}
	var out []*pattern.Pattern
	for _, p := range all {
		known[p.ID] = true
		if slices.Contains(c.Disabled, p.ID) {
			continue
		}
		if slices.Contains(c.OnlyWithImpact, p.ID) {
			quiet := *p
			quiet.Alone, quiet.Lasts, quiet.LastsWhere, quiet.MinTraces = false, 0, nil, max(p.MinTraces, 1)
			p = &quiet
		}
		if slices.Contains(c.OnCauseAlone, p.ID) {
			p = p.OnCauseAlone()
		}
		out = append(out, p)
	}
	var errs []error
	for _, list := range []struct {
		key string
		ids []string
	}{{"disabled", c.Disabled}, {"only_with_impact", c.OnlyWithImpact}} {
		for i, id := range list.ids {
			if !known[id] {
				errs = append(errs, fmt.Errorf("patterns::%s[%d]: %q is not the id of a pattern: `tapio patterns list` lists them", list.key, i, id))
			}
		}
	}
	return out, errors.Join(errs...)
}

// LimitsConfig bounds what the engine holds. What is beyond a bound is forgotten,
// oldest first, and counted.
type LimitsConfig struct {
	// Entities: processes, containers, pods, services, hosts, addresses, operations.
	Entities int `mapstructure:"entities"`
	// Details: texts of failed spans and named events.
	Details int `mapstructure:"details"`
	// Requests: failed or slow requests in the window.
	Requests int `mapstructure:"requests"`
	// Incidents that are open at once.
	Incidents int `mapstructure:"incidents"`
	// Series: resources of which metrics are watched.
	Series int `mapstructure:"series"`
	// TracesPerSecond that are looked at in full, with all of their spans and log
	// records; above it traces are sampled for that.
	TracesPerSecond int `mapstructure:"traces_per_second"`
	// HurtTraces that one finding lists.
	HurtTraces int `mapstructure:"hurt_traces"`
	// CauseSpans: hurt traces of one finding that get a span naming the cause.
	CauseSpans int `mapstructure:"cause_spans"`
}

var _ component.Config = (*Config)(nil)

func createDefaultConfig() component.Config {
	return &Config{
		Window: 5 * time.Minute, MinScore: 0.7, Retention: 30 * time.Minute, ResolveAfter: 5 * time.Minute,
		Ring:              RingConfig{Capacity: 1 << 20},
		ConfidenceWeights: ConfidenceWeights{Completeness: 0.4, Reliability: 0.4, Timing: 0.2},
		Impact:            ImpactConfig{UserAttributes: []string{event.KeyUserID, event.KeyEndUserID}},
		Metrics:           MetricsConfig{Horizon: gauge.DefaultHorizon},
		Limits: LimitsConfig{
			Series: gauge.DefaultMaxSeries, TracesPerSecond: 20,
			Entities: 100_000, Details: 1 << 17, Requests: 50_000, Incidents: 1000, HurtTraces: 1000, CauseSpans: 20,
		},
	}
}

const (
	minRing = 1 << 10
	maxRing = 1 << 28 // 13 GB
	// maxRetention is 30 days: longer than any process or address should be remembered
	// after it was last seen.
	maxRetention = 720 * time.Hour
)

// Unmarshal implements confmap.Unmarshaler.
func (c *Config) Unmarshal(conf *confmap.Conf) error { return section.Unmarshal(conf, c) }

// Validate names every key whose value is not allowed, the value, and what is. Rules and
// objectives have a Validate of their own, which confmap.Validate calls too: use that.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("%s: %v is not allowed: want %s", key, value, allowed))
	}
	if c.Window < time.Second || c.Window > 24*time.Hour {
		bad("window", c.Window, "1s to 24h")
	}
	if !(c.MinScore >= 0 && c.MinScore <= 1) { // also refuses NaN
		bad("min_score", c.MinScore, "a number from 0 to 1")
	}
	if c.Retention < c.Window || c.Retention > maxRetention {
		bad("retention", c.Retention, fmt.Sprintf("the window (%v) to 720h", c.Window))
	}
	if c.ResolveAfter < time.Second || c.ResolveAfter > c.Retention {
		bad("resolve_after", c.ResolveAfter, fmt.Sprintf("1s to the retention (%v)", c.Retention))
	}
	if c.Ring.Capacity < minRing || c.Ring.Capacity > maxRing {
		bad("ring::capacity", c.Ring.Capacity, fmt.Sprintf("%d to %d events", minRing, maxRing))
	}
	errs = append(errs, c.ConfidenceWeights.validate()...)
	if _, err := c.Patterns.load(); err != nil {
		errs = append(errs, err)
	}
	if _, err := c.waits(); err != nil {
		errs = append(errs, err)
	}
	for i, key := range c.Impact.UserAttributes {
		if key == "" {
			bad(fmt.Sprintf("impact::user_attributes[%d]", i), `""`, "the key of a span attribute")
		}
	}
	if c.Metrics.Horizon < 0 || c.Metrics.Horizon > 24*time.Hour {
		bad("metrics::horizon", c.Metrics.Horizon, "0 to 24h")
	}
	if err := slo.Distinct(c.Objectives); err != nil {
		errs = append(errs, err)
	}
	for _, l := range c.Limits.bounds() {
		if l.value < l.min || l.value > l.max {
			bad("limits::"+l.key, l.value, fmt.Sprintf("%d to %d", l.min, l.max))
		}
	}
	return errors.Join(errs...)
}

// waits compiles the names of spans that wait.
func (c *Config) waits() ([]*regexp.Regexp, error) {
	out := make([]*regexp.Regexp, 0, len(c.Waits))
	for i, name := range c.Waits {
		r, err := regexp.Compile("^(?:" + name + ")$")
		if name == "" || err != nil {
			return nil, fmt.Errorf("waits[%d]: %q is not allowed: want a regular expression of names of spans (https://golang.org/s/re2syntax)", i, name)
		}
		out = append(out, r)
	}
	return out, nil
}

// bound is a value of LimitsConfig with what is allowed for it, both ends included.
type bound struct {
	key             string
	value, min, max int
}

// bounds returns every limit with its range. The upper ends are about a hundred
// times the defaults and keep a slip of the keyboard from taking all memory: the
// table of details alone is allocated at the start, 16 bytes for each, and what
// the others bound grows as telemetry arrives.
func (l LimitsConfig) bounds() []bound {
	return []bound{
		{"entities", l.Entities, 100, 10_000_000},
		{"details", l.Details, 100, 1 << 24},
		{"requests", l.Requests, 10, 10_000_000},
		{"incidents", l.Incidents, 1, 100_000},
		{"series", l.Series, 100, 10_000_000},
		{"traces_per_second", l.TracesPerSecond, 1, 10_000},
		{"hurt_traces", l.HurtTraces, 1, 100_000},
		{"cause_spans", l.CauseSpans, 0, 10_000},
	}
}

func (w ConfidenceWeights) validate() (errs []error) {
	for _, part := range []struct {
		key   string
		value float64
	}{{"completeness", w.Completeness}, {"reliability", w.Reliability}, {"timing", w.Timing}} {
		if !(part.value >= 0 && part.value <= 1) {
			errs = append(errs, fmt.Errorf("confidence_weights::%s: %v is not allowed: want a number from 0 to 1", part.key, part.value))
		}
	}
	if w == (ConfidenceWeights{}) {
		errs = append(errs, errors.New("confidence_weights: all are 0: want at least one above 0"))
	}
	return errs
}
