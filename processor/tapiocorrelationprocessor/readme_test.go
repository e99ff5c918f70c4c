package tapiocorrelationprocessor

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap/confmaptest"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/gauge"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/slo"
)

// rows returns, for each key of a configuration, how its row in README.md begins.
func rows(prefix string, v reflect.Value) (out []string) {
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag.Get("mapstructure")
		if tag == "-" {
			continue
		}
		key := prefix + tag
		switch x := v.Field(i).Interface().(type) {
		case time.Duration:
			text := x.String() // 5m0s
			out = append(out, fmt.Sprintf("| `%s` | `%s` |", key, strings.TrimSuffix(text, "0s")))
		case int, float64, bool:
			out = append(out, fmt.Sprintf("| `%s` | `%v` |", key, x))
		case []string:
			out = append(out, fmt.Sprintf("| `%s` | `[%s]` |", key, strings.Join(x, ", ")))
		case string:
			out = append(out, fmt.Sprintf("| `%s` | none |", key))
		case []gauge.Rule, []slo.Objective:
			out = append(out, fmt.Sprintf("| `%s` | none |", key))
		default:
			out = append(out, rows(key+"::", v.Field(i))...)
		}
	}
	return out
}

func TestReadmeSaysEverything(t *testing.T) {
	b, err := os.ReadFile("README.md")
	require.NoError(t, err)
	readme := string(b)
	for _, row := range rows("", reflect.ValueOf(createDefaultConfig()).Elem()) {
		assert.Contains(t, readme, row, "key and default")
	}
	for _, l := range createDefaultConfig().(*Config).Limits.bounds() {
		assert.Contains(t, readme, fmt.Sprintf("| `limits::%s` | `%d` | %d to %d |", l.key, l.value, l.min, l.max), "range")
	}
	page, err := os.ReadFile("../../docs/patterns.md")
	require.NoError(t, err)
	patterns, err := pattern.Library()
	require.NoError(t, err)
	for _, p := range patterns {
		assert.Regexp(t, fmt.Sprintf("(?m)^\\| `%s` \\|.*\\| %v \\|", p.ID, p.Cause.Reliability), string(page), "pattern and reliability")
	}
	cm, err := confmaptest.LoadConf("metadata.yaml")
	require.NoError(t, err)
	reasons, ok := cm.Get("attributes::reason::enum").([]any)
	require.True(t, ok)
	for _, reason := range reasons {
		assert.Contains(t, readme, fmt.Sprintf("\n| `%v` |", reason), "reason of a loss")
	}
}
