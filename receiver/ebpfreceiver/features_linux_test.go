//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
)

func TestExplainOtherErrors(t *testing.T) {
	t.Parallel()
	assert.Equal(t, errNoVictim.Error(), explain(errNoVictim))
	assert.Contains(t, explain(fmt.Errorf("load: %w", os.ErrNotExist)), "load: file does not exist")
}

// tracepointType is how BTF describes a tracepoint with these arguments.
func tracepointType(name string, arguments ...btf.Type) btf.Type {
	params := []btf.FuncParam{{Name: "__data", Type: &btf.Pointer{Target: &btf.Void{}}}}
	for _, a := range arguments {
		params = append(params, btf.FuncParam{Type: a})
	}
	proto := &btf.FuncProto{Return: &btf.Void{}, Params: params}
	return &btf.Typedef{Name: "btf_trace_" + name, Type: &btf.Pointer{Target: proto}}
}

var dropReasonType = &btf.Enum{Name: "skb_drop_reason", Size: 4, Values: []btf.EnumValue{
	{Name: "SKB_DROP_REASON_NOT_SPECIFIED", Value: 2}, {Name: "SKB_DROP_REASON_NO_SOCKET", Value: 3},
}}

func TestFeaturesOfOtherKernels(t *testing.T) {
	t.Parallel()
	task := &btf.Pointer{Target: &btf.Struct{Name: "task_struct", Size: 8}}
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	for name, tc := range map[string]struct {
		types []btf.Type
		want  features
	}{
		"5.15":        {[]btf.Type{tracepointType("sched_process_exit", task), tracepointType("mark_victim", number)}, features{}},
		"6.12":        {[]btf.Type{tracepointType("sched_process_exit", task), tracepointType("mark_victim", task, number)}, features{victimHasTask: true}},
		"6.18":        {[]btf.Type{tracepointType("sched_process_exit", task, number), tracepointType("mark_victim", task, number)}, features{exitHasGroupDead: true, victimHasTask: true}},
		"drops, 5.15": {[]btf.Type{tracepointType("kfree_skb", task, task), dropReasonType}, features{}},
		"drops, 6.1":  {[]btf.Type{tracepointType("kfree_skb", task, task, dropReasonType), dropReasonType}, features{dropReasons: map[uint32]string{2: "not_specified", 3: "no_socket"}}},
		"drops, 6.12": {[]btf.Type{tracepointType("kfree_skb", task, task, dropReasonType, task), dropReasonType}, features{dropReasons: map[uint32]string{2: "not_specified", 3: "no_socket"}, dropHasSocket: true}},
		"none":        {[]btf.Type{number}, features{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			builder, err := btf.NewBuilder(tc.types, nil)
			assert.NoError(t, err)
			raw, err := builder.Marshal(nil, nil)
			assert.NoError(t, err)
			spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
			assert.NoError(t, err)
			assert.Equal(t, tc.want, featuresOf(spec))
		})
	}
}
