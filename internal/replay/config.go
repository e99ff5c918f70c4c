package replay

import (
	"fmt"
	"os"

	"go.opentelemetry.io/collector/confmap"
	"go.yaml.in/yaml/v3"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor"
)

// LoadConfig reads the processor's own section of a collector's configuration from
// a YAML file: what stands below tapiocorrelation there. Without a path it returns
// the defaults. Errors name the file and the key.
func LoadConfig(path string) (*tapiocorrelationprocessor.Config, error) {
	cfg := tapiocorrelationprocessor.NewFactory().CreateDefaultConfig().(*tapiocorrelationprocessor.Config)
	if path == "" {
		return cfg, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var raw map[string]any
	if err := yaml.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, key := range []string{"receivers", "processors", "exporters", "service"} {
		if _, whole := raw[key]; whole {
			return nil, fmt.Errorf("%s: has the key %q, as a whole collector's configuration: want a file with only what stands below processors::tapiocorrelation there, such as `window: 5m`", path, key)
		}
	}
	if err := cfg.Unmarshal(confmap.NewFromStringMap(raw)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := confmap.Validate(cfg); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cfg, nil
}
