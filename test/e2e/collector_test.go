package e2e

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestComponents: the distribution has what its README names.
func TestComponents(t *testing.T) {
	out, code := run(t, environ(), bin(t, collectorName), "components")
	assert.Zero(t, code, out)
	for _, name := range []string{"tapio_ebpf", "tapio_systemd", "tapiocorrelation", "tapio_findings", "tapio", "otlp", "memory_limiter", "otlp_grpc", "health_check", "zpages"} {
		assert.Regexp(t, `(?m)^\s+- name: `+name+`$`, out)
	}
}

func TestValidate(t *testing.T) {
	out, code := run(t, environ(), bin(t, collectorName), "validate", "--config", defaultConfig(t))
	assert.Zero(t, code, out)
}

// TestValidateExamples: the configurations that the examples show are right, with and
// without a backend.
func TestValidateExamples(t *testing.T) {
	for _, backend := range []string{"", "127.0.0.1:4319"} {
		out, code := run(t, environ("TAPIO_NODE=node-7", "TAPIO_STATE="+t.TempDir(), "TAPIO_EXPORT_ENDPOINT="+backend),
			bin(t, collectorName), "validate", "--config", filepath.Join("..", "..", "examples", "node", "config.yaml"))
		assert.Zero(t, code, out)
	}
}

// TestConfigErrors: what is wrong is named, with its value and what is allowed.
func TestConfigErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		config string
		want   []string
	}{
		"window":           {"yaml:processors::tapiocorrelation::window: 0s", []string{"tapiocorrelation", "window: 0s", "1s to 24h"}},
		"score":            {"yaml:processors::tapiocorrelation::min_score: 2", []string{"min_score: 2", "from 0 to 1"}},
		"ring":             {"yaml:processors::tapiocorrelation::ring::capacity: 1", []string{"ring::capacity: 1"}},
		"weights":          {"yaml:processors::tapiocorrelation::confidence_weights::timing: -1", []string{"confidence_weights::timing: -1"}},
		"unknown key":      {"yaml:processors::tapiocorrelation::windw: 5m", []string{"windw"}},
		"meant key":        {"yaml:processors::tapiocorrelation::windw: 5m", []string{"windw: there is no such key; do you mean window?"}},
		"no unit":          {"yaml:processors::tapiocorrelation::window: 5", []string{"window: 5 is not allowed", "with its unit, such as 30s"}},
		"no pattern":       {"yaml:processors::tapiocorrelation::patterns::disabled: [nope]", []string{`patterns::disabled[0]: "nope" is not the id of a pattern`}},
		"no address":       {"yaml:extensions::tapio::endpoint: bogus", []string{`endpoint: "bogus" is not allowed`, "host:port"}},
		"no extension":     {"yaml:exporters::tapio_findings::extension: nope", []string{`exporters::tapio_findings::extension: "nope"`, "service::extensions"}},
		"no storage":       {"yaml:receivers::tapio_systemd::storage: nope", []string{`receivers::tapio_systemd::storage: "nope"`, "service::extensions"}},
		"store":            {"yaml:extensions::tapio::max_findings: 0", []string{"max_findings", "0"}},
		"missing endpoint": {"yaml:extensions::tapio::endpoint: ''", []string{"endpoint"}},
		"kernel":           {"yaml:receivers::tapio_ebpf::nonsense: 1", []string{"tapio_ebpf", "nonsense"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := run(t, environ(), bin(t, collectorName), "validate", "--config", defaultConfig(t), "--config", tt.config)
			assert.NotZero(t, code)
			for _, want := range tt.want {
				assert.Contains(t, out, want)
			}
		})
	}
}
