//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// firstPIDNamespace is the inode of the machine's first pid namespace
// (PROC_PID_INIT_INO in include/linux/proc_ns.h).
const firstPIDNamespace = 0xEFFFFFFC

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
}

func readFeatures() (*features, error) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's type information: %w", err)
	}
	ns, err := inodeOf("/proc/self/ns/pid")
	if err != nil {
		return nil, err
	}
	if ns == firstPIDNamespace {
		ns = 0
	}
	f := featuresOf(spec)
	f.pidNamespace = ns
	return &f, nil
}

// featuresOf reads what the kernel's types tell.
func featuresOf(spec *btf.Spec) features {
	return features{
		exitHasGroupDead: len(tracepointArguments(spec, "sched_process_exit")) >= 2,
		victimHasTask:    isPointer(tracepointArguments(spec, "mark_victim")),
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

func isPointer(arguments []btf.FuncParam) bool {
	if len(arguments) == 0 {
		return false
	}
	_, ok := arguments[0].Type.(*btf.Pointer)
	return ok
}

// kernelBTF is where kernels built with CONFIG_DEBUG_INFO_BTF have their types.
const kernelBTF = "/sys/kernel/btf/vmlinux"

// explain says what is missing and how to get it, as far as that can be told.
func explain(err error) string {
	var rejected *ebpf.VerifierError
	switch {
	case errors.Is(err, os.ErrPermission) && !errors.As(err, &rejected):
		return explainPermission(readCapabilities(), err)
	case errors.Is(err, errNoVictim):
		return err.Error()
	}
	if _, statErr := os.Stat(kernelBTF); statErr != nil {
		return fmt.Sprintf("the kernel has no BTF (%s): it needs CONFIG_DEBUG_INFO_BTF=y, which distributions have since 2021: %v", kernelBTF, err)
	}
	return err.Error()
}

// explainPermission compares the process's effective capabilities with what
// loading and attaching need.
func explainPermission(caps uint64, err error) string {
	has := func(bit int) bool { return caps&(1<<bit) != 0 }
	if has(unix.CAP_SYS_ADMIN) || has(unix.CAP_BPF) && has(unix.CAP_PERFMON) {
		return fmt.Sprintf("the kernel refused although the capabilities are there; a security policy (seccomp, lockdown, LSM) may forbid it: %v", err)
	}
	var missing []string
	if !has(unix.CAP_BPF) {
		missing = append(missing, "CAP_BPF")
	}
	if !has(unix.CAP_PERFMON) {
		missing = append(missing, "CAP_PERFMON")
	}
	return "not permitted: missing " + strings.Join(missing, " and ") + "; run as root or give the collector these capabilities"
}

// readCapabilities returns the effective set, 0 when it cannot be read.
func readCapabilities() uint64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	return parseCapabilities(string(status))
}

func parseCapabilities(status string) uint64 {
	_, rest, _ := strings.Cut(status, "\nCapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	caps, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		return 0
	}
	return caps
}
