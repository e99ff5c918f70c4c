package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/receiver/cnireceiver"
	"github.com/yairfalse/tapio/receiver/systemdreceiver"
)

// hostReader reads what is below a root directory, / or that of a test.
type hostReader struct{ root string }

func readHost(root string) *diagnosis {
	h := hostReader{root}
	return &diagnosis{
		Host:         []fact{h.kernel(), h.types(), h.jit(), h.lockdown(), h.cgroups(), pidNamespace()},
		Capabilities: capabilities(linux.Capabilities()),
		Sources:      append(h.systemd(), h.cni()...),
	}
}

func (h hostReader) path(name string) string { return filepath.Join(h.root, name) }

// read returns the trimmed content of a small file.
func (h hostReader) read(name string) (string, error) {
	content, err := os.ReadFile(h.path(name))
	return strings.TrimSpace(string(content)), err
}

// missing is what a file that cannot be read means.
func missing(f fact, err error) fact {
	f.Has, f.Found = isMissing, "not there"
	if !errors.Is(err, fs.ErrNotExist) {
		f.Has, f.Found = isUnknown, err.Error()
	}
	return f
}

// oldest is the first kernel that is supported: 5.15.
const oldestMajor, oldestMinor = 5, 15

func (h hostReader) kernel() fact {
	f := fact{Name: "kernel", For: fmt.Sprintf("the programs need Linux %d.%d or newer on amd64 or arm64", oldestMajor, oldestMinor)}
	release, err := h.read("proc/sys/kernel/osrelease")
	if err != nil {
		return missing(f, err)
	}
	f.Has, f.Found = isMissing, "Linux "+release+" "+runtime.GOARCH
	if isNewEnough(release) && (runtime.GOARCH == "amd64" || runtime.GOARCH == "arm64") {
		f.Has = isThere
	}
	return f
}

func isNewEnough(release string) bool {
	parts := strings.FieldsFunc(release, func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) < 2 {
		return false
	}
	major, _ := strconv.Atoi(parts[0])
	minor, _ := strconv.Atoi(parts[1])
	return cmp.Or(cmp.Compare(major, oldestMajor), cmp.Compare(minor, oldestMinor)) >= 0
}

func (h hostReader) types() fact {
	f := fact{Name: "BTF", For: "the kernel's types, by which programs fit any kernel; it is built with CONFIG_DEBUG_INFO_BTF=y"}
	info, err := os.Stat(h.path(linux.BTF))
	if err != nil {
		return missing(f, err)
	}
	f.Has, f.Found = isThere, fmt.Sprintf("%s, %s", linux.BTF, bytesText(info.Size()))
	return f
}

func (h hostReader) jit() fact {
	f := fact{Name: "JIT", For: "programs cost several times as much without: net.core.bpf_jit_enable"}
	value, err := h.read("proc/sys/net/core/bpf_jit_enable")
	if err != nil {
		return missing(f, err)
	}
	f.Has, f.Found = isMissing, "off"
	if value != "0" {
		f.Has, f.Found = isThere, "on"
	}
	return f
}

// lockdown is what the kernel keeps from root: none, integrity or confidentiality,
// the one that holds in brackets.
func (h hostReader) lockdown() fact {
	f := fact{Name: "lockdown allows it", For: "the level confidentiality keeps the kernel's memory from programs"}
	value, err := h.read("sys/kernel/security/lockdown")
	if err != nil {
		f.Has, f.Found = isUnknown, "/sys/kernel/security is not mounted, or the kernel has no lockdown; whether programs attach tells"
		if !errors.Is(err, fs.ErrNotExist) {
			f.Found = err.Error()
		}
		return f
	}
	_, level, _ := strings.Cut(value, "[")
	level, _, _ = strings.Cut(level, "]")
	f.Has, f.Found = isThere, "level "+level
	if level == "confidentiality" {
		f.Has = isMissing
	}
	return f
}

func (h hostReader) cgroups() fact {
	f := fact{Name: "cgroups", For: "the memory controller names the container of an event, and the limit of an out-of-memory kill"}
	const folder = "sys/fs/cgroup"
	exists := func(name string) bool {
		_, err := os.Stat(h.path(filepath.Join(folder, name)))
		return err == nil
	}
	switch {
	case exists("cgroup.controllers"):
		controllers, _ := h.read(folder + "/cgroup.controllers")
		f.Has, f.Found = isMissing, "v2 without the memory controller"
		if strings.Contains(" "+controllers+" ", " memory ") {
			f.Has, f.Found = isThere, "v2 with the memory controller"
		}
	case exists("memory/memory.limit_in_bytes") && exists("unified/cgroup.procs"):
		f.Has, f.Found = isThere, "hybrid: the memory controller is v1's"
	case exists("memory/memory.limit_in_bytes"):
		f.Has, f.Found = isThere, "v1 with the memory controller"
	case exists(""):
		f.Has, f.Found = isMissing, "no memory controller in /"+folder
	default:
		f.Has, f.Found = isUnknown, "/"+folder+" is not mounted"
	}
	return f
}

func pidNamespace() fact {
	f := fact{Name: "host's pid namespace", For: "processes are reported with their process.pid (hostPID: true in Kubernetes)"}
	ns, err := linux.PIDNamespace()
	if err != nil {
		return missing(f, err)
	}
	f.Has = isThere
	if ns != 0 {
		f.Has, f.Found = isMissing, "this process is in one of its own"
	}
	return f
}

// neededCapabilities are those of the table Permissions in the README of each receiver.
var neededCapabilities = []struct {
	name string
	bit  int
	use  string
}{
	{"CAP_BPF", unix.CAP_BPF, "tapio_ebpf, tapio_cni: creating maps, loading programs"},
	{"CAP_PERFMON", unix.CAP_PERFMON, "tapio_ebpf, tapio_cni: reading kernel memory, attaching to tracepoints"},
	{"CAP_SYSLOG", unix.CAP_SYSLOG, "tapio_ebpf: reading /dev/kmsg where kernel.dmesg_restrict is 1"},
	{"CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE, "tapio_ebpf: service.name of other users' processes; tapio_cni: in which network namespaces processes live"},
	{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN, "tapio_cni: entering the network namespaces of pods; stands in for CAP_BPF and CAP_PERFMON"},
	{"CAP_NET_BROADCAST", unix.CAP_NET_BROADCAST, "tapio_cni: hearing of changes inside pods at once"},
}

func capabilities(effective uint64) (out []fact) {
	for _, c := range neededCapabilities {
		f := fact{Name: c.name, Has: isMissing, For: c.use}
		if effective&(1<<c.bit) != 0 {
			f.Has = isThere
		}
		out = append(out, f)
	}
	return out
}

// systemd looks for what tapio_systemd reads by default.
func (h hostReader) systemd() []fact {
	cfg := systemdreceiver.NewFactory().CreateDefaultConfig().(*systemdreceiver.Config)
	socket := h.path(strings.TrimPrefix(cfg.Units.BusAddress, "unix:path="))
	bus := fact{Name: "system bus", Has: isThere, Found: socket, For: "tapio_systemd: units and jobs"}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		bus = missing(bus, err)
	} else {
		_ = conn.Close()
	}
	journal := fact{Name: "journal", Has: isMissing, Found: "none in " + strings.Join(cfg.Journal.Directories, ", "), For: "tapio_systemd: the journal"}
	for _, dir := range cfg.Journal.Directories {
		files, _ := filepath.Glob(h.path(filepath.Join(dir, "*", "*.journal")))
		if len(files) == 0 {
			continue
		}
		file, err := os.Open(files[0])
		if err != nil {
			journal.Has, journal.Found = isMissing, err.Error()+": join the group systemd-journal"
			continue
		}
		_ = file.Close()
		journal.Has, journal.Found = isThere, dir
		break
	}
	return []fact{bus, journal}
}

// cni looks for the directories that tapio_cni reads by default.
func (h hostReader) cni() (out []fact) {
	cfg := cnireceiver.NewFactory().CreateDefaultConfig().(*cnireceiver.Config)
	for _, of := range []struct {
		name string
		dirs []string
	}{
		{"CNI configurations", cfg.ConfigDirs},
		{"CNI plugins", cfg.PluginDirs},
		{"CNI results", cfg.ResultDirs},
		{"named network namespaces", cfg.NamespaceDirs},
	} {
		f := fact{Name: of.name, Has: isMissing, Found: "none in " + strings.Join(of.dirs, ", "), For: "tapio_cni"}
		for _, dir := range of.dirs {
			entries, err := os.ReadDir(h.path(dir))
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				f.Has, f.Found = isUnknown, err.Error()
			case len(entries) > 0:
				f.Has, f.Found = isThere, countText(int64(len(entries)), "file")+" in "+dir
			}
		}
		out = append(out, f)
	}
	return out
}
