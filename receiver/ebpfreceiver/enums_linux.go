//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"strconv"

	"github.com/cilium/ebpf/btf"
)

// resetReasons reads enum sk_rst_reason.
func resetReasons(spec *btf.Spec) map[uint32]string {
	return enumNames(spec, "sk_rst_reason", "SK_RST_REASON_")
}

// dropReasons reads enum skb_drop_reason of a kernel that hands it over.
func dropReasons(spec *btf.Spec) map[uint32]string {
	if len(tracepointArguments(spec, "kfree_skb")) < 3 {
		return nil
	}
	return enumNames(spec, "skb_drop_reason", "SKB_DROP_REASON_")
}

// enumNames are the values of an enum of the kernel, in lower case and without
// their prefix; nil when it has no such enum.
func enumNames(spec *btf.Spec, enum, prefix string) map[uint32]string {
	var e *btf.Enum
	if spec.TypeByName(enum, &e) != nil {
		return nil
	}
	out := make(map[uint32]string, len(e.Values))
	for _, v := range e.Values {
		if _, ok := out[uint32(v.Value)]; !ok {
			out[uint32(v.Value)] = lowerName(v.Name, prefix)
		}
	}
	return out
}

// named puts the kernel's own names in the place of numbers.
func (f *features) named(ev kernelEvent) kernelEvent {
	if e, ok := ev.(resetEvent); ok && e.reasonNumber != 0 {
		e.reason = nameOf(f.resetReasons, e.reasonNumber)
		return e
	}
	return ev
}

func nameOf(names map[uint32]string, number uint32) string {
	if name, ok := names[number]; ok {
		return name
	}
	return "reason_" + strconv.Itoa(int(number))
}
