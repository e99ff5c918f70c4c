package dataset

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
)

func entity(name string) finding.Entity { return finding.Entity{Kind: "service", Name: name} }

func TestRankingTakesRootsFirstThenHypotheses(t *testing.T) {
	findings := []*finding.Finding{
		{RootCause: finding.RootCause{Entity: entity("a")}, Rejected: []finding.Hypothesis{{Entity: entity("c")}, {Entity: entity("")}, {Entity: entity("b")}}},
		{RootCause: finding.RootCause{Entity: entity("b")}, Rejected: []finding.Hypothesis{{Entity: entity("d")}, {Entity: entity("a")}}},
	}
	assert.Equal(t, []string{"a", "b", "c", "d"}, Ranking(findings, func(e *finding.Entity) string { return e.Name }))
}

func TestFolders(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data[1]*") // taken literally
	for _, folder := range []string{"b", "sys/a", "baseline/y", "sys/baseline/x", "deep/er/z", "empty"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, folder), 0o750))
		if folder != "empty" {
			require.NoError(t, os.WriteFile(filepath.Join(dir, folder, "marker"), nil, 0o600))
		}
	}
	cases, baselines, err := Folders(dir, "marker")
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(dir, "sys/a"), filepath.Join(dir, "b")}, cases)
	assert.Equal(t, []string{filepath.Join(dir, "sys/baseline/x"), filepath.Join(dir, "baseline/y")}, baselines)
}

func TestLabels(t *testing.T) {
	type label struct {
		Cause string `json:"cause"`
	}
	dir := t.TempDir()
	labels, err := Labels[label](dir)
	require.NoError(t, err)
	assert.Empty(t, labels)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sys"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "labels.json"), []byte(`[{"case":"a","cause":"x"}]`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "sys", "labels.json"), []byte(`[{"case":"b","cause":"y"}]`), 0o600))
	labels, err = Labels[label](dir)
	require.NoError(t, err)
	assert.Equal(t, map[string]label{"a": {"x"}, "b": {"y"}}, labels)
	for contents, want := range map[string]string{
		`{`: "labels.json: ", `[{"cause":"x"}]`: "element 0: case: missing", `[{"case":"a","cause":1}]`: "element 0: ",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "labels.json"), []byte(contents), 0o600))
		_, err := Labels[label](dir)
		require.ErrorContains(t, err, want)
	}
}
