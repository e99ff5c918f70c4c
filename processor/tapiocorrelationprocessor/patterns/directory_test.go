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
	for _, file := range []string{"licence-expired.yaml", "testdata/licence-expired/fires.yaml", "testdata/cart-quota/fires.yaml"} {
		b, err := os.ReadFile(filepath.Join(own, file))
		require.NoError(t, err)
		assert.Contains(t, string(readme), "```yaml\n"+string(b)+"```", file)
	}
}

func TestDirectoryOfOnesOwn(t *testing.T) {
	results, err := TestDirectory(t.Context(), own)
	require.NoError(t, err)
	require.Len(t, results, 4)
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
	assert.Len(t, all, len(builtIn)+2)
	for _, i := range all {
		if i.ID == "licence-expired" || i.ID == "cart-quota" {
			assert.Equal(t, filepath.Join(own, i.ID+".yaml"), i.Source)
		} else {
			assert.Equal(t, BuiltIn, i.Source)
		}
	}
}

func TestLintSaysWhere(t *testing.T) {
	good, err := os.ReadFile(filepath.Join(own, "licence-expired.yaml"))
	require.NoError(t, err)
	for want, change := range map[string][2]string{
		`:5: evnt: no such key; want one of [answers before count_within entity event`: {"event: tapio.log ", "evnt: tapio.log "},

		`cause.layer: "FOO": want one of [KERNEL NET SYS K8S APP BIZ]`:  {"layer: APP", "layer: FOO"},
		`reliability: "often": want a number`:                           {"reliability: 0.9", "reliability: often"},
		`:13: cause.reliability: 1.5: want a number above 0, at most 1`: {"reliability: 0.9", "reliability: 1.5"},
		`relation: "beside": want one of [same`:                         {"relation: owner", "relation: beside"},
		`.ottl: "severity_number >=`:                                    {"severity_number >= SEVERITY_NUMBER_ERROR", "severity_number >="},
		`cause.entity: "galaxy": want one of [pod workload node`:        {"entity: workload", "entity: galaxy"},
		`:16: effects[0].event: "tapio.k8s.workload.unavailble": there is no such event; do you mean tapio.k8s.workload.unavailable?`: {"workload.unavailable", "workload.unavailble"},
		`:17: effects[1].event: "tapio.call.faild": there is no such event; do you mean tapio.call.failed?`:                           {"tapio.call.failed", "tapio.call.faild"},
		`:19: until[0].event: "tapio.something.quite.other": there is no such event; docs/events.md`:                                  {"licence.renewed", "tapio.something.quite.other"},
		`:1: id: "Licence Expired": want lower case letters, digits and dashes`:                                                       {"id: licence-expired", "id: Licence Expired"},
		`licence-expired.yaml:2: no valid YAML: did not find expected key, here or in the block that begins here`:                     {"has no licence any more\"", "has no\" licence any more"},
		`licence-expired.yaml:2: no valid YAML: mapping values are not allowed in this context`:                                       {"title: ", "  title: "},
		`:17: event: want a text`: {"{event: tapio.call.failed,", "{event: [tapio.call.failed],"},
		`no scenario`:             {"id: licence-expired", "id: another"},
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

// What a scenario that gives no finding is told, for changes of that of cart-quota.
func TestScenarioThatDoesNotFire(t *testing.T) {
	for want, change := range map[string][2]string{
		"want a finding of cart-quota, got no finding: its best hypothesis is of workload cart with a confidence of 0.":                               {"at: 61s, value: 1", "at: 61s, value: 0"},
		"; min_score is 0.7; min_traces is 3, and 0 requests are seen to be hurt by it":                                                               {"at: 61s, value: 1", "at: 61s, value: 0"},
		"; not seen: tapio.call.failed (calls, within 5m0s, weight 2); not seen: optional tapio.request.failed (trace, within 5m0s, weight 1)":        {"at: 61s, value: 1", "at: 61s, value: 0"},
		"got callee-failing of service cart (0.90): events[0] is not its cause: quota.kind is users, not carts":                                       {"quota.kind: carts", "quota.kind: users"},
		"got callee-failing of service cart (0.90): no event is its cause, shop.quota.exceeded, and none is derived from metrics or requests":         {"event: shop.quota.exceeded", "event: shop.quota"},
		"; min_traces is 3, and 1 requests are seen to be hurt by it (a failed one is a server span with an error status: see requests in the README": {"until: 2m", "until: 61s"},
	} {
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, os.DirFS(own)))
		name := filepath.Join(dir, "testdata", "cart-quota", "fires.yaml")
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		changed := strings.Replace(string(b), change[0], change[1], 1)
		require.NotEqual(t, string(b), changed)
		require.NoError(t, os.WriteFile(name, []byte(changed), 0o600))
		results, err := TestDirectory(t.Context(), dir)
		require.NoError(t, err)
		assert.ErrorContains(t, results[0].Err, want)
		assert.NoError(t, results[1].Err)
	}
}

// A condition in OTTL is named when it is what does not hold.
func TestScenarioThatMeetsNoOTTL(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(own)))
	fires := filepath.Join(dir, "testdata", "licence-expired", "fires.yaml")
	nearly, err := os.ReadFile(filepath.Join(dir, "testdata", "licence-expired", "nearly.yaml"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(fires, nearly, 0o600))
	results, err := TestDirectory(t.Context(), dir)
	require.NoError(t, err)
	assert.ErrorContains(t, results[2].Err, "want a finding of licence-expired, got no finding: events[0] is not its cause: the ottl condition severity_number >=")
	assert.NoError(t, results[3].Err)
}
