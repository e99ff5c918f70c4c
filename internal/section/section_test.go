package section

import (
	"context"
	"strings"
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

type colour string

func (colour) Allowed() []string { return []string{"blue", "red"} }

type event struct {
	Enabled bool `mapstructure:"enabled"`
}

func (e *event) Unmarshal(conf *confmap.Conf) error { return conf.Unmarshal(e) }

type events struct {
	Full    event `mapstructure:"pool.exhausted"`
	High    event `mapstructure:"pool.high"`
	Leaked  event `mapstructure:"leaked"`
	Changed event `mapstructure:"config.changed"`
}

type config struct {
	Colour colour              `mapstructure:"colour"`
	Text   string              `mapstructure:"text"`
	List   []string            `mapstructure:"list"`
	Match  []map[string]string `mapstructure:"match"`
	Events events              `mapstructure:"events"`

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
		"window: 5 is not allowed: want a number with its unit, such as 30s, 5m or 1h":      {"window": 5},
		"wait: 1.5 is not allowed: want a number with its unit, such as 30s, 5m or 1h":      {"wait": 1.5},
		`window: "five" is not allowed: want a number with its unit, such as 30s, 5m or 1h`: {"window": "five"},
		"windov: there is no such key; do you mean window?":                                 {"windov": "5m"},
		"timout: there is no such key; do you mean timeout?":                                {"timout": "5m"},
		"bogus: there is no such key: want one of colour, events, list, match, name, on":    {"bogus": 1},
		"ring::capcity: there is no such key; do you mean ring::capacity?":                  {"ring": map[string]any{"capcity": 5}},
		"rules[1]::zzzzzz: there is no such key: want one of capacity, score":               {"rules": []any{map[string]any{}, map[string]any{"zzzzzz": 5}}},
		`ring::capacity: "many" is not allowed: want a whole number`:                        {"ring": map[string]any{"capacity": "many"}},
		`ring::score: "high" is not allowed: want a number`:                                 {"ring": map[string]any{"score": "high"}},
		`on: "maybe" is not allowed: want true or false`:                                    {"on": "maybe"},
		"ring: true is not allowed: want a section of capacity, score":                      {"ring": true},
		"rules[0]: 7 is not allowed: want a section of capacity, score":                     {"rules": []any{7}},
	} {
		_, err := read(m)
		assert.ErrorContains(t, err, want)
	}
	for want, m := range map[string]map[string]any{
		`colour: 4 is not allowed: want one of blue, red`:                                                   {"colour": 4},
		`text: 4 is not allowed: want a text, which a number is in quotes: "4"`:                             {"text": 4},
		`text: [4] is not allowed: want a text`:                                                             {"text": []any{4}},
		`list: map[a:b] is not allowed: want a list, of which each item begins with "- "`:                   {"list": map[string]any{"a": "b"}},
		`list[1]: 5 is not allowed: want a text, which a number is in quotes: "5"`:                          {"list": []any{"x", 5}},
		`match: map[_UID:0] is not allowed: want a list, of which each item begins with "- "`:               {"match": map[string]any{"_UID": "0"}},
		`match[0]::_UID: 0 is not allowed: want a text, which a number is in quotes: "0"`:                   {"match": []any{map[string]any{"_UID": 0}}},
		`events::pool.high: false is not allowed: want a section: {enabled: false}`:                         {"events": map[string]any{"pool.high": false}},
		`events::pool.high: 7 is not allowed: want a section of enabled`:                                    {"events": map[string]any{"pool.high": 7}},
		`on: 4 is not allowed: want true or false`:                                                          {"on": 4},
		`name: 7 is not allowed: want a text, which a number is in quotes: "7"`:                             {"name": 7},
		`other: 7 is not allowed: want a section of names with their values`:                                {"other": 7},
		`events::pool.full: there is no such key; do you mean events::pool.exhausted or events::pool.high?`: {"events": map[string]any{"pool.full": map[string]any{}}},
		`events::pool.hihg: there is no such key; do you mean events::pool.high?`:                           {"events": map[string]any{"pool.hihg": map[string]any{}}},
		`ring.capacity: there is no such key; do you mean ring::capacity?`:                                  {"ring.capacity": 5},
	} {
		_, err := read(m)
		assert.ErrorContains(t, err, want)
		assert.NotContains(t, err.Error(), "unconvertible")
	}
	_, err := read(map[string]any{"window": 5, "bogus": 1, "on": "maybe"})
	assert.ErrorContains(t, err, "bogus")
	assert.ErrorContains(t, err, "on: ")
	assert.ErrorContains(t, err, "window: 5", "all at once")
	_, err = read(map[string]any{"name": "!!"})
	assert.Error(t, err, "what is not known here is refused by confmap")
}

// yaml gives what follows its scheme.
type yaml struct{ scheme string }

func (y yaml) Retrieve(_ context.Context, uri string, _ confmap.WatcherFunc) (*confmap.Retrieved, error) {
	return confmap.NewRetrievedFromYAML([]byte(strings.TrimPrefix(uri, y.scheme+":")))
}
func (y yaml) Scheme() string               { return y.scheme }
func (yaml) Shutdown(context.Context) error { return nil }

func provider(scheme string) confmap.ProviderFactory {
	return confmap.NewProviderFactory(func(confmap.ProviderSettings) confmap.Provider { return yaml{scheme} })
}

// A number of an environment variable is a text where a text is wanted, also beside a
// value that is wrong.
func TestNumbersOfTheEnvironment(t *testing.T) {
	load := func(text string) error {
		resolver, err := confmap.NewResolver(confmap.ResolverSettings{
			URIs:              []string{"yaml:" + text},
			ProviderFactories: []confmap.ProviderFactory{provider("yaml"), provider("value")},
		})
		require.NoError(t, err)
		conf, err := resolver.Resolve(t.Context())
		require.NoError(t, err)
		c := &config{}
		err = conf.Unmarshal(c)
		if err == nil {
			assert.Equal(t, "17", c.Text)
		}
		return err
	}
	require.NoError(t, load("text: ${value:17}"))
	err := load("{text: \"${value:17}\", colour: 4}")
	assert.ErrorContains(t, err, "colour: 4 is not allowed: want one of blue, red")
	assert.NotContains(t, err.Error(), "text")
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
