package memlimit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Exec limits this process and then becomes the program argv, which keeps the
// pid: all memory that it ever takes is charged to the limit. cgroupDir names a
// memory cgroup; when it is empty, dataLimit (bytes) is set as RLIMIT_DATA. It
// returns only when it failed.
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
	limit := unix.Rlimit{Cur: uint64(dataLimit), Max: uint64(dataLimit)}
	if err := unix.Setrlimit(unix.RLIMIT_DATA, &limit); err != nil {
		return fmt.Errorf("RLIMIT_DATA of %s: %w", dataLimit, err)
	}
	return nil
}
