//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bytes"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEveryProgramIsDescribed: who adds a program says in tells what nobody sees
// without it, and needs no other list.
func TestEveryProgramIsDescribed(t *testing.T) {
	t.Parallel()
	for _, group := range groupNames() {
		for _, p := range programs(onlyGroup(group)) {
			assert.NotEmpty(t, tells[p.name], "add %s of the group %s to tells", p.name, group)
		}
	}
}

func TestSupport(t *testing.T) {
	requireKernel(t)
	groups := Support()
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.Name
	}
	assert.Equal(t, groupNames(), names)
	for _, g := range groups {
		require.NotEmpty(t, g.Programs, g.Name)
		for _, p := range g.Programs {
			assert.True(t, p.Runs, "%s: %s", p.Name, p.Reason)
			assert.NotEmpty(t, p.Tells, p.Name)
			if p.Name == kmsgName {
				continue
			}
			assert.NotEmpty(t, p.Hook, p.Name)
			for _, n := range p.Needs {
				assert.Equal(t, NeedIsThere, n.Has, "%s: %s %s: it runs, so it is there", p.Name, n.Kind, n.Name)
			}
		}
	}
}

func TestNeedsOfOtherKernels(t *testing.T) {
	t.Parallel()
	p := programs(onlyGroup("process"))[2]
	spec, err := p.load()
	require.NoError(t, err)
	builder, err := btf.NewBuilder([]btf.Type{&btf.Enum{Name: "bpf_func_id", Size: 4, Values: []btf.EnumValue{{Name: "BPF_FUNC_ringbuf_reserve", Value: 131}}}}, nil)
	require.NoError(t, err)
	raw, err := builder.Marshal(nil, nil)
	require.NoError(t, err)
	types, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	require.NoError(t, err)

	for _, tc := range []struct {
		types                    *btf.Spec
		tracepoint, submit, ring string
	}{
		{nil, NeedIsUnknown, NeedIsUnknown, NeedIsUnknown},
		{types, NeedIsMissing, NeedIsMissing, NeedIsUnknown}, // no enum of kinds of maps
	} {
		got := needs(spec, p.name, tc.types)
		assert.Contains(t, got, Need{"tracepoint", "signal_generate", tc.tracepoint})
		assert.Contains(t, got, Need{"helper", "ringbufsubmit", tc.submit})
		assert.Contains(t, got, Need{"map", "ringbuf", tc.ring})
	}
	assert.Contains(t, needs(spec, p.name, types), Need{"helper", "ringbuf_reserve", NeedIsThere})
}
