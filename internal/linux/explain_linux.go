package linux

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BTF is where kernels built with CONFIG_DEBUG_INFO_BTF have their types.
const BTF = "/sys/kernel/btf/vmlinux"

// Explain says, of an error of loading or attaching a program, what is missing and
// how to get it, as far as that can be told.
func Explain(err error) string {
	var rejected *ebpf.VerifierError
	if errors.Is(err, os.ErrPermission) && !errors.As(err, &rejected) {
		return explainPermission(Capabilities(), err)
	}
	if _, statErr := os.Stat(BTF); statErr != nil {
		return fmt.Sprintf("the kernel has no BTF (%s): it needs CONFIG_DEBUG_INFO_BTF=y, which distributions have since 2021: %v", BTF, err)
	}
	return err.Error()
}

// explainPermission compares the process's effective capabilities with what
// loading and attaching need.
func explainPermission(caps uint64, err error) string {
	missing := missingToLoad(caps)
	if missing == nil {
		return fmt.Sprintf("the kernel refused although the capabilities are there; a security policy (seccomp, lockdown, LSM) may forbid it: %v", err)
	}
	return "not permitted: missing " + strings.Join(missing, " and ") + "; run as root or give the collector these capabilities"
}

// MayLoad says whether this process has the capabilities that loading and
// attaching kernel programs need.
func MayLoad() bool { return missingToLoad(Capabilities()) == nil }

func missingToLoad(caps uint64) (missing []string) {
	has := func(bit int) bool { return caps&(1<<bit) != 0 }
	if has(unix.CAP_SYS_ADMIN) {
		return nil
	}
	if !has(unix.CAP_BPF) {
		missing = append(missing, "CAP_BPF")
	}
	if !has(unix.CAP_PERFMON) {
		missing = append(missing, "CAP_PERFMON")
	}
	return missing
}

// Capabilities returns the effective set of this process, a bit for each of
// <linux/capability.h>; 0 when it cannot be read.
func Capabilities() uint64 {
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
