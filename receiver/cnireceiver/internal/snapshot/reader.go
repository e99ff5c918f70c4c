// Package snapshot takes pictures of a container network: it reads the files of
// CNI, the network namespaces, and who lives in them. It decides nothing.
package snapshot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/result"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// Options say where things are. All paths are paths of the host.
type Options struct {
	// Root is where the host's / is, empty when it is the collector's.
	Root                                              string
	ConfigDirs, PluginDirs, ResultDirs, NamespaceDirs []string
	// DataDirs are stores of host-local, besides those in configurations.
	DataDirs []string
	// HostNamespace is the path of the host's network namespace.
	HostNamespace string
	// Pools, Interfaces, Processes and Conntrack say what to read besides
	// configurations, plugins and results.
	Pools, Interfaces, Processes, Conntrack bool
}

// Bounds of what is read. A node has some hundred pods; what is beyond is said
// in Picture.Unseen.
const (
	maxEntries    = 16384
	maxNamespaces = 4096
	// processesFor is how long a list of processes is good while every namespace
	// has one: it costs most.
	processesFor = 10 * time.Second
)

// Reader takes pictures. It is not safe for concurrent use.
type Reader struct {
	opts    Options
	results fileCache[*result.Attachment]
	owners  fileCache[reservationFile]
	digests fileCache[state.ConfigFile]
	// programs are what is wrong with executables, "" for nothing.
	programs fileCache[string]

	processes   processList
	processesAt time.Time
}

// NewReader returns a reader of what opts name.
func NewReader(opts Options) *Reader { return &Reader{opts: opts} }

// Read takes a picture. What cannot be read is said in it.
func (r *Reader) Read(now time.Time) *state.Picture {
	p := &state.Picture{At: now, Unseen: make(map[state.Source]string)}
	r.readConfigs(p)
	r.readPlugins(p)
	r.readResults(p)
	if r.opts.Pools {
		r.readSubnets(p)
		r.readReservations(p)
	}
	if r.opts.Interfaces || r.opts.Conntrack || r.opts.Processes {
		r.readNamespaces(p)
	}
	return p
}

// Files says how many files are remembered.
func (r *Reader) Files() int {
	return len(r.results.known) + len(r.owners.known) + len(r.digests.known) + len(r.programs.known)
}

// host is where a path of the host is for the collector.
func (r *Reader) host(path string) string {
	return Resolve(r.opts.Root, path)
}

// maxSymlinks is that of the kernel (MAXSYMLINKS in include/linux/namei.h).
const maxSymlinks = 40

// Resolve returns where a path of the host is, whose / is mounted at root. It
// follows symbolic links below root: an absolute link on the host, such as
// /var/run -> /run, would otherwise lead out of the mounted tree.
func Resolve(root, path string) string {
	if root == "" || root == "/" {
		return path
	}
	return filepath.Join(root, Canonical(root, path))
}

// Canonical is the path of the host to which an absolute path of the host leads, whose
// / is mounted at root (or is the collector's own, when root is empty).
func Canonical(root, path string) string {
	rest := strings.Split(strings.Trim(filepath.Clean(path), "/"), "/")
	done := "/"
	for links := 0; len(rest) > 0; {
		next := filepath.Join(done, rest[0])
		rest = rest[1:]
		target, err := os.Readlink(filepath.Join("/", root, next))
		if err != nil || isNamespace(target) || links >= maxSymlinks {
			done = next
			continue
		}
		links++
		if !filepath.IsAbs(target) {
			target = filepath.Join(done, target)
		}
		rest = append(strings.Split(strings.Trim(filepath.Clean(target), "/"), "/"), rest...)
		done = "/"
	}
	return done
}

// isNamespace says whether a link leads to a namespace, as those below /proc/PID/ns do:
// such a target, net:[4026531840] for one, is no path, and only the kernel follows it.
func isNamespace(target string) bool {
	_, number, ok := strings.Cut(target, ":[")
	return ok && strings.HasSuffix(number, "]") && !strings.Contains(target, "/")
}

// list returns the entries of a directory, sorted by name, at most maxEntries.
// A directory that is not there has none.
func (r *Reader) list(p *state.Picture, source state.Source, dir string) []os.DirEntry {
	f, err := os.Open(r.host(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		unseen(p, source, err)
		return nil
	}
	defer f.Close()
	entries, err := f.ReadDir(maxEntries + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		unseen(p, source, err)
	}
	if len(entries) > maxEntries {
		unseen(p, source, fmt.Errorf("%s has more than %d entries", dir, maxEntries))
		entries = entries[:maxEntries]
	}
	sortEntries(entries)
	return entries
}

func unseen(p *state.Picture, source state.Source, err error) {
	if p.Unseen[source] == "" {
		p.Unseen[source] = err.Error()
	}
}
