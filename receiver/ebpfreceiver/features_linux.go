//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf/btf"

	"github.com/yairfalse/tapio/internal/linux"
)

// errNoVictim: before Linux 6.9 and the stable releases of early 2024 the
// tracepoint oom/mark_victim had nothing but a number.
var errNoVictim = errors.New("this kernel's tracepoint oom/mark_victim does not hand over the victim; Linux 6.9 and later do, and the stable series since early 2024 (6.6.19, 6.1.80, 5.15.150)")

// features is what differs between kernels.
type features struct {
	// exitHasGroupDead: sched_process_exit says which thread is the last.
	exitHasGroupDead bool
	// victimHasTask: mark_victim hands over the task.
	victimHasTask bool
	// pidNamespace is the inode of the collector's pid namespace, 0 for the first.
	pidNamespace uint32
	// resetReasons are why the kernel sends a reset, by number; empty before 6.10,
	// where it does not say.
	resetReasons map[uint32]string
	// retransmitHasError: tcp_retransmit_skb is told also when nothing was sent (6.16).
	retransmitHasError bool
	// hasBlockError: there is a tracepoint for block requests that fail (5.18).
	hasBlockError bool
	// blockStatusSize is of the status that block_rq_complete hands over, in bytes: 1
	// for a blk_status_t, 4 for an errno, 0 when there is no such tracepoint.
	blockStatusSize int
	// dropReasons are why the kernel drops packets, by number; empty before 5.17,
	// where it does not say. dropHasSocket: it says for which socket they were.
	dropReasons   map[uint32]string
	dropHasSocket bool
	// hasSocketLength: there are tracepoints where sockets are written and read (6.3).
	hasSocketLength bool
	// hasSchedInfo: the kernel notes how long tasks wait; hasBandwidth: it has CPU quotas.
	hasSchedInfo, hasBandwidth bool
}

func readFeatures(types *btf.Cache) (*features, error) {
	spec, err := types.Kernel()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's type information: %w", err)
	}
	ns, err := linux.PIDNamespace()
	if err != nil {
		return nil, err
	}
	f := featuresOf(spec)
	f.pidNamespace = ns
	return &f, nil
}

// featuresOf reads what the kernel's types tell.
func featuresOf(spec *btf.Spec) features {
	return features{
		exitHasGroupDead:   len(tracepointArguments(spec, "sched_process_exit")) >= 2,
		victimHasTask:      isPointer(tracepointArguments(spec, "mark_victim")),
		resetReasons:       resetReasons(spec),
		retransmitHasError: len(tracepointArguments(spec, "tcp_retransmit_skb")) >= 3,
		hasBlockError:      tracepointArguments(spec, "block_rq_error") != nil,
		hasSocketLength:    tracepointArguments(spec, "sock_send_length") != nil && tracepointArguments(spec, "sock_recv_length") != nil,
		hasSchedInfo:       hasMember(spec, "sched_info", "last_queued"),
		hasBandwidth:       hasMember(spec, "task_group", "cfs_bandwidth"),
		blockStatusSize:    sizeOfArgument(tracepointArguments(spec, "block_rq_complete"), 1),
		dropReasons:        dropReasons(spec),
		dropHasSocket:      len(tracepointArguments(spec, "kfree_skb")) >= 4,
	}
}

// tracepointArguments are what the kernel hands to programs at a tracepoint;
// nil when it has no such tracepoint.
func tracepointArguments(spec *btf.Spec, tracepoint string) []btf.FuncParam {
	var typedef *btf.Typedef
	if spec.TypeByName("btf_trace_"+tracepoint, &typedef) != nil {
		return nil
	}
	pointer, ok := typedef.Type.(*btf.Pointer)
	if !ok {
		return nil
	}
	proto, ok := pointer.Target.(*btf.FuncProto)
	if !ok || len(proto.Params) == 0 {
		return nil
	}
	return proto.Params[1:] // the first is the tracepoint's own
}

// hasMember tells whether the kernel has a struct with a member of that name.
func hasMember(spec *btf.Spec, name, member string) bool {
	var s *btf.Struct
	if spec.TypeByName(name, &s) != nil {
		return false
	}
	return slices.ContainsFunc(s.Members, func(m btf.Member) bool { return m.Name == member })
}

func isPointer(arguments []btf.FuncParam) bool {
	if len(arguments) == 0 {
		return false
	}
	_, ok := arguments[0].Type.(*btf.Pointer)
	return ok
}

// explain says what is missing and how to get it, as far as that can be told.
func explain(err error) string {
	for _, own := range []error{errNoVictim, errNoBlockTracepoint, errNoDropReason, errNoSchedInfo, errNoBandwidth, errNoUprobes} {
		if errors.Is(err, own) {
			return err.Error()
		}
	}
	return linux.Explain(err)
}
