//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockInterval is the time between two attempts to get the lock.
const lockInterval = 50 * time.Millisecond

// lock makes this process the only collector that keeps findings in the database: two
// would overwrite each other's, and end at their start those that the other one follows.
// The system releases it when the file is closed or the process ends, however it does. It
// lies in a file of its own, because closing the database's would release SQLite's locks;
// readers such as sqlite3 need none. One that is about to end is waited for.
func lock(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600) // #nosec G304 -- path is the operator's
	if err != nil {
		return nil, fmt.Errorf("cannot open the lock of the findings database: %w; set `path` to a place that this user may write to", err)
	}
	for deadline := time.Now().Add(busyTimeout); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) // #nosec G115 -- a file descriptor is small
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("cannot lock the findings database: %s.lock: %w; set `path` to a local disk", path, err), f.Close())
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, errors.Join(&inUseError{path: path, by: holder(f)}, f.Close())
		}
		select {
		case <-ctx.Done():
		case <-time.After(lockInterval):
		}
	}
	// Who holds it is for people only; a lock without it is as good.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

// holder says who holds a lock.
func holder(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0)
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n]))); err == nil {
		return fmt.Sprintf("process %d", pid)
	}
	return "another process"
}
