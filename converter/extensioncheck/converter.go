package extensioncheck

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/confmap"
)

// reference is a key that holds the id of an extension.
type reference struct {
	class, kind, key string
	otherwise        string // the id when the key is absent, "" for none
	want             string
}

var references = []reference{
	{"exporters", "tapio_findings", "extension", "tapio", "an extension of type tapio"},
	{"receivers", "tapio_cni", "storage", "", "a storage extension, such as file_storage,"},
	{"receivers", "tapio_systemd", "storage", "", "a storage extension, such as file_storage,"},
}

// NewFactory returns the factory that the collector's command puts among its
// configuration converters.
func NewFactory() confmap.ConverterFactory {
	return confmap.NewConverterFactory(func(confmap.ConverterSettings) confmap.Converter { return converter{} })
}

type converter struct{}

// Convert fails with all references that lead nowhere. Components that are in no pipeline
// do not start and may say what they like; a conf that it does not understand it leaves to
// the collector, whose error messages name the wrong key.
func (converter) Convert(_ context.Context, conf *confmap.Conf) error {
	running := ids(conf.Get("service::extensions"))
	var errs []error
	for _, r := range references {
		used := inPipelines(conf, r.class)
		components, _ := conf.Get(r.class).(map[string]any)
		for _, id := range slices.Sorted(maps.Keys(components)) {
			kind, _, _ := strings.Cut(id, "/")
			if strings.TrimSpace(kind) != r.kind || !slices.Contains(used, strings.TrimSpace(id)) {
				continue
			}
			if named := r.of(components[id]); named != "" && !slices.Contains(running, named) {
				errs = append(errs, fmt.Errorf("%s::%s::%s: %q is not in service::extensions, which has %v: add it there, or name %s that is",
					r.class, id, r.key, named, running, r.want))
			}
		}
	}
	return errors.Join(errs...)
}

// of returns the id that a component names, "" for none.
func (r *reference) of(component any) string {
	settings, _ := component.(map[string]any)
	v, there := settings[r.key]
	if !there || v == nil {
		return r.otherwise
	}
	id, _ := v.(string)
	return strings.TrimSpace(id)
}

// inPipelines lists the components of a class that are in any pipeline.
func inPipelines(conf *confmap.Conf, class string) (used []string) {
	pipelines, _ := conf.Get("service::pipelines").(map[string]any)
	for _, p := range pipelines {
		settings, _ := p.(map[string]any)
		used = append(used, ids(settings[class])...)
	}
	return used
}

func ids(list any) (out []string) {
	values, _ := list.([]any)
	for _, v := range values {
		if id, ok := v.(string); ok {
			out = append(out, strings.TrimSpace(id))
		}
	}
	return out
}
