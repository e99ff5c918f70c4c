//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/kmsg"
	"github.com/yairfalse/tapio/internal/linux"
)

// tells is what nobody sees without each program.
var tells = map[string]string{
	bpf.ProcessProgProcessExec:   "processes that begin, and the service.name of those that begin after the receiver",
	bpf.ProcessProgProcessExit:   "processes that end, with exit code or signal",
	bpf.ProcessProgProcessSignal: "who sent a fatal signal to whom",

	bpf.MemoryProgOomKill: "out-of-memory kills with victim, limit and who asked for the memory; the kernel's log, where it is read, has less",

	bpf.SyscallsProgSyscallFailed: "system calls that fail: ENOSPC, EMFILE and the like at once, all others counted",

	bpf.NetworkProgTcpConnect:       "failed connects with their reason; who listens; which connections there are, for all other programs of the group",
	bpf.NetworkProgTcpListeners:     "who was listening before the receiver started",
	bpf.NetworkProgTcpConnections:   "connections of before the receiver started",
	bpf.NetworkProgTcpBytes:         "bytes of connections that are open",
	bpf.NetworkProgTcpOverflow:      "listeners that drop connections because their queue is full",
	bpf.NetworkProgTcpResetReceived: "resets by the other end",
	bpf.NetworkProgTcpResetSent:     "resets by this end",
	bpf.NetworkProgTcpRetransmit:    "segments that were sent again",

	bpf.DNSProgDnsAsk:           "which DNS questions were asked by whom, and those that nobody answered",
	bpf.DNSProgDnsAnswer:        "DNS lookups that fail or are slow",
	bpf.DNSProgDnsStreamSend:    "DNS lookups over TCP that fail or are slow",
	bpf.DNSProgDnsStreamReceive: "DNS lookups over TCP that fail or are slow",
	bpf.DNSProgDnsStreamCalls:   "DNS lookups over TCP that fail or are slow",

	bpf.DNSProgUdpListen: "which process serves at an address of UDP: whose fault it is that names are not found",

	bpf.DiskProgBlockError:   "requests to block devices that fail; the kernel's log, where it is read, has less",
	bpf.DiskProgBlockLatency: "block devices that become slow, by cgroup",

	"process_fork":         "fork rate by cgroup, and storms of forks",
	"memory_samples":       "processes that grow steadily, the precursor of a leak",
	"direct_reclaim_begin": "stalls for memory of the machine, by cgroup",
	"direct_reclaim_end":   "stalls for memory of the machine, by cgroup",
	"memcg_reclaim_begin":  "stalls for memory of a cgroup at its limit",
	"memcg_reclaim_end":    "stalls for memory of a cgroup at its limit",
	"run_queue":            "how long tasks wait for a processor, by cgroup",
	"cpu_throttled":        "CPU throttling by cgroup",

	"packet_dropped":        "packets that the kernel drops, by reason",
	"http_fork":             "which request the children of a thread work on",
	"http_exec":             "that a process that becomes another program works on no request any more",
	"http_sockets":          "which request a socket belongs to, for events outside of its process",
	"http_calls":            "which request a thread or goroutine works on: trace ids on failed connects, resets, retransmissions, system calls that fail at once, OOM kills and the end of processes; spans of programs without SDK",
	"http_goroutine_call":   "which request the goroutines of Go programs were started for",
	"http_goroutine_return": "which request the goroutines of Go programs were started for",
	"http_tls_call":         "which request a thread works on that came over TLS (OpenSSL)",
	"http_tls_return":       "which request a thread works on that came over TLS (OpenSSL)",
	"http_tls_free":         "that what OpenSSL does next at the same address is another connection",
	"http_listeners":        "servers of before the receiver started",

	kmsgName: "messages of the kernel that no tracepoint tells: lockups, hung tasks, file systems, disks, hardware errors",
}

// Support loads and attaches all programs of the receiver, those of groups that
// are off by default included, as the receiver does when it starts, and detaches
// them again. It does not fail: what this process may not do, or the kernel has
// not, is in the result. It does not need privileges, but knows less without.
func Support() []GroupSupport {
	types := btf.NewCache()
	kernelTypes, _ := types.Kernel() // nil: what the kernel has is unknown
	var out []GroupSupport
	defaults := createDefaultConfig().(*Config)
	for _, name := range groupNames() {
		cfg := onlyGroup(name)
		group := GroupSupport{Name: name, Default: isEnabled(&defaults.Programs, name)}
		wanted := programs(cfg)
		k := openKernel(cfg, wanted, zap.NewNop())
		for _, p := range wanted {
			if !p.isNeeded(k.features) {
				continue
			}
			group.Programs = append(group.Programs, supportOf(p, k, kernelTypes))
		}
		if m := openMessages(cfg, nil, zap.NewNop()); m != nil {
			group.Programs = append(group.Programs, supportOfMessages(m))
		}
		_ = k.close() // what was not made cannot be closed either
		out = append(out, group)
	}
	return out
}

func supportOf(p program, k *kernel, types *btf.Spec) ProgramSupport {
	s := ProgramSupport{Name: p.name, Tells: tells[p.name], Runs: slices.Contains(k.attached(), p.name)}
	for _, f := range k.failures {
		if f.program == p.name {
			s.Runs, s.Reason, s.Denied = false, f.reason, !linux.MayLoad()
		}
	}
	if spec, err := p.load(); err == nil {
		s.Hook = spec.Programs[p.name].SectionName
		s.Needs = needs(spec, p.name, types)
	}
	return s
}

func supportOfMessages(m *messages) ProgramSupport {
	s := ProgramSupport{Name: kmsgName, Tells: tells[kmsgName], Runs: m.failure == nil}
	if m.failure != nil {
		_, err := os.Open(kmsg.Device)
		s.Reason, s.Denied = m.failure.reason, errors.Is(err, os.ErrPermission)
		return s
	}
	_ = m.stop()
	return s
}

// needs reads from an object file what a program of it uses, and looks it up in
// the kernel's types; nil types are those of a kernel that cannot be asked.
func needs(spec *ebpf.CollectionSpec, name string, types *btf.Spec) []Need {
	p := spec.Programs[name]
	helpers, used := map[string]bool{}, map[string]bool{}
	for _, ins := range p.Instructions {
		if ins.IsBuiltinCall() {
			helpers[strings.TrimPrefix(asm.BuiltinFunc(ins.Constant).String(), "Fn")] = true
		}
		if m := spec.Maps[ins.Reference()]; m != nil && ins.IsLoadFromMap() {
			used[strings.Replace(m.Type.String(), "LRUCPU", "LRUPerCPU", 1)] = true // as the kernel calls it
		}
	}
	var out []Need
	if p.AttachType == ebpf.AttachTraceRawTp {
		has := NeedIsUnknown
		if types != nil {
			has = yesOrNo(tracepointArguments(types, p.AttachTo) != nil)
		}
		out = append(out, Need{"tracepoint", p.AttachTo, has})
	}
	for _, name := range slices.Sorted(maps.Keys(helpers)) {
		out = append(out, enumNeed(types, "helper", "bpf_func_id", "BPF_FUNC_", name))
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		out = append(out, enumNeed(types, "map", "bpf_map_type", "BPF_MAP_TYPE_", name))
	}
	return out
}

func yesOrNo(has bool) string {
	if has {
		return NeedIsThere
	}
	return NeedIsMissing
}

// enumNeed looks up a value of an enum of the kernel, which writes a name of Go
// such as RingbufReserve in its own way: ringbuf_reserve.
func enumNeed(types *btf.Spec, kind, enum, prefix, name string) Need {
	var e *btf.Enum
	if types == nil || types.TypeByName(enum, &e) != nil {
		return Need{kind, strings.ToLower(name), NeedIsUnknown}
	}
	for _, v := range e.Values {
		if plain(v.Name) == plain(prefix+name) {
			return Need{kind, lowerName(v.Name, prefix), NeedIsThere}
		}
	}
	return Need{kind, strings.ToLower(name), NeedIsMissing}
}

func plain(name string) string { return strings.ToLower(strings.ReplaceAll(name, "_", "")) }
