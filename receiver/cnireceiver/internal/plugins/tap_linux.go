//go:build linux && (amd64 || arm64)

package plugins

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/yairfalse/tapio/bpf"
)

// tap attaches the programs that look at streams, and detaches them when no
// plugin began for a while.
type tap struct {
	programs []*ebpf.Program
	output   Output

	mu     sync.Mutex
	links  []link.Link
	timer  *time.Timer
	last   time.Time
	closed bool
}

func newTap(c *ebpf.Collection, output Output) *tap {
	t := &tap{output: output, programs: []*ebpf.Program{c.Programs[bpf.CNIProgCniWrite], c.Programs[bpf.CNIProgCniRead]}}
	t.timer = time.AfterFunc(linger, t.expire)
	t.timer.Stop()
	return t
}

// try attaches once, to find out whether that works. What is always to be open
// stays so.
func (t *tap) try() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.attach()
	if err != nil || t.output == OutputOnDemand {
		err = errors.Join(err, t.detach())
	}
	return err
}

// open attaches, at once, and keeps it so for linger. It cannot fail where try
// succeeded; should it, the messages are missed, which is counted.
func (t *tap) open() {
	if t.output != OutputOnDemand {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.last = time.Now()
	if t.links != nil {
		return
	}
	if t.attach() != nil {
		_ = t.detach()
		return
	}
	t.timer.Reset(linger)
}

// expire runs linger after the programs were attached.
func (t *tap) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	if left := linger - time.Since(t.last); left > 0 {
		t.timer.Reset(left)
		return
	}
	_ = t.detach()
}

func (t *tap) attach() error {
	for _, p := range t.programs {
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			return fmt.Errorf("attach to system calls: %w", err)
		}
		t.links = append(t.links, l)
	}
	return nil
}

func (t *tap) detach() error {
	var errs []error
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	t.links = nil
	return errors.Join(errs...)
}

func (t *tap) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.timer.Stop()
	return t.detach()
}
