package memlimit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// namePrefix begins the name of every cgroup that Create makes; the pid of its
// maker follows.
const namePrefix = "tapio-checkout-"

// Cgroup is a memory cgroup with a limit, made by Create.
type Cgroup struct {
	// Version of the hierarchy: 1 or 2.
	Version int
	// Dir is its directory.
	Dir string
	// Limit is what the kernel enforces, in bytes: what was asked for, rounded
	// down to pages.
	Limit int64
}

// Create makes a cgroup with that limit, for memory and swap together, in the
// first of the parents that allows it. The caller removes it with Remove.
func Create(parents []Parent, limit Bytes) (*Cgroup, error) {
	var errs []error
	for _, p := range parents {
		c, err := createIn(p, limit)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func createIn(p Parent, limit Bytes) (*Cgroup, error) {
	c := &Cgroup{Version: p.Version, Dir: filepath.Join(p.Dir, namePrefix+strconv.Itoa(os.Getpid()))}
	if err := os.Mkdir(c.Dir, 0o750); err != nil {
		return nil, err
	}
	if err := c.setLimit(limit); err != nil {
		return nil, errors.Join(err, os.Remove(c.Dir))
	}
	return c, nil
}

func (c *Cgroup) setLimit(limit Bytes) error {
	memory, swap, swapLimit := "memory.max", "memory.swap.max", "0"
	if c.Version == 1 {
		// memsw counts memory and swap together.
		memory, swap, swapLimit = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", strconv.FormatInt(int64(limit), 10)
	}
	if err := c.write(memory, strconv.FormatInt(int64(limit), 10)); err != nil {
		return err
	}
	// Absent where the kernel does not account swap: then there is nothing to limit.
	if err := c.write(swap, swapLimit); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	b, err := os.ReadFile(filepath.Join(c.Dir, memory))
	if err != nil {
		return err
	}
	c.Limit, err = strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return err
}

// write sets one file of the cgroup. It makes none: os.WriteFile would try to.
func (c *Cgroup) write(file, value string) error {
	f, err := os.OpenFile(filepath.Join(c.Dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// OOMKills returns how many processes the kernel has killed because the cgroup
// was at its limit.
func (c *Cgroup) OOMKills() (int64, error) {
	file := "memory.events"
	if c.Version == 1 {
		file = "memory.oom_control"
	}
	b, err := os.ReadFile(filepath.Join(c.Dir, file))
	if err != nil {
		return 0, err
	}
	return oomKills(b)
}

// oomKills reads the line "oom_kill N", which both versions have.
func oomKills(b []byte) (int64, error) {
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if n, ok := strings.CutPrefix(s.Text(), "oom_kill "); ok {
			return strconv.ParseInt(n, 10, 64)
		}
	}
	return 0, errors.New("no oom_kill counter: it needs Linux 4.13 or newer")
}

// Remove removes the cgroup. Its processes must have ended; the kernel may need
// a moment after that, so Remove tries until ctx ends.
func (c *Cgroup) Remove(ctx context.Context) error {
	for {
		err := os.Remove(c.Dir)
		if err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cgroup is left behind: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// RemoveStale removes the cgroups that makers who were killed left in the
// parents, and returns their directories. One that is in use stays.
func RemoveStale(parents []Parent) []string {
	var removed []string
	for _, p := range parents {
		dirs, _ := filepath.Glob(filepath.Join(p.Dir, namePrefix+"*"))
		for _, d := range dirs {
			pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(d), namePrefix))
			if err != nil || isAlive(pid) {
				continue
			}
			if os.Remove(d) == nil {
				removed = append(removed, d)
			}
		}
	}
	return removed
}

func isAlive(pid int) bool {
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}
