package snapshot

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/result"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// netlinkTimeout bounds a question to the kernel, which answers in microseconds.
const netlinkTimeout = 5 * time.Second

// openNamespace is a namespace and the file by which it can be entered. The
// file keeps the namespace alive, so it is closed as soon as it was read.
type openNamespace struct {
	*state.Namespace
	file *os.File
}

// readNamespaces reads the host's network namespace and those of pods, each
// from inside.
func (r *Reader) readNamespaces(p *state.Picture) {
	open, err := r.openNamespaces(p)
	defer func() {
		for _, ns := range open {
			_ = ns.file.Close()
		}
	}()
	if err != nil {
		unseen(p, state.SourceNamespaces, err)
		return
	}
	for _, ns := range open {
		p.Namespaces = append(p.Namespaces, ns.Namespace)
	}
	if r.opts.Processes {
		r.readProcesses(p)
		if linux.Capabilities()&(1<<unix.CAP_SYS_PTRACE) == 0 { // some may be hidden, and some not
			unseen(p, state.SourceProcesses, errors.New("it takes root or CAP_SYS_PTRACE to see the processes of all users"))
		}
	}
	linux.OnOwnThread(func() { r.visitAll(p, open) })
}

// openNamespaces opens the host's namespace, and then all that are pinned in
// the configured directories or named by results, each once.
func (r *Reader) openNamespaces(p *state.Picture) ([]openNamespace, error) {
	host, err := r.openHost()
	if err != nil {
		return nil, err
	}
	all := []openNamespace{host}
	known := map[uint64]*state.Namespace{host.Inode: host.Namespace}
	for _, path := range r.namespacePaths(p) {
		if len(all) >= maxNamespaces {
			blind(p, fmt.Errorf("there are more than %d network namespaces", maxNamespaces))
			break
		}
		f, inode, err := openNamespaceFile(r.host(path))
		switch {
		case errors.Is(err, os.ErrPermission), errors.Is(err, errNotMounted) && isOfResult(p, path):
			blind(p, err)
		case err != nil: // gone, or no namespace
		case known[inode] != nil:
			known[inode].Paths = append(known[inode].Paths, path)
			_ = f.Close()
		default:
			ns := &state.Namespace{Inode: inode, Paths: []string{path}}
			known[inode] = ns
			all = append(all, openNamespace{Namespace: ns, file: f})
		}
	}
	return all, nil
}

// ownNamespace is the collector's: that of every thread but those that visit others.
const ownNamespace = "/proc/thread-self/ns/net"

// openHost opens the host's namespace: the configured one, or that of the
// host's first process. Without the right to see that, the collector's own
// stands for it.
func (r *Reader) openHost() (openNamespace, error) {
	path := filepath.Join("/", r.opts.Root, "proc/1/ns/net")
	if r.opts.HostNamespace != "" {
		path = r.host(r.opts.HostNamespace)
	}
	f, inode, err := openNamespaceFile(path)
	if errors.Is(err, os.ErrPermission) && r.opts.HostNamespace == "" {
		f, inode, err = openNamespaceFile(ownNamespace)
	}
	if err != nil {
		return openNamespace{}, fmt.Errorf("the host's network namespace: %w", err)
	}
	return openNamespace{Namespace: &state.Namespace{Inode: inode, IsHost: true}, file: f}, nil
}

// namespacePaths are those in the configured directories and in results.
func (r *Reader) namespacePaths(p *state.Picture) []string {
	var paths []string
	for _, dir := range r.opts.NamespaceDirs {
		for _, entry := range r.list(p, state.SourceNamespaces, dir) {
			paths = append(paths, filepath.Join(dir, entry.Name()))
		}
	}
	for _, a := range p.Results {
		if filepath.IsAbs(a.Netns) {
			paths = append(paths, filepath.Clean(a.Netns))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// errNotMounted is of a file on which somebody may have mounted a namespace, but not where
// the collector is.
var errNotMounted = errors.New("an empty file instead of a network namespace, which is not mounted where the collector sees it (mountPropagation: HostToContainer)")

// isOfResult says whether a result names the path: then a pod should be there.
func isOfResult(p *state.Picture, path string) bool {
	return slices.ContainsFunc(p.Results, func(a *result.Attachment) bool { return filepath.Clean(a.Netns) == path })
}

// openNamespaceFile opens path when it is a network namespace, and nothing else:
// a result may name any file.
func openNamespaceFile(path string) (*os.File, uint64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.NSFS_MAGIC {
		defer f.Close()
		if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() && fi.Size() == 0 {
			return nil, 0, fmt.Errorf("%s is %w", path, errNotMounted)
		}
		return nil, 0, fmt.Errorf("%s is no namespace", path)
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		_ = f.Close()
		return nil, 0, fmt.Errorf("%s is no network namespace", path)
	}
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, inode(fi), nil
}

// blind notes that some namespaces besides the host's cannot be entered.
func blind(p *state.Picture, err error) { unseen(p, state.SourcePods, err) }

// visitAll reads all namespaces. It runs on a thread of its own.
func (r *Reader) visitAll(p *state.Picture, open []openNamespace) {
	own, err := os.Open(ownNamespace)
	if err != nil {
		unseen(p, state.SourceNamespaces, err)
		return
	}
	defer own.Close()
	fi, err := own.Stat()
	if err != nil {
		unseen(p, state.SourceNamespaces, err)
		return
	}
	current := inode(fi)
	for i, ns := range open {
		if ns.Inode != current {
			if err := unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET); err != nil {
				err = fmt.Errorf("enter a network namespace, which takes CAP_SYS_ADMIN: %w", err)
				if ns.IsHost {
					unseen(p, state.SourceNamespaces, err)
					return
				}
				blind(p, err)
				continue
			}
			current = ns.Inode
		}
		var others []openNamespace
		if ns.IsHost {
			others = open[i+1:]
		}
		if err := r.visit(p, ns.Namespace, others); err != nil {
			if ns.IsHost {
				unseen(p, state.SourceNamespaces, err)
				return
			}
			blind(p, err)
		}
	}
}

// visit reads the namespace that the thread is in. others are those to which
// veths of the host may lead.
func (r *Reader) visit(p *state.Picture, ns *state.Namespace, others []openNamespace) error {
	if r.opts.Conntrack {
		readConntrack(p, ns)
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.SetSocketTimeout(netlinkTimeout); err != nil {
		return err
	}
	if err := readLinks(h, ns); err != nil {
		return err
	}
	if ns.IsHost {
		connect(h, ns, others)
		p.HostRoutes = readHostRoutes(h, p)
	} else if err := readRoutes(h, ns); err != nil {
		return err
	}
	ns.Entered = true
	return nil
}

// dump asks again when the kernel says that the list changed while it was read.
func dump[T any](ask func() ([]T, error)) ([]T, error) {
	const attempts = 5
	for i := 0; ; i++ {
		list, err := ask()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || i == attempts {
			return list, err
		}
	}
}

func readLinks(h *netlink.Handle, ns *state.Namespace) error {
	links, err := dump(h.LinkList)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	index := make(map[int]int, len(links))
	for _, l := range links {
		a := l.Attrs()
		index[a.Index] = len(ns.Links)
		ns.Links = append(ns.Links, state.Link{
			Index: a.Index, Name: a.Name, Kind: kindOf(l), MAC: a.HardwareAddr.String(), MTU: a.MTU,
			Up: a.RawFlags&unix.IFF_UP != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
			Master: a.MasterIndex, Peer: a.ParentIndex, PeerID: a.NetNsID,
		})
	}
	addresses, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addresses {
		prefix, ok := prefixOf(a.IPNet)
		i, known := index[a.LinkIndex]
		if !ok || !known {
			continue
		}
		ns.Links[i].Addresses = append(ns.Links[i].Addresses, state.Address{
			Prefix: prefix, IsLinkLocal: prefix.Addr().IsLinkLocalUnicast(), IsDuplicate: a.Flags&unix.IFA_F_DADFAILED != 0,
		})
	}
	return nil
}

// kindOf is the kind of an interface; hardware has none.
func kindOf(l netlink.Link) string {
	if kind := l.Type(); kind != "device" {
		return kind
	}
	return ""
}

// connect finds the namespace of each veth's other end: the kernel names it by
// a number that is only good in the namespace where it is asked.
func connect(h *netlink.Handle, host *state.Namespace, others []openNamespace) {
	byID := make(map[int]uint64, len(others))
	for _, ns := range others {
		if id, err := h.GetNetNsIdByFd(int(ns.file.Fd())); err == nil && id >= 0 {
			byID[id] = ns.Inode
		}
	}
	for i := range host.Links {
		l := &host.Links[i]
		if inode, ok := byID[l.PeerID]; ok && l.PeerID >= 0 {
			l.PeerNamespace = inode
		}
	}
}

// readHostRoutes asks by which interface the host reaches each pod.
func readHostRoutes(h *netlink.Handle, p *state.Picture) map[netip.Addr]int {
	routes := make(map[netip.Addr]int)
	for _, a := range p.Results {
		for _, prefix := range a.Addresses {
			found, err := h.RouteGet(prefix.Addr().AsSlice())
			switch {
			case err == nil && len(found) > 0:
				routes[prefix.Addr()] = found[0].LinkIndex
			case isRefused(err):
				routes[prefix.Addr()] = 0
			}
		}
	}
	return routes
}

// isRefused says that the kernel answered that packets are not sent: there is no route,
// or one (or a rule) that is unreachable, a blackhole (EINVAL) or prohibited (EACCES).
func isRefused(err error) bool {
	for _, no := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EINVAL, unix.EACCES} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// refusing are the types of routes by which nothing is sent, as ip(8) calls them.
var refusing = map[int]string{
	unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit", unix.RTN_THROW: "throw",
}

// maxRoutes bounds the routes of one pod.
const maxRoutes = 1024

func readRoutes(h *netlink.Handle, ns *state.Namespace) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := dump(func() ([]netlink.Route, error) {
			return h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, route := range routes[:min(len(routes), maxRoutes)] {
			prefix, ok := prefixOf(route.Dst)
			if !ok {
				prefix = defaultRoute(family)
			}
			ns.Routes = append(ns.Routes, state.Route{
				Destination: prefix, Link: route.LinkIndex, Gateways: gateways(route), Refuses: refusing[route.Type], Metric: route.Priority,
			})
		}
	}
	return nil
}

// gateways are the routers of all ways of a route.
func gateways(route netlink.Route) []netip.Addr {
	var out []netip.Addr
	add := func(gateway net.IP, via netlink.Destination) {
		if v, ok := via.(*netlink.Via); ok && gateway == nil { // of another family
			gateway = v.Addr
		}
		if address, ok := netip.AddrFromSlice(gateway); ok {
			out = append(out, address.Unmap())
		}
	}
	add(route.Gw, route.Via)
	for _, way := range route.MultiPath {
		add(way.Gw, way.Via)
	}
	return out
}

const (
	conntrackCount = "/proc/sys/net/netfilter/nf_conntrack_count"
	conntrackMax   = "/proc/sys/net/netfilter/nf_conntrack_max"
)

// readConntrack reads the table of the namespace that the thread is in: sysctls
// of the network show the reader's own. Without the module there are none.
func readConntrack(p *state.Picture, ns *state.Namespace) {
	count, err := readNumber(conntrackCount)
	if err == nil {
		ns.ConntrackCount = count
		ns.ConntrackMax, err = readNumber(conntrackMax)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		unseen(p, state.SourceConntrack, err)
	}
}

func readNumber(path string) (int64, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
}
