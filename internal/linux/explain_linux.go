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
		return explainPermission(Capabilities(), hasSeccompFilter(), err)
	}
	if _, statErr := os.Stat(BTF); statErr != nil {
		return fmt.Sprintf("the kernel has no BTF (%s): it needs CONFIG_DEBUG_INFO_BTF=y, which distributions have since 2021: %v", BTF, err)
	}
	return err.Error()
}

// explainPermission compares the process's effective capabilities with what
// loading and attaching need, and says what to set.
func explainPermission(caps uint64, filtered bool, err error) string {
	missing := missingToLoad(caps)
	if missing == nil {
		// What the library advises is for who writes programs, and not it: since Linux 5.11 no
		// memory for kernel programs is locked.
		said := strings.Replace(err.Error(), " (MEMLOCK may be too low, consider rlimit.RemoveMemlock)", "", 1)
		why := "a security policy forbids it (kernel lockdown, see /sys/kernel/security/lockdown, or an LSM such as SELinux or AppArmor)"
		if filtered {
			why = "a seccomp filter on this process is the likely reason; let it call bpf and perf_event_open: in Docker and Kubernetes by a seccomp profile with them " +
				"(or Unconfined), in a systemd unit by these two in its SystemCallFilter=, with systemd-nspawn by --system-call-filter='bpf perf_event_open'"
		}
		return fmt.Sprintf("the kernel refused although the capabilities are there: %s: %s", said, why)
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

// hasSeccompFilter says that system calls of this process are filtered.
func hasSeccompFilter() bool {
	status, err := os.ReadFile("/proc/self/status")
	return err == nil && strings.Contains(string(status), "\nSeccomp:\t2\n") // SECCOMP_MODE_FILTER
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
