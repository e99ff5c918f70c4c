package optionalexporter

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/confmap"
	"go.uber.org/zap"
)

// name is the part after the slash of an exporter's id that makes it optional.
const name = "optional"

// NewFactory returns the factory that the collector's command puts among its
// configuration converters.
func NewFactory() confmap.ConverterFactory {
	return confmap.NewConverterFactory(func(set confmap.ConverterSettings) confmap.Converter {
		return converter{logger: set.Logger}
	})
}

type converter struct {
	logger *zap.Logger
}

// Convert removes the optional exporters without an endpoint from conf. It
// leaves a conf that it does not understand to the collector, whose error
// messages name the wrong key.
func (c converter) Convert(_ context.Context, conf *confmap.Conf) error {
	removed := withoutEndpoint(conf)
	if len(removed) == 0 {
		return nil
	}
	lists, err := remaining(conf, removed)
	if err != nil {
		return err
	}
	for _, id := range removed {
		conf.Delete(key("exporters", id))
	}
	for pipeline, exporters := range lists {
		// Deleted first: with the feature gate confmap.enableMergeAppendOption
		// Merge appends to lists, else it replaces them.
		k := key("service", "pipelines", pipeline, "exporters")
		conf.Delete(k)
		if err := conf.Merge(confmap.NewFromStringMap(map[string]any{k: exporters})); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	c.logger.Info("Optional exporters are off: they have no endpoint", zap.Strings("exporters", removed))
	return nil
}

// withoutEndpoint returns the ids, sorted, of the optional exporters whose key
// endpoint is there and empty. Without the key it is another kind of exporter.
func withoutEndpoint(conf *confmap.Conf) []string {
	exporters, _ := conf.Get("exporters").(map[string]any)
	var ids []string
	for id, v := range exporters {
		settings, ok := v.(map[string]any)
		if !ok || !isOptional(id) {
			continue
		}
		if endpoint, ok := settings["endpoint"]; ok && isEmpty(endpoint) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// remaining returns, by pipeline id, the exporters of each pipeline that names
// a removed one, without those.
func remaining(conf *confmap.Conf, removed []string) (map[string][]any, error) {
	pipelines, _ := conf.Get("service::pipelines").(map[string]any)
	lists := make(map[string][]any)
	for pipeline, v := range pipelines {
		settings, _ := v.(map[string]any)
		before, _ := settings["exporters"].([]any)
		after := make([]any, 0, len(before))
		for _, e := range before {
			if id, ok := e.(string); !ok || !slices.Contains(removed, strings.TrimSpace(id)) {
				after = append(after, e)
			}
		}
		if len(after) == len(before) {
			continue
		}
		if len(after) == 0 {
			return nil, fmt.Errorf("%s: no exporter is left, because %v is optional and has no endpoint: "+
				"set its endpoint, or add an exporter that is always there, such as nop",
				key("service", "pipelines", pipeline, "exporters"), before)
		}
		lists[pipeline] = after
	}
	return lists, nil
}

func isOptional(id string) bool {
	_, n, ok := strings.Cut(id, "/")
	return ok && strings.TrimSpace(n) == name
}

// isEmpty says whether an environment variable without a value stood there:
// YAML reads the empty string as null.
func isEmpty(v any) bool {
	s, ok := v.(string)
	return v == nil || ok && strings.TrimSpace(s) == ""
}

func key(parts ...string) string { return strings.Join(parts, "::") }
