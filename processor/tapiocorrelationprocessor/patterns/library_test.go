package patterns

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/replay"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

func defaults() (*tapiocorrelationprocessor.Config, error) { return replay.LoadConfig("") }

// TestLibrary plays the two scenarios of every pattern that has a folder of them. The
// others are played by TestEveryPatternIsNeeded of package engine, which also fails for
// a pattern that has neither.
func TestLibrary(t *testing.T) {
	all, err := pattern.Library()
	require.NoError(t, err)
	known := map[string]bool{}
	for _, p := range all {
		known[p.ID] = true
	}
	files := os.DirFS("../internal/pattern")
	folders, err := os.ReadDir("../internal/pattern/testdata")
	require.NoError(t, err)
	for _, f := range folders {
		id := f.Name()
		assert.Contains(t, known, id, "scenarios of a pattern that is not there")
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			for _, r := range Test(t.Context(), files, []string{id}, defaults) {
				assert.NoError(t, r.Err, r.Scenario)
			}
		})
	}
}
