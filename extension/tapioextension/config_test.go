package tapioextension

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
)

func load(t *testing.T, id string) *Config {
	t.Helper()
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	sub, err := conf.Sub(id)
	require.NoError(t, err)
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, sub.Unmarshal(cfg))
	require.NoError(t, confmap.Validate(cfg))
	return cfg
}

func TestConfig(t *testing.T) {
	cfg := load(t, "tapio")
	assert.Equal(t, createDefaultConfig(), cfg)
	assert.Equal(t, "127.0.0.1:8467", cfg.HTTP.NetAddr.Endpoint)
	assert.Equal(t, 720*time.Hour, cfg.Retention)
	assert.Equal(t, 10_000, cfg.MaxFindings)

	cfg = load(t, "tapio/all")
	assert.Equal(t, "127.0.0.1:9467", cfg.HTTP.NetAddr.Endpoint)
	assert.Equal(t, "/srv/tapio/findings.db", cfg.Path)
	assert.Equal(t, 24*time.Hour, cfg.Retention)
	assert.Equal(t, 500, cfg.MaxFindings)
	assert.Equal(t, 5*time.Second, cfg.HTTP.WriteTimeout)
}

func TestValidateNamesKeyValueAndWhatIsAllowed(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"endpoint: must not be empty, want host:port":                             func(c *Config) { c.HTTP.NetAddr.Endpoint = "" },
		`endpoint: "bogus" is not allowed, want host:port such as 127.0.0.1:8467`: func(c *Config) { c.HTTP.NetAddr.Endpoint = "bogus" },
		`port "http", want 0 to 65535`:                                            func(c *Config) { c.HTTP.NetAddr.Endpoint = "localhost:http" },
		`port "70000", want 0 to 65535`:                                           func(c *Config) { c.HTTP.NetAddr.Endpoint = "localhost:70000" },
		`path: ":memory:", want the name of a file`:                               func(c *Config) { c.Path = ":memory:" },
		`path: "/var/lib/" is a directory, want a file`:                           func(c *Config) { c.Path = "/var/lib/" },
		`path: "a\x00b" contains a zero byte`:                                     func(c *Config) { c.Path = "a\x00b" },
		"retention: 0s, want a duration above 0":                                  func(c *Config) { c.Retention = 0 },
		"retention: -1s, want a duration above 0":                                 func(c *Config) { c.Retention = -time.Second },
		"max_findings: 0, want 1 to 1000000":                                      func(c *Config) { c.MaxFindings = 0 },
		"max_findings: 1000001, want 1 to 1000000":                                func(c *Config) { c.MaxFindings = 1_000_001 },
	} {
		cfg := createDefaultConfig().(*Config)
		change(cfg)
		assert.ErrorContains(t, confmap.Validate(cfg), want)
	}
}

func TestDatabasePath(t *testing.T) {
	for _, tc := range []struct {
		name, configured string
		uid              int
		env              map[string]string
		want             string
	}{
		{"configured", "/srv/f.db", 0, nil, "/srv/f.db"},
		{"root", "", 0, map[string]string{"HOME": "/root"}, "/var/lib/tapio/findings.db"},
		{"XDG", "", 1000, map[string]string{"HOME": "/home/a", "XDG_STATE_HOME": "/x"}, "/x/tapio/findings.db"},
		{"relative XDG", "", 1000, map[string]string{"HOME": "/home/a", "XDG_STATE_HOME": "x"}, "/home/a/.local/state/tapio/findings.db"},
		{"home", "", 1000, map[string]string{"HOME": "/home/a"}, "/home/a/.local/state/tapio/findings.db"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := databasePath(tc.configured, tc.uid, func(k string) string { return tc.env[k] })
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
		})
	}
	_, err := databasePath("", 1000, func(string) string { return "" })
	assert.ErrorContains(t, err, "path: there is no default")
}

// TestKeysAndUnits: a slip of the keyboard is explained.
func TestKeysAndUnits(t *testing.T) {
	for want, section := range map[string]map[string]any{
		"endpiont: there is no such key; do you mean endpoint?":    {"endpiont": "127.0.0.1:1"},
		"retention: 5 is not allowed: want a number with its unit": {"retention": 5},
	} {
		assert.ErrorContains(t, confmap.NewFromStringMap(section).Unmarshal(createDefaultConfig()), want)
	}
}
