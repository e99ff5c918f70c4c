package tapiocorrelationprocessor

import (
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/gauge"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/slo"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/metadata"
)

// load reads one configuration of testdata/config.yaml.
func load(t *testing.T, name string) (*Config, error) {
	t.Helper()
	cm, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	sub, err := cm.Sub(component.NewIDWithName(metadata.Type, name).String())
	require.NoError(t, err)
	cfg := createDefaultConfig().(*Config)
	return cfg, sub.Unmarshal(cfg)
}

func TestConfigDefault(t *testing.T) {
	cfg, err := load(t, "")
	require.NoError(t, err)
	require.NoError(t, cfg.Validate())
	assert.Equal(t, createDefaultConfig(), cfg)
	assert.Equal(t, 5*time.Minute, cfg.Window)
	assert.InDelta(t, 0.7, cfg.MinScore, 0)
	assert.Equal(t, 30*time.Minute, cfg.Retention)
}

func TestConfigAll(t *testing.T) {
	cfg, err := load(t, "all")
	require.NoError(t, err)
	require.NoError(t, cfg.Validate())
	assert.Equal(t, &Config{
		Window: 2 * time.Minute, MinScore: 0.8, Retention: time.Hour, ResolveAfter: 90 * time.Second, EventTime: true,
		Ring:              RingConfig{Capacity: 65536},
		ConfidenceWeights: ConfidenceWeights{Completeness: 0.5, Reliability: 0.3, Timing: 0.1},
		Impact:            ImpactConfig{UserAttributes: []string{"customer.id"}, ValueAttribute: "order.amount"},
		Objectives:        []slo.Objective{{Service: "storefront", Target: 0.999, Latency: 300 * time.Millisecond}},
		Metrics: MetricsConfig{
			Horizon: 10 * time.Minute, Rules: []gauge.Rule{{Metric: "app.pool.used", Class: gauge.ClassConnections, Role: gauge.RoleUse}},
		},
		Limits: LimitsConfig{Series: 4000, TracesPerSecond: 7, Entities: 2000, Details: 3000, Requests: 4000, Incidents: 50, HurtTraces: 60},
	}, cfg)
}

func TestConfigNamesEveryWrongKey(t *testing.T) {
	cfg, err := load(t, "wrong")
	require.NoError(t, err)
	err = confmap.Validate(cfg) // as the collector does
	require.Error(t, err)
	for _, want := range []string{
		"window: 500ms is not allowed: want 1s to 24h",
		"min_score: 1.5 is not allowed: want a number from 0 to 1",
		"retention: 0s is not allowed: want the window (500ms) to 720h",
		"resolve_after: 0s is not allowed: want 1s to the retention (0s)",
		"ring::capacity: 12 is not allowed: want 1024 to 268435456 events",
		"confidence_weights::completeness: -1 is not allowed: want a number from 0 to 1",
		"confidence_weights::reliability: 2 is not allowed: want a number from 0 to 1",
		"confidence_weights::timing: NaN is not allowed: want a number from 0 to 1",
		`impact::user_attributes[1]: "" is not allowed: want the key of a span attribute`,
		"metrics::horizon: -1s is not allowed: want 0 to 24h",
		"metrics::rules::0: ",
		"objectives::0: ",
		"limits::series: 9 is not allowed: want 100 to 10000000",
		"limits::traces_per_second: 0 is not allowed: want 1 to 10000",
		"limits::entities: 1 is not allowed: want 100 to 10000000",
		"limits::details: 2 is not allowed: want 100 to 16777216",
		"limits::requests: 3 is not allowed: want 10 to 10000000",
		"limits::incidents: 0 is not allowed: want 1 to 100000",
		"limits::hurt_traces: -1 is not allowed: want 1 to 100000",
		"limits::cause_spans: -2 is not allowed: want 0 to 10000",
	} {
		assert.ErrorContains(t, err, want)
	}
	assert.Equal(t, 18, strings.Count(err.Error(), "is not allowed"), "each once")
	assert.Equal(t, 1, strings.Count(err.Error(), "target: "), "once")
}

func TestConfigWeightless(t *testing.T) {
	cfg, err := load(t, "weightless")
	require.NoError(t, err)
	assert.ErrorContains(t, cfg.Validate(), "confidence_weights: all are 0: want at least one above 0")
	cfg.ConfidenceWeights = ConfidenceWeights{Timing: -1}
	assert.EqualError(t, cfg.Validate(), "confidence_weights::timing: -1 is not allowed: want a number from 0 to 1")
}

func TestConfigUnknownKey(t *testing.T) {
	_, err := load(t, "unknown")
	assert.ErrorContains(t, err, "windov")
}

// Values at the edges, which the file does not hold.
func TestConfigEdges(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		wrong  string // the key, "" when it is allowed
	}{
		"shortest window":      {func(c *Config) { c.Window = time.Second }, ""},
		"longest window":       {func(c *Config) { c.Window, c.Retention = 24*time.Hour, 24*time.Hour }, ""},
		"too long a window":    {func(c *Config) { c.Window, c.Retention = 25*time.Hour, 25*time.Hour }, "window"},
		"every finding":        {func(c *Config) { c.MinScore = 0 }, ""},
		"only certain ones":    {func(c *Config) { c.MinScore = 1 }, ""},
		"negative score":       {func(c *Config) { c.MinScore = -0.1 }, "min_score"},
		"no number":            {func(c *Config) { c.MinScore = math.NaN() }, "min_score"},
		"longest retention":    {func(c *Config) { c.Retention, c.ResolveAfter = maxRetention, maxRetention }, ""},
		"too long a retention": {func(c *Config) { c.Retention = maxRetention + 1 }, "retention"},
		"resolve too late":     {func(c *Config) { c.ResolveAfter = c.Retention + 1 }, "resolve_after"},
		"largest ring":         {func(c *Config) { c.Ring.Capacity = maxRing }, ""},
		"too large a ring":     {func(c *Config) { c.Ring.Capacity = maxRing + 1 }, "ring::capacity"},
		"one weight is enough": {func(c *Config) { c.ConfidenceWeights = ConfidenceWeights{Timing: 1} }, ""},
		"infinite weight":      {func(c *Config) { c.ConfidenceWeights.Timing = math.Inf(1) }, "confidence_weights::timing"},
		"a wait":               {func(c *Config) { c.Waits = []string{"GET /poll/.*"} }, ""},
		"a wait without end":   {func(c *Config) { c.Waits = []string{"GET", "GET (/"} }, "waits[1]"},
		"a wait without name":  {func(c *Config) { c.Waits = []string{""} }, "waits[0]"},
		"no user attributes":   {func(c *Config) { c.Impact.UserAttributes = nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := createDefaultConfig().(*Config)
			tc.change(cfg)
			err := cfg.Validate()
			if tc.wrong == "" {
				assert.NoError(t, err)
				return
			}
			require.Error(t, err)
			assert.True(t, strings.HasPrefix(err.Error(), tc.wrong+": "), err)
			assert.NotContains(t, err.Error(), "\n", "only this one")
		})
	}
}

// Both ends of every limit are allowed, and what is beyond them is refused by name:
// memory for some limits is taken at once.
func TestConfigLimits(t *testing.T) {
	for name, tc := range map[string]struct {
		field    func(*Config) *int
		min, max int
	}{
		"entities":    {func(c *Config) *int { return &c.Limits.Entities }, 100, 10_000_000},
		"details":     {func(c *Config) *int { return &c.Limits.Details }, 100, 16_777_216},
		"requests":    {func(c *Config) *int { return &c.Limits.Requests }, 10, 10_000_000},
		"incidents":   {func(c *Config) *int { return &c.Limits.Incidents }, 1, 100_000},
		"hurt_traces": {func(c *Config) *int { return &c.Limits.HurtTraces }, 1, 100_000},
		"cause_spans": {func(c *Config) *int { return &c.Limits.CauseSpans }, 0, 10_000},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := createDefaultConfig().(*Config)
			for _, allowed := range []int{tc.min, tc.max} {
				*tc.field(cfg) = allowed
				assert.NoError(t, cfg.Validate())
			}
			for _, wrong := range []int{tc.min - 1, tc.max + 1, 100_000_000_000_000, math.MinInt} {
				*tc.field(cfg) = wrong
				assert.EqualError(t, cfg.Validate(), fmt.Sprintf("limits::%s: %d is not allowed: want %d to %d", name, wrong, tc.min, tc.max))
			}
		})
	}
	assert.Equal(t, reflect.TypeFor[LimitsConfig]().NumField(), len(LimitsConfig{}.bounds()), "every limit has a range")
}

// TestKeysAndUnits: a slip of the keyboard is explained.
func TestKeysAndUnits(t *testing.T) {
	for want, section := range map[string]map[string]any{
		"windov: there is no such key; do you mean window?":                                {"windov": "5m"},
		"window: 5 is not allowed: want a number with its unit":                            {"window": 5},
		`window: "five" is not allowed: want a number with its unit`:                       {"window": "five"},
		"objectives[0]::targett: there is no such key; do you mean objectives[0]::target?": {"objectives": []any{map[string]any{"targett": 0.9}}},
		"limits::detail: there is no such key; do you mean limits::details?":               {"limits": map[string]any{"detail": 5}},
	} {
		assert.ErrorContains(t, confmap.NewFromStringMap(section).Unmarshal(createDefaultConfig()), want)
	}
}

// TestMutedPatterns: by id, from the library and of one's own.
func TestMutedPatterns(t *testing.T) {
	all, err := (&PatternsConfig{}).load()
	require.NoError(t, err)
	c := PatternsConfig{Disabled: []string{"process-killed"}, OnlyWithImpact: []string{"memory-limit-oom-kill"}}
	some, err := c.load()
	require.NoError(t, err)
	assert.Len(t, some, len(all)-1)
	for _, p := range some {
		assert.NotEqual(t, "process-killed", p.ID)
		if p.ID == "memory-limit-oom-kill" {
			assert.False(t, p.Alone)
			assert.Equal(t, 1, p.MinTraces)
		}
	}
	for _, p := range all {
		if p.ID == "memory-limit-oom-kill" {
			assert.True(t, p.Alone, "the library stays as it is")
		}
	}
	cfg := createDefaultConfig().(*Config)
	cfg.Patterns = PatternsConfig{Disabled: []string{"bogus"}, OnlyWithImpact: []string{"process-killed", "nobody"}}
	assert.ErrorContains(t, cfg.Validate(), "patterns::disabled[0]: \"bogus\" is not the id of a pattern: `tapio patterns list` lists them")
	assert.ErrorContains(t, cfg.Validate(), "patterns::only_with_impact[1]: \"nobody\" is not")
}
