package snapshot

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/netconf"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/result"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

func sortEntries(entries []os.DirEntry) {
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
}

// stamp tells a file from itself after a change, without reading it.
type stamp struct {
	inode   uint64
	size    int64
	changed time.Time
}

// settled is how old a file's time must be to be trusted: one written twice
// within the clock's tick has the same stamp.
const settled = time.Second

// fileCache keeps what was made of each file until the file changes or goes.
type fileCache[T any] struct {
	known map[string]cachedFile[T]
	seen  map[string]bool
}

type cachedFile[T any] struct {
	stamp stamp
	value T
}

// begin starts a pass; end forgets the files that were not asked for in it.
func (c *fileCache[T]) begin() {
	if c.known == nil {
		c.known = make(map[string]cachedFile[T])
	}
	c.seen = make(map[string]bool, len(c.known))
}

func (c *fileCache[T]) end() {
	for path := range c.known {
		if !c.seen[path] {
			delete(c.known, path)
		}
	}
	c.seen = nil
}

// read returns what parse made of the content of the file; with an error of that, what
// it made of it last.
func (c *fileCache[T]) read(path string, limit int64, parse func([]byte, os.FileInfo) (T, error)) (T, error) {
	return c.get(path, func(fi os.FileInfo) (T, error) {
		var none T
		content, err := readLimited(path, limit)
		if err != nil {
			return none, err
		}
		value, err := parse(content, fi)
		if err != nil {
			return c.known[path].value, err
		}
		return value, nil
	})
}

// get returns what look made of the file.
func (c *fileCache[T]) get(path string, look func(os.FileInfo) (T, error)) (T, error) {
	var none T
	fi, err := os.Stat(path)
	if err != nil {
		return none, err
	}
	c.seen[path] = true
	at := stamp{inode: inode(fi), size: fi.Size(), changed: fi.ModTime()}
	if old, ok := c.known[path]; ok && old.stamp == at && time.Since(at.changed) > settled {
		return old.value, nil
	}
	value, err := look(fi)
	if err != nil {
		return value, err
	}
	c.known[path] = cachedFile[T]{stamp: at, value: value}
	return value, nil
}

// readLimited reads a regular file of at most limit bytes.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return content, err
}

// readConfigs reads all configurations. A file that cannot be read is one with
// a mistake; a directory that cannot is unseen.
func (r *Reader) readConfigs(p *state.Picture) {
	r.digests.begin()
	defer r.digests.end()
	for _, dir := range r.opts.ConfigDirs {
		for _, entry := range r.list(p, state.SourceConfig, dir) {
			if entry.IsDir() || !netconf.IsConfig(entry.Name()) {
				continue
			}
			path := filepath.Join(dir, entry.Name())
			c, err := r.digests.read(r.host(path), netconf.MaxSize, func(content []byte, _ os.FileInfo) (state.ConfigFile, error) {
				return parseConfig(path, content), nil
			})
			switch {
			case errors.Is(err, os.ErrNotExist) && entry.Type()&os.ModeSymlink == 0: // gone meanwhile
				continue
			case errors.Is(err, os.ErrNotExist): // runtimes cannot read it either
				c = state.ConfigFile{Path: path, Digest: "link", Err: &netconf.Error{Type: netconf.ErrorUnreadable, Reason: "a symbolic link to a file that is not there"}}
			case err != nil:
				c = state.ConfigFile{Path: path, Digest: err.Error(), Err: &netconf.Error{Type: netconf.ErrorUnreadable, Reason: err.Error()}}
			}
			if c.Network != nil && c.Network.HasPluginDir {
				c = r.withPluginDir(p, dir, c)
			}
			p.Configs = append(p.Configs, c)
		}
	}
}

func parseConfig(path string, content []byte) state.ConfigFile {
	digest := sha256.Sum256(content)
	network, wrong := netconf.Parse(path, content)
	return state.ConfigFile{Path: path, Digest: hex.EncodeToString(digest[:8]), Network: network, Err: wrong}
}

// withPluginDir adds the plugins of the directory with the network's name, one
// a file, as libcni 1.3 does.
func (r *Reader) withPluginDir(p *state.Picture, dir string, c state.ConfigFile) state.ConfigFile {
	network := *c.Network
	sub := filepath.Join(dir, network.Name)
	for _, entry := range r.list(p, state.SourceConfig, sub) {
		if filepath.Ext(entry.Name()) != ".conf" {
			continue
		}
		path := filepath.Join(sub, entry.Name())
		content, err := readLimited(r.host(path), netconf.MaxSize)
		if err != nil {
			continue
		}
		plugin, wrong := netconf.ParsePlugin(content)
		if wrong != nil {
			c.Network, c.Err = nil, &netconf.Error{Type: wrong.Type, Line: wrong.Line, Reason: entry.Name() + ": " + wrong.Reason}
			return c
		}
		network.Plugins = append(slices.Clip(network.Plugins), plugin)
		c.Digest += "+" + parseConfig(path, content).Digest
	}
	c.Network = &network
	if len(network.Plugins) == 0 {
		c.Network, c.Err = nil, &netconf.Error{Type: netconf.ErrorSchema, Line: 1, Reason: "plugins: missing, and " + sub + " has none"}
	}
	return c
}

// readPlugins looks for the executables of all types that valid configurations name.
func (r *Reader) readPlugins(p *state.Picture) {
	p.Plugins = make(map[string]*state.PluginFile)
	r.programs.begin()
	defer r.programs.end()
	for _, c := range p.Configs {
		if c.Network == nil {
			continue
		}
		for _, plugin := range c.Network.Types() {
			if _, ok := p.Plugins[plugin]; !ok {
				p.Plugins[plugin] = r.findPlugin(p, plugin)
			}
		}
	}
}

// findPlugin looks for a file of that name in the plugin directories, in order.
// One that cannot be run is better than none: it says what is wrong.
func (r *Reader) findPlugin(p *state.Picture, name string) *state.PluginFile {
	for _, dir := range r.opts.PluginDirs {
		path := filepath.Join(dir, name)
		fi, err := os.Stat(r.host(path))
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			unseen(p, state.SourcePlugins, err)
			continue
		}
		f := &state.PluginFile{Path: path, Identity: fmt.Sprintf("%d/%d/%d", inode(fi), fi.Size(), fi.ModTime().UnixNano())}
		switch {
		case !fi.Mode().IsRegular():
			f.Problem = "it is not a regular file"
		case fi.Mode().Perm()&0o111 == 0:
			f.Problem = fmt.Sprintf("it is not executable (mode %s)", fi.Mode().Perm())
		case fi.Size() == 0:
			f.Problem = "it is empty"
		default:
			f.Problem = r.programProblem(r.host(path))
		}
		return f
	}
	return nil
}

// programProblem says why the kernel does not run a file; "" also when nobody may look.
func (r *Reader) programProblem(path string) string {
	problem, _ := r.programs.get(path, func(fi os.FileInfo) (string, error) {
		f, err := openRegular(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		return executableProblem(f, fi.Size(), r.interpreters()), nil
	})
	return problem
}

// readResults reads the cached results. A file that cannot be parsed is being
// written, damaged, or no result: what it held before is still so.
func (r *Reader) readResults(p *state.Picture) {
	r.results.begin()
	defer r.results.end()
	for _, dir := range r.opts.ResultDirs {
		for _, entry := range r.list(p, state.SourceResults, dir) {
			if entry.IsDir() {
				continue
			}
			a, err := r.results.read(r.host(filepath.Join(dir, entry.Name())), result.MaxSize, parseResult)
			switch {
			case err == nil:
				p.Results = append(p.Results, a)
			case errors.Is(err, os.ErrPermission):
				unseen(p, state.SourceResults, err)
			case !errors.Is(err, os.ErrNotExist):
				p.Damaged = fmt.Sprintf("%s: %v", filepath.Join(dir, entry.Name()), err)
				if a != nil {
					p.Results = append(p.Results, a)
				}
			}
		}
	}
}

func parseResult(content []byte, info os.FileInfo) (*result.Attachment, error) {
	a, err := result.Parse(content)
	if a != nil && info != nil {
		a.Made = info.ModTime()
	}
	return a, err
}

// reservationFile is a file of host-local's store.
type reservationFile struct {
	reservation state.Reservation
	ok          bool
}

// maxReservation is more than two ids and a line break.
const maxReservation = 4096

// readReservations reads the stores of host-local: a directory for each
// network, a file for each address.
func (r *Reader) readReservations(p *state.Picture) {
	r.owners.begin()
	defer r.owners.end()
	for _, dir := range r.dataDirs(p) {
		for _, network := range r.list(p, state.SourcePools, dir) {
			if r.isDir(dir, network) {
				r.readStore(p, filepath.Join(dir, network.Name()), network.Name())
			}
		}
	}
}

// isDir says whether an entry is a directory, or a link to one.
func (r *Reader) isDir(dir string, entry os.DirEntry) bool {
	if entry.Type()&os.ModeSymlink == 0 {
		return entry.IsDir()
	}
	fi, err := os.Stat(r.host(filepath.Join(dir, entry.Name())))
	return err == nil && fi.IsDir()
}

// readStore reads the addresses of a network. host-local takes an address for used when
// there is anything of its name: what is no file of its making belongs to nobody.
func (r *Reader) readStore(p *state.Picture, dir, network string) {
	for _, entry := range r.list(p, state.SourcePools, dir) {
		name := entry.Name()
		address, err := netip.ParseAddr(name)
		if err != nil {
			continue // lock, last_reserved_ip.0
		}
		f, err := r.owners.read(r.host(filepath.Join(dir, name)), maxReservation, func(content []byte, fi os.FileInfo) (reservationFile, error) {
			a, id, ifName, ok := result.Owner(name, content)
			return reservationFile{ok: ok, reservation: state.Reservation{
				Network: network, Dir: dir, Address: a, ContainerID: id, IfName: ifName, Since: fi.ModTime(),
			}}, nil
		})
		switch {
		case err == nil && f.ok:
			p.Reservations = append(p.Reservations, f.reservation)
		case err == nil, errors.Is(err, os.ErrNotExist) && entry.Type()&os.ModeSymlink == 0: // no address, or gone meanwhile
		case errors.Is(err, os.ErrPermission):
			unseen(p, state.SourcePools, err)
		default:
			odd := state.Reservation{Network: network, Dir: dir, Address: address.Unmap(), Since: p.At}
			if fi, err := entry.Info(); err == nil {
				odd.Since = fi.ModTime()
			}
			p.Reservations = append(p.Reservations, odd)
		}
	}
}

// dataDirs are the configured ones and those that configurations name.
func (r *Reader) dataDirs(p *state.Picture) []string {
	dirs := slices.Clone(r.opts.DataDirs)
	for _, c := range p.Configs {
		if c.Network == nil {
			continue
		}
		for _, plugin := range c.Network.Plugins {
			if ipam := plugin.IPAM; ipam != nil && ipam.Type == netconf.HostLocal && filepath.IsAbs(ipam.DataDir) {
				dirs = append(dirs, filepath.Clean(ipam.DataDir))
			}
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// readSubnets reads the file in which flannel keeps the node's subnet.
func (r *Reader) readSubnets(p *state.Picture) {
	p.Subnets = make(map[string]netip.Prefix)
	for _, c := range p.Configs {
		if c.Network == nil {
			continue
		}
		for _, plugin := range c.Network.Plugins {
			if plugin.Type != state.Flannel {
				continue
			}
			path := state.FlannelSubnetFile(plugin)
			content, err := readLimited(r.host(path), maxReservation)
			if err != nil {
				if !errors.Is(err, os.ErrNotExist) {
					unseen(p, state.SourcePools, err)
				}
				continue
			}
			if subnet, ok := flannelSubnet(string(content)); ok {
				p.Subnets[path] = subnet
			}
		}
	}
}

// flannelSubnet reads the lines that flanneld writes: FLANNEL_SUBNET=10.244.1.1/24.
func flannelSubnet(content string) (netip.Prefix, bool) {
	for line := range strings.Lines(content) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "FLANNEL_SUBNET="); ok {
			p, err := netip.ParsePrefix(text)
			return p.Masked(), err == nil
		}
	}
	return netip.Prefix{}, false
}
