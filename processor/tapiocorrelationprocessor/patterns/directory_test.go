package patterns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// own is the example for people who write patterns of their own.
const own = "../../../examples/patterns"

// The example is the README's own.
func TestExampleOfTheReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	for _, file := range []string{"licence-expired.yaml", "testdata/licence-expired/fires.yaml"} {
		b, err := os.ReadFile(filepath.Join(own, file))
		require.NoError(t, err)
		assert.Contains(t, string(readme), "```yaml\n"+string(b)+"```", file)
	}
}

func TestDirectoryOfOnesOwn(t *testing.T) {
	results, err := TestDirectory(t.Context(), own)
	require.NoError(t, err)
	require.Len(t, results, 2)
	for _, r := range results {
		assert.NoError(t, r.Err, r.Scenario)
	}
	_, problems, err := Lint(own)
	require.NoError(t, err)
	assert.Empty(t, problems)
	all, err := List(own)
	require.NoError(t, err)
	builtIn, err := List("")
	require.NoError(t, err)
	assert.Len(t, all, len(builtIn)+1)
	for _, i := range all {
		if i.ID == "licence-expired" {
			assert.Equal(t, filepath.Join(own, "licence-expired.yaml"), i.Source)
		} else {
			assert.Equal(t, BuiltIn, i.Source)
		}
	}
}

func TestLintSaysWhere(t *testing.T) {
	good, err := os.ReadFile(filepath.Join(own, "licence-expired.yaml"))
	require.NoError(t, err)
	for want, change := range map[string][2]string{
		`:5: evnt: no such key; want one of [before count_within entity event`: {"event: tapio.log ", "evnt: tapio.log "},
		`cause.layer: "FOO": want one of [KERNEL NET SYS K8S APP BIZ]`:         {"layer: APP", "layer: FOO"},
		`reliability: "often": want a number`:                                  {"reliability: 0.9", "reliability: often"},
		`:13: cause.reliability: 1.5: want a number above 0, at most 1`:        {"reliability: 0.9", "reliability: 1.5"},
		`relation: "beside": want one of [same`:                                {"relation: owner", "relation: beside"},
		`.ottl: "severity_number >=`:                                           {"severity_number >= SEVERITY_NUMBER_ERROR", "severity_number >="},
		`cause.entity: "galaxy": want one of [pod workload node`:               {"entity: workload", "entity: galaxy"},
		`no scenario`: {"id: licence-expired", "id: another"},
	} {
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, os.DirFS(own)))
		changed := strings.Replace(string(good), change[0], change[1], 1)
		require.NotEqual(t, string(good), changed, want)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "licence-expired.yaml"), []byte(changed), 0o600))
		_, problems, err := Lint(dir)
		require.NoError(t, err)
		var all []string
		for _, p := range problems {
			all = append(all, p.Error())
			assert.Contains(t, p.Error(), dir)
		}
		assert.Contains(t, strings.Join(all, "\n"), want)
	}
}

func TestScenarioThatDoesNotFire(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(own)))
	fires := filepath.Join(dir, "testdata", "licence-expired", "fires.yaml")
	nearly, err := os.ReadFile(filepath.Join(dir, "testdata", "licence-expired", "nearly.yaml"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(fires, nearly, 0o600))
	results, err := TestDirectory(t.Context(), dir)
	require.NoError(t, err)
	assert.ErrorContains(t, results[0].Err, "want a finding of licence-expired, got no finding")
	assert.NoError(t, results[1].Err)
}
