package memlimit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Exec limits this process and then becomes the program argv, which keeps the
// pid: all memory that it ever takes is charged to the limit. cgroupDir names a
// memory cgroup; when it is empty, RLIMIT_DATA is set to dataLimit more than this
// process maps by itself: a Go program maps some 70 MiB at its start that it
// hardly uses, and argv is expected to be one. The program dies with the parent
// of this process. Exec returns only when it failed.
func Exec(cgroupDir string, dataLimit Bytes, argv []string) error {
	if len(argv) == 0 {
		return errors.New("no program: want -- PROGRAM [ARGUMENT...]")
	}
	if err := limitSelf(cgroupDir, dataLimit); err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	// The signal for the death of the parent belongs to a thread, and the thread
	// that calls exec becomes the main one: it need not be the one for which the
	// parent asked.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_PDEATHSIG: %w", err)
	}
	return fmt.Errorf("exec %s: %w", path, unix.Exec(path, argv, os.Environ()))
}

func limitSelf(cgroupDir string, dataLimit Bytes) error {
	if cgroupDir != "" {
		c := Cgroup{Dir: cgroupDir}
		if err := c.write("cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
			return fmt.Errorf("entering cgroup %s: %w", filepath.Base(cgroupDir), err)
		}
		return nil
	}
	if dataLimit <= 0 {
		return fmt.Errorf("data limit %d: want more than 0 bytes, or a cgroup", int64(dataLimit))
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	own, err := dataSize(status)
	if err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: uint64(own + dataLimit), Max: uint64(own + dataLimit)}
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &limit); err != nil {
		return fmt.Errorf("RLIMIT_DATA of %s: %w", own+dataLimit, err)
	}
	return nil
}

// dataSize reads VmData, which is what RLIMIT_DATA counts, from the text of
// /proc/PID/status.
func dataSize(status []byte) (Bytes, error) {
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmData:" && f[2] == "kB" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return Bytes(kib << 10), err
		}
	}
	return 0, errors.New("no line \"VmData: N kB\" in /proc/self/status")
}
