package gauge

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBuiltinRules(t *testing.T) {
	seen := map[string]bool{}
	roles := map[Class]map[Role]bool{}
	for i := range builtin {
		r := builtin[i]
		require.NoError(t, r.Validate(), r.Metric)
		key := fmt.Sprint(r.Metric, r.Attributes, r.take)
		assert.False(t, seen[key], "two rules for %s", key)
		seen[key] = true
		if roles[r.Class] == nil {
			roles[r.Class] = map[Role]bool{}
		}
		roles[r.Class][r.Role] = true
	}
	for c := Class(1); c < classEnd; c++ {
		if c == ClassThreads {
			continue // no convention reports a limit of threads: for rules of users
		}
		assert.True(t, roles[c][RoleUse] || roles[c][RoleFree], "nothing measures %s", c)
		if specs[c].goal > 0 {
			assert.True(t, roles[c][RoleLimit] || roles[c][RoleFree], "nothing says how much %s there is", c)
		}
	}
}

func TestUserRuleReplacesBuiltin(t *testing.T) {
	rules, err := newTable([]Rule{{Metric: "container.cpu.usage", Class: ClassQueue, Role: RoleUse}})
	require.NoError(t, err)
	require.Len(t, rules["container.cpu.usage"], 1)
	assert.Equal(t, ClassQueue, rules["container.cpu.usage"][0].Class)
	assert.Less(t, rules["container.cpu.usage"][0].id, rules["k8s.pod.cpu.usage"][0].id)
}

func TestRuleErrors(t *testing.T) {
	valid := Rule{Metric: "pool.used", Class: ClassConnections, Role: RoleUse}
	require.NoError(t, valid.Validate())
	for name, test := range map[string]struct {
		change func(*Rule)
		want   string
	}{
		"no metric":  {func(r *Rule) { r.Metric = "" }, "metric: must be set"},
		"no class":   {func(r *Rule) { r.Class = 0 }, "class: must be set, to one of [connections conntrack cpu"},
		"no role":    {func(r *Rule) { r.Role = 0 }, "role: must be set, to one of [use free limit utilization waiting]"},
		"scale":      {func(r *Rule) { r.Scale = -1 }, "scale: -1: must be a positive number"},
		"instance":   {func(r *Rule) { r.Instance = []string{"a", "b", "c", "d", "e"} }, "instance: 5 attributes: at most 4"},
		"attributes": {func(r *Rule) { r.Attributes = map[string][]string{"state": nil} }, "attributes: state: needs at least one value"},
	} {
		t.Run(name, func(t *testing.T) {
			r := valid
			test.change(&r)
			require.ErrorContains(t, r.Validate(), test.want)
			_, err := New(Options{MaxSeries: 1, Rules: []Rule{valid, r}})
			require.ErrorContains(t, err, "rule 1")
		})
	}
}

func TestOptionErrors(t *testing.T) {
	_, err := New(Options{})
	require.EqualError(t, err, "max_series: 0: must be positive")
	_, err = New(Options{MaxSeries: 1, Horizon: -1})
	require.EqualError(t, err, "horizon: -1ns: must not be negative")
}
