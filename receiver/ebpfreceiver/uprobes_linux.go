//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// uprobe is a program at an instruction of a file.
type uprobe struct {
	program *ebpf.Program
	// offset is that of the instruction in the file.
	offset uint64
	// atReturn: the program runs when the function returns that begins there.
	atReturn bool
	cookie   uint64
}

// uprobes are those in executables and libraries: in each file once, however many
// processes run it, and for as long as one of them does.
type uprobes struct {
	mu     sync.Mutex
	files  map[executableKey]*probedFile
	failed int64
	closed bool
}

// probedFile holds the links, which the garbage collector would else close. It has
// none when the probes could not be set, which is not tried again meanwhile.
type probedFile struct {
	links []link.Link
	users map[processInfo]struct{}
}

// maxProbedFiles bounds the files that have probes at a time.
const maxProbedFiles = 512

var errNoUprobes = errors.New("this kernel has no uprobes: it needs CONFIG_UPROBE_EVENTS=y, as distributions have it")

// tryUprobe says whether a program may run at instructions of processes: it is put
// into a file that none runs.
func tryUprobe(p *ebpf.Program) error {
	if _, err := os.Stat("/sys/bus/event_source/devices/uprobe"); errors.Is(err, os.ErrNotExist) {
		return errNoUprobes
	}
	fd, err := unix.MemfdCreate("tapio-uprobe", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "memfd")
	defer f.Close()
	const instructions = 16
	if _, err := f.Write(make([]byte, instructions)); err != nil {
		return err
	}
	links, err := attachAll(f, func() ([]uprobe, error) { return []uprobe{{program: p, offset: instructions / 2}}, nil })
	return errors.Join(err, closeAll(links))
}

var errTooManyFiles = fmt.Errorf("%d other files have probes already", maxProbedFiles)

func newUprobes() *uprobes { return &uprobes{files: map[executableKey]*probedFile{}} }

// use has a process that runs a file probed there. What the probes are is asked
// for only when the file has none.
func (u *uprobes) use(who processInfo, f *os.File, probes func() ([]uprobe, error)) error {
	key, err := keyOfFile(f)
	if err != nil {
		return err
	}
	u.mu.Lock()
	isThere, err := u.join(key, who)
	u.mu.Unlock()
	if isThere || err != nil {
		return err
	}
	// Nobody else may wait for it: the file can be on a file system that never answers.
	links, err := attachAll(f, probes)
	u.mu.Lock()
	defer u.mu.Unlock()
	if isThere, problem := u.join(key, who); isThere || problem != nil { // such as closed meanwhile
		return errors.Join(problem, closeAll(links))
	}
	if err != nil {
		u.failed++
	}
	u.files[key] = &probedFile{links: links, users: map[processInfo]struct{}{who: {}}}
	return err
}

// join has a process use the probes of a file that has some. It fails when no other file may
// have any. The caller holds mu.
func (u *uprobes) join(key executableKey, who processInfo) (isThere bool, err error) {
	if file := u.files[key]; file != nil {
		file.users[who] = struct{}{}
		return true, nil
	}
	if u.closed {
		return false, os.ErrClosed
	}
	if len(u.files) >= maxProbedFiles {
		u.failed++
		return false, errTooManyFiles
	}
	return false, nil
}

func attachAll(f *os.File, probes func() ([]uprobe, error)) (links []link.Link, err error) {
	all, err := probes()
	if err != nil {
		return nil, err
	}
	// By this name the kernel finds the very file, also one of a container.
	executable, err := link.OpenExecutable(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		attach := executable.Uprobe
		if p.atReturn {
			attach = executable.Uretprobe
		}
		l, err := attach("", p.program, &link.UprobeOptions{Address: p.offset, Cookie: p.cookie})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach a probe at offset %#x: %w", p.offset, err), closeAll(links))
		}
		links = append(links, l)
	}
	return links, nil
}

// sweep takes the probes out of files that no process runs any more.
func (u *uprobes) sweep(runs func(processInfo) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for key, file := range u.files {
		for who := range file.users {
			if !runs(who) {
				delete(file.users, who)
			}
		}
		if len(file.users) == 0 {
			_ = closeAll(file.links) // the kernel takes them out all the same
			delete(u.files, key)
		}
	}
}

// counts are how many files have probes now, and how often one could get none.
func (u *uprobes) counts() (files, failed int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, file := range u.files {
		if len(file.links) > 0 {
			files++
		}
	}
	return files, u.failed
}

// close takes all probes out, and lets none in any more.
func (u *uprobes) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	var errs []error
	for _, file := range u.files {
		errs = append(errs, closeAll(file.links))
	}
	clear(u.files)
	return errors.Join(errs...)
}

func closeAll(links []link.Link) error {
	var errs []error
	for _, l := range links {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
