package findingsexporter

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
)

// ignoreTime compares metrics by their values alone.
var ignoreTime = []metricdatatest.Option{metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars()}

func points(n int64) []metricdata.DataPoint[int64] {
	return []metricdata.DataPoint[int64]{{Value: n}}
}

func load(t *testing.T, id component.ID) *Config {
	t.Helper()
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	sub, err := conf.Sub(id.String())
	require.NoError(t, err)
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, sub.Unmarshal(cfg))
	return cfg
}

func TestConfig(t *testing.T) {
	id := component.MustNewID("tapio_findings")
	cfg := load(t, id)
	require.NoError(t, confmap.Validate(cfg))
	assert.Equal(t, createDefaultConfig(), cfg)
	assert.False(t, cfg.AcceptForeign)
	assert.Equal(t, 1, cfg.Queue.Get().NumConsumers)

	cfg = load(t, component.MustNewIDWithName("tapio_findings", "all"))
	require.NoError(t, confmap.Validate(cfg))
	assert.Equal(t, component.MustNewIDWithName("tapio", "second"), cfg.Extension)
	assert.True(t, cfg.AcceptForeign)
	assert.Equal(t, 3*time.Second, cfg.TimeoutConfig.Timeout)
	assert.Equal(t, time.Minute, cfg.Retry.MaxElapsedTime)
	assert.EqualValues(t, 50, cfg.Queue.Get().QueueSize)

	cfg = load(t, component.MustNewIDWithName("tapio_findings", "synchronous"))
	require.NoError(t, confmap.Validate(cfg))
	assert.False(t, cfg.Queue.HasValue())
}

func TestValidateNamesTheKey(t *testing.T) {
	cfg := createDefaultConfig().(*Config)
	cfg.Extension = component.ID{}
	assert.ErrorContains(t, confmap.Validate(cfg), "extension: must not be empty")
	cfg = createDefaultConfig().(*Config)
	cfg.Queue.Get().QueueSize = -1
	assert.ErrorContains(t, confmap.Validate(cfg), "sending_queue")
}

// TestKeysAndUnits: a slip of the keyboard is explained.
func TestKeysAndUnits(t *testing.T) {
	for want, section := range map[string]map[string]any{
		"extnsion: there is no such key; do you mean extension?": {"extnsion": "tapio"},
		"timeout: 5 is not allowed: want a number with its unit": {"timeout": 5},
	} {
		assert.ErrorContains(t, confmap.NewFromStringMap(section).Unmarshal(createDefaultConfig()), want)
	}
}
