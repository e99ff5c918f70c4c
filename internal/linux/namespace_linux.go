package linux

import (
	"os"
	"syscall"
)

// firstPIDNamespace is the inode of the machine's first pid namespace
// (PROC_PID_INIT_INO in include/linux/proc_ns.h).
const firstPIDNamespace = 0xEFFFFFFC

// PIDNamespace is the inode of this process's pid namespace as the kernel programs
// want it: 0 for the first one of the machine.
func PIDNamespace() (uint32, error) {
	info, err := os.Stat("/proc/self/ns/pid")
	if err != nil {
		return 0, err
	}
	if ino := uint32(info.Sys().(*syscall.Stat_t).Ino); ino != firstPIDNamespace {
		return ino, nil
	}
	return 0, nil
}
