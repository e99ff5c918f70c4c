package optionalexporter

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// convert loads testdata/file, converts it and returns it as a map, with what
// the converter logged.
func convert(t *testing.T, file string) (map[string]any, *observer.ObservedLogs, error) {
	t.Helper()
	conf, err := confmaptest.LoadConf(filepath.Join("testdata", file))
	require.NoError(t, err)
	core, logs := observer.New(zapcore.DebugLevel)
	c := NewFactory().Create(confmap.ConverterSettings{Logger: zap.New(core)})
	err = c.Convert(context.Background(), conf)
	return conf.ToStringMap(), logs, err
}

func TestRemovesOptionalWithoutEndpoint(t *testing.T) {
	got, logs, err := convert(t, "empty.yaml")
	require.NoError(t, err)
	want, err := confmaptest.LoadConf(filepath.Join("testdata", "empty_want.yaml"))
	require.NoError(t, err)
	assert.Equal(t, want.ToStringMap(), got)

	require.Equal(t, 1, logs.Len(), "one line, however many exporters")
	assert.Equal(t, []any{"otlp_grpc/optional", "otlphttp/optional"}, logs.All()[0].ContextMap()["exporters"])
}

func TestLeavesEverythingElse(t *testing.T) {
	for _, file := range []string{"set.yaml", "foreign.yaml", "damaged.yaml"} {
		t.Run(file, func(t *testing.T) {
			before, err := confmaptest.LoadConf(filepath.Join("testdata", file))
			require.NoError(t, err)
			got, logs, err := convert(t, file)
			require.NoError(t, err)
			assert.Equal(t, before.ToStringMap(), got)
			assert.Zero(t, logs.Len())
		})
	}
}

func TestPipelineLeftWithoutExporterIsAnError(t *testing.T) {
	before, err := confmaptest.LoadConf(filepath.Join("testdata", "only.yaml"))
	require.NoError(t, err)
	got, _, err := convert(t, "only.yaml")
	require.Error(t, err)
	assert.ErrorContains(t, err, "service::pipelines::traces::exporters")
	assert.ErrorContains(t, err, "otlp_grpc/optional")
	assert.Equal(t, before.ToStringMap(), got, "an error changes nothing")
}

func TestEmptyConf(t *testing.T) {
	conf := confmap.New()
	c := NewFactory().Create(confmap.ConverterSettings{Logger: zap.NewNop()})
	require.NoError(t, c.Convert(context.Background(), conf))
	assert.Empty(t, conf.ToStringMap())
}

// An endpoint from the environment reaches the converter as an expanded value
// with two readings, the text and the YAML; so it does in the collector.
func TestThroughResolver(t *testing.T) {
	for name, tc := range map[string]struct {
		endpoint  string
		exporters []any
	}{
		"unset": {endpoint: "", exporters: []any{"nop"}},
		"set":   {endpoint: "127.0.0.1:4317", exporters: []any{"nop", "otlp_grpc/optional"}},
	} {
		t.Run(name, func(t *testing.T) {
			resolver, err := confmap.NewResolver(confmap.ResolverSettings{
				URIs: []string{"test:config"},
				ProviderFactories: []confmap.ProviderFactory{newProvider(map[string]string{
					"test:config":   "exporters: {nop: , otlp_grpc/optional: {endpoint: '${test:endpoint}'}}\nservice: {pipelines: {traces: {exporters: [nop, otlp_grpc/optional]}}}",
					"test:endpoint": tc.endpoint,
				})},
				ConverterFactories: []confmap.ConverterFactory{NewFactory()},
			})
			require.NoError(t, err)
			conf, err := resolver.Resolve(context.Background())
			require.NoError(t, err)
			assert.Equal(t, tc.exporters, conf.Get("service::pipelines::traces::exporters"))
			assert.Equal(t, tc.endpoint != "", conf.IsSet("exporters::otlp_grpc/optional"))
			require.NoError(t, resolver.Shutdown(context.Background()))
		})
	}
}

// provider serves YAML from memory, as the file and env providers do from
// theirs.
type provider map[string]string

func newProvider(p provider) confmap.ProviderFactory {
	return confmap.NewProviderFactory(func(confmap.ProviderSettings) confmap.Provider { return p })
}

func (p provider) Retrieve(_ context.Context, uri string, _ confmap.WatcherFunc) (*confmap.Retrieved, error) {
	return confmap.NewRetrievedFromYAML([]byte(p[uri]))
}

func (provider) Scheme() string                 { return "test" }
func (provider) Shutdown(context.Context) error { return nil }
