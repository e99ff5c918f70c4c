package state

import (
	"net/netip"
	"time"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/netconf"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/result"
)

// Source is a part of the picture, which can be there when others are not.
type Source string

// Sources, by what was read. Namespaces are that of the host and the list of the
// others, pods is what is in those.
const (
	SourceConfig     Source = "config"
	SourcePlugins    Source = "plugins"
	SourceResults    Source = "results"
	SourcePools      Source = "pools"
	SourceNamespaces Source = "namespaces"
	SourcePods       Source = "pods"
	SourceProcesses  Source = "processes"
	SourceConntrack  Source = "conntrack"
)

// Sources are all of them.
var Sources = []Source{SourceConfig, SourcePlugins, SourceResults, SourcePools, SourceNamespaces, SourcePods, SourceProcesses, SourceConntrack}

// Picture is everything at one moment.
type Picture struct {
	// At is when.
	At time.Time
	// Unseen says why a source is not in the picture, or not all of it. Nothing
	// begins, ends or is missed by what is unseen.
	Unseen map[Source]string

	// Configs are files of the configuration directories, in the order in which
	// runtimes look at them.
	Configs []ConfigFile
	// Plugins are the executables of the types that configurations name; nil
	// when there is none.
	Plugins map[string]*PluginFile
	// Results are the cached results; Damaged names one that cannot be read and is as it
	// was when it could, empty for none.
	Results []*result.Attachment
	Damaged string
	// Reservations are the addresses in the stores of host-local.
	Reservations []Reservation
	// Subnets are those that flannel was given, by the path of its subnet file.
	Subnets map[string]netip.Prefix
	// Namespaces are the network namespaces, that of the host first.
	Namespaces []*Namespace
	// HostRoutes are the interfaces of the host by which it reaches addresses of
	// pods; 0 when it has no route, or one by which nothing is sent.
	HostRoutes map[netip.Addr]int
	// Containers are ids of containers in which a process lives.
	Containers map[string]bool
}

// Sees says whether all the sources are in the picture.
func (p *Picture) Sees(sources ...Source) bool {
	for _, s := range sources {
		if p.Unseen[s] != "" {
			return false
		}
	}
	return true
}

// ConfigFile is a network configuration.
type ConfigFile struct {
	Path string
	// Digest is of the content; it changes with it.
	Digest string
	// Network is nil when Err says what is wrong.
	Network *netconf.Network
	Err     *netconf.Error
}

// PluginFile is the executable of a plugin.
type PluginFile struct {
	Path string
	// Identity changes when the file is replaced or written.
	Identity string
	// Problem says why it cannot be run, empty when it can.
	Problem string
}

// Reservation is an address that host-local has given out.
type Reservation struct {
	Network string
	// Dir is the store's directory.
	Dir                 string
	Address             netip.Addr
	ContainerID, IfName string
	// Since is when the file was written.
	Since time.Time
}

// Namespace is a network namespace.
type Namespace struct {
	// Inode is its number.
	Inode uint64
	// IsHost is true for that of the host.
	IsHost bool
	// Paths are where it is pinned.
	Paths []string
	// HasProcess says that a process lives in it.
	HasProcess bool
	// Entered says that what follows was read; the rest is empty otherwise.
	Entered bool
	Links   []Link
	Routes  []Route
	// ConntrackCount and ConntrackMax are 0 when it tracks nothing.
	ConntrackCount, ConntrackMax int64
}

// Link is an interface.
type Link struct {
	Index int
	Name  string
	// Kind is such as veth, bridge or vlan; empty for hardware.
	Kind string
	MAC  string
	MTU  int
	// Up: enabled. Carrier: connected to something that is up.
	Up, Carrier bool
	// Master is the index of the bridge or bond that it is part of, 0 for none.
	Master int
	// Peer is the index of the other end of a veth, or the parent of a vlan or
	// macvlan, in namespace PeerNamespace of the same picture (its inode; 0 when
	// that namespace is not in the picture).
	Peer          int
	PeerNamespace uint64
	// PeerID is the kernel's number for that namespace, -1 when the other end is
	// in the same one.
	PeerID    int
	Addresses []Address
}

// Address is one of an interface.
type Address struct {
	Prefix netip.Prefix
	// IsLinkLocal: the kernel makes these itself.
	IsLinkLocal bool
	// IsDuplicate: the kernel found another owner on the link (IPv6 only).
	IsDuplicate bool
}

// Route is one of the main table.
type Route struct {
	// Destination is 0.0.0.0/0 or ::/0 for the default route.
	Destination netip.Prefix
	// Link is the index of the interface, 0 when it has several or none.
	Link int
	// Gateways are the routers it goes by: none for what is on the link, several for
	// a route of several ways.
	Gateways []netip.Addr
	// Refuses names a route by which nothing is sent, such as a blackhole; empty for
	// one by which packets are.
	Refuses string
	// Metric: of routes to the same destination the smallest counts.
	Metric int
}

// link returns the interface of that index, nil when there is none.
func (n *Namespace) link(index int) *Link {
	for i := range n.Links {
		if n.Links[i].Index == index {
			return &n.Links[i]
		}
	}
	return nil
}

// named returns the interface of that name, nil when there is none.
func (n *Namespace) named(name string) *Link {
	for i := range n.Links {
		if n.Links[i].Name == name {
			return &n.Links[i]
		}
	}
	return nil
}
