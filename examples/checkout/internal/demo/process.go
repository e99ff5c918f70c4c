package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// launcher starts processes that the kernel kills when the orchestrator dies,
// even of SIGKILL (PR_SET_PDEATHSIG). That signal is tied to the thread that
// started the process, not to the program, so one thread that never ends starts
// them all.
type launcher struct {
	work chan func()
}

func newLauncher() *launcher {
	l := &launcher{work: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range l.work {
			f()
		}
		// Reached when all are stopped: the thread may end now.
	}()
	return l
}

func (l *launcher) close() { close(l.work) }

// process is one that was started, in a process group of its own.
type process struct {
	name    string
	logPath string
	cmd     *exec.Cmd
	// ended is closed once the process is gone; endedAt is set then.
	ended   chan struct{}
	endedAt time.Time
}

// start runs argv with exactly that environment, its output going to a new file.
func (l *launcher) start(name string, argv, env []string, logPath string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer func() { _ = log.Close() }() // the process has a copy
	// Not tied to a context: stop ends it, in the order that cleanup wants.
	cmd := exec.CommandContext(context.Background(), argv[0], argv[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
	// A group of its own: Ctrl-C reaches the orchestrator alone, which then stops
	// the others in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	l.work <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p := &process{name: name, logPath: logPath, cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		p.endedAt = time.Now()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// how says how an ended process ended, such as "signal: killed" or "exit status 2".
func (p *process) how() string { return p.cmd.ProcessState.String() }

// failed reports whether an ended process ended with anything but code 0.
func (p *process) failed() bool { return !p.cmd.ProcessState.Success() }

// signal sends sig to the process alone.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return nil
}

// stop ends the process and all of its group: politely, and after grace not.
func (p *process) stop(grace time.Duration) {
	if p.hasEnded() {
		return
	}
	p.signalGroup(syscall.SIGTERM)
	p.signalGroup(syscall.SIGCONT) // who is frozen heeds nothing
	select {
	case <-p.ended:
		return
	case <-time.After(grace):
	}
	p.signalGroup(syscall.SIGKILL)
	<-p.ended
}

func (p *process) signalGroup(sig syscall.Signal) {
	// It fails when the process ended meanwhile, which is what is wanted.
	_ = syscall.Kill(-p.pid(), sig)
}

// logTail returns the last lines of what the process wrote, indented.
func (p *process) logTail(lines int) string {
	b, err := os.ReadFile(p.logPath)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		return "    " + err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return "    " + strings.Join(all, "\n    ")
}
