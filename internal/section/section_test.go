package section

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
)

type inner struct {
	Capacity int     `mapstructure:"capacity"`
	Score    float64 `mapstructure:"score"`
}

type common struct {
	Timeout time.Duration `mapstructure:"timeout,omitempty"`
}

type config struct {
	Common common         `mapstructure:",squash"`
	Window time.Duration  `mapstructure:"window"`
	Wait   *time.Duration `mapstructure:"wait"`
	On     bool           `mapstructure:"on"`
	Ring   inner          `mapstructure:"ring"`
	Rules  []inner        `mapstructure:"rules"`
	Name   *component.ID  `mapstructure:"name"`
	Other  map[string]any `mapstructure:"other"`
}

func (c *config) Unmarshal(conf *confmap.Conf) error { return Unmarshal(conf, c) }

func read(m map[string]any) (*config, error) {
	c := &config{Window: time.Minute}
	// As the collector reads a component.
	return c, confmap.NewFromStringMap(m).Unmarshal(c)
}

func TestWhatIsRightIsRead(t *testing.T) {
	c, err := read(map[string]any{
		"timeout": "3s", "window": "5m", "wait": 0, "on": true, "ring": map[string]any{"capacity": 7, "score": 1},
		"rules": []any{map[string]any{"score": 0.5}}, "name": "tapio/x", "other": map[string]any{"any": 1},
	})
	require.NoError(t, err)
	assert.Equal(t, 3*time.Second, c.Common.Timeout)
	assert.Equal(t, 5*time.Minute, c.Window)
	assert.True(t, c.On)
	assert.Equal(t, inner{7, 1}, c.Ring)
	assert.Equal(t, []inner{{Score: 0.5}}, c.Rules)
	assert.Equal(t, "tapio/x", c.Name.String())
	c, err = read(nil)
	require.NoError(t, err)
	assert.Equal(t, time.Minute, c.Window, "the default")
}

func TestWhatIsWrongIsNamedWithWhatIsAllowed(t *testing.T) {
	for want, m := range map[string]map[string]any{
		"window: 5 is not allowed: want a number with its unit, such as 30s, 5m or 1h":         {"window": 5},
		"wait: 1.5 is not allowed: want a number with its unit, such as 30s, 5m or 1h":         {"wait": 1.5},
		`window: "five" is not allowed: want a number with its unit, such as 30s, 5m or 1h`:    {"window": "five"},
		"windov: there is no such key; do you mean window?":                                    {"windov": "5m"},
		"timout: there is no such key; do you mean timeout?":                                   {"timout": "5m"},
		"bogus: there is no such key: want one of name, on, other, ring, rules, timeout, wait": {"bogus": 1},
		"ring::capcity: there is no such key; do you mean ring::capacity?":                     {"ring": map[string]any{"capcity": 5}},
		"rules[1]::zzzzzz: there is no such key: want one of capacity, score":                  {"rules": []any{map[string]any{}, map[string]any{"zzzzzz": 5}}},
		`ring::capacity: "many" is not allowed: want a whole number`:                           {"ring": map[string]any{"capacity": "many"}},
		`ring::score: "high" is not allowed: want a number`:                                    {"ring": map[string]any{"score": "high"}},
		`on: "maybe" is not allowed: want true or false`:                                       {"on": "maybe"},
		"ring: true is not allowed: want a section of capacity, score":                         {"ring": true},
		"rules[0]: 7 is not allowed: want a section of capacity, score":                        {"rules": []any{7}},
	} {
		_, err := read(m)
		assert.ErrorContains(t, err, want)
	}
	_, err := read(map[string]any{"window": 5, "bogus": 1, "on": "maybe"})
	assert.ErrorContains(t, err, "bogus")
	assert.ErrorContains(t, err, "on: ")
	assert.ErrorContains(t, err, "window: 5", "all at once")
	_, err = read(map[string]any{"other": 7, "name": "!!"})
	assert.Error(t, err, "what is not known here is refused by confmap")
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"", "abc", 3}, {"windov", "window", 1}, {"capcity", "capacity", 1}, {"kitten", "sitting", 3}} {
		assert.Equal(t, tc.want, distance(tc.a, tc.b))
		assert.Equal(t, tc.want, distance(tc.b, tc.a))
	}
}
