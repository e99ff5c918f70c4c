package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/cgroup"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// processList says where processes live.
type processList struct {
	// namespaces are inodes of network namespaces, containers ids.
	namespaces map[uint64]bool
	containers map[string]bool
	problem    string
}

// readProcesses puts into the picture which containers live, and in which of its
// namespaces a process does. A namespace that the last list does not know may be
// new, so there is a new list then.
func (r *Reader) readProcesses(p *state.Picture) {
	fresh := !r.processesAt.IsZero() && time.Since(r.processesAt) < processesFor
	for _, ns := range p.Namespaces {
		fresh = fresh && (ns.IsHost || r.processes.namespaces[ns.Inode])
	}
	if !fresh {
		r.processes = listProcesses(r.opts.Root)
		r.processesAt = time.Now()
	}
	p.Containers = r.processes.containers
	if r.processes.problem != "" {
		unseen(p, state.SourceProcesses, errors.New(r.processes.problem))
	}
	for _, ns := range p.Namespaces {
		ns.HasProcess = r.processes.namespaces[ns.Inode]
	}
}

// firstPIDNamespace is what /proc/self/ns/pid of the machine's first pid
// namespace links to (PROC_PID_INIT_INO in include/linux/proc_ns.h).
const firstPIDNamespace = "pid:[4026531836]"

// listProcesses reads /proc. A process that ends meanwhile is left out.
func listProcesses(root string) processList {
	l := processList{namespaces: make(map[uint64]bool), containers: make(map[string]bool)}
	proc := filepath.Join("/", root, "proc")
	if ns, err := os.Readlink("/proc/self/ns/pid"); root == "" && err == nil && ns != firstPIDNamespace {
		l.problem = "the collector is in a pid namespace of its own; run it in the host's (hostPID: true), or mount the host's /proc and set root_path"
		return l
	}
	f, err := os.Open(proc)
	if err != nil {
		l.problem = err.Error()
		return l
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		l.problem = err.Error()
	}
	if l.problem == "" && !slices.Contains(names, "1") { // which there always is
		l.problem = fmt.Sprintf("%s hides the processes of others (hidepid, or systemd's ProtectProc=); it takes CAP_SYS_PTRACE to see them", proc)
	}
	for _, name := range names {
		// The first process is no pod's, and often lets nobody look.
		if pid, err := strconv.Atoi(name); err == nil && pid != 1 {
			l.add(filepath.Join(proc, name))
		}
	}
	return l
}

func (l *processList) add(dir string) {
	link, err := os.Readlink(filepath.Join(dir, "ns", "net"))
	switch {
	case err == nil:
		if inode, ok := namespaceInode(link); ok {
			l.namespaces[inode] = true
		}
	case errors.Is(err, os.ErrPermission):
		l.problem = fmt.Sprintf("not permitted to see the network namespaces of processes; it takes root or CAP_SYS_PTRACE: %v", err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(content)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // hierarchy:controllers:path
		if len(parts) == 3 {
			if id := cgroup.Parse(parts[2]).ContainerID; id != "" {
				l.containers[id] = true
			}
		}
	}
}

// namespaceInode reads the target of a link such as net:[4026531840].
func namespaceInode(link string) (uint64, bool) {
	text, ok := strings.CutPrefix(link, "net:[")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
	return inode, err == nil
}
