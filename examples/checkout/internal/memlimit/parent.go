package memlimit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Parent is a cgroup in which a child with a memory limit may be made.
type Parent struct {
	// Version of the hierarchy: 1 or 2.
	Version int
	// Dir is its directory.
	Dir string
}

// FindParents returns where this process could make a memory cgroup, best first.
// root is "/", or a copy of the files below it (proc/self/cgroup,
// proc/self/mountinfo and the cgroup tree). Nothing is changed. It fails when
// the machine has no memory controller, or none that can be used here.
func FindParents(root string) ([]Parent, error) {
	paths, err := readPaths(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil, err
	}
	mounts, err := readMounts(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return nil, err
	}
	v2, err := findV2(root, paths, mounts)
	if len(v2) > 0 {
		return v2, nil
	}
	v1, errV1 := findV1(root, paths, mounts)
	if errV1 != nil {
		return nil, errors.Join(err, errV1)
	}
	return []Parent{v1}, nil
}

// paths are the cgroups of this process: by controller for v1, under "" for v2.
type paths map[string]string

func readPaths(file string) (paths, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	p := paths{}
	for line := range strings.Lines(string(b)) {
		// hierarchy-ID:controller-list:cgroup-path, see cgroups(7)
		line = strings.TrimSuffix(line, "\n")
		f := strings.SplitN(line, ":", 3)
		if len(f) != 3 {
			return nil, fmt.Errorf("%s: line %q: want three fields", file, line)
		}
		for c := range strings.SplitSeq(f[1], ",") {
			p[c] = f[2]
		}
	}
	return p, nil
}

// mount is one mounted cgroup hierarchy.
type mount struct {
	fstype string
	// root is the cgroup that is mounted at point.
	root, point string
	options     []string
}

func readMounts(file string) ([]mount, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var ms []mount
	for line := range strings.Lines(string(b)) {
		// ID parent major:minor root point options [tags] - fstype source super-options, see proc(5)
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(g) < 3 || !strings.HasPrefix(g[0], "cgroup") {
			continue
		}
		ms = append(ms, mount{fstype: g[0], root: f[3], point: f[4], options: strings.Split(g[2], ",")})
	}
	return ms, nil
}

// dir returns the directory of the cgroup path in this mount, false when the
// mount does not show it.
func (m mount) dir(root, path string) (string, bool) {
	rel, err := filepath.Rel(m.root, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	return filepath.Join(root, m.point, rel), true
}

// findV2 returns the cgroups from that of this process upwards that hand the
// memory controller to their children. It enables it nowhere: that would change
// the limits of processes that are none of ours, and the kernel refuses it for a
// cgroup that holds processes.
func findV2(root string, p paths, mounts []mount) ([]Parent, error) {
	path, ok := p[""]
	if !ok {
		return nil, errors.New("no cgroup v2")
	}
	for _, m := range mounts {
		dir, ok := m.dir(root, path)
		if m.fstype != "cgroup2" || !ok {
			continue
		}
		top := filepath.Join(root, m.point)
		if !hasWord(filepath.Join(top, "cgroup.controllers"), "memory") {
			return nil, errors.New("cgroup v2 has no memory controller")
		}
		var found []Parent
		for ; ; dir = filepath.Dir(dir) {
			if hasWord(filepath.Join(dir, "cgroup.subtree_control"), "memory") {
				found = append(found, Parent{Version: 2, Dir: dir})
			}
			if dir == top || len(dir) < len(top) {
				break
			}
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("no cgroup from %s up hands its memory controller to children (cgroup.subtree_control)", path)
		}
		return found, nil
	}
	return nil, errors.New("cgroup v2 is not mounted")
}

func findV1(root string, p paths, mounts []mount) (Parent, error) {
	path, ok := p["memory"]
	if !ok {
		return Parent{}, errors.New("cgroup v1 has no memory controller")
	}
	for _, m := range mounts {
		dir, ok := m.dir(root, path)
		if m.fstype == "cgroup" && ok && slices.Contains(m.options, "memory") {
			return Parent{Version: 1, Dir: dir}, nil
		}
	}
	return Parent{}, errors.New("the memory controller of cgroup v1 is not mounted")
}

// hasWord reports whether the file can be read and has the word.
func hasWord(file, word string) bool {
	b, err := os.ReadFile(file)
	return err == nil && slices.Contains(strings.Fields(string(b)), word)
}
