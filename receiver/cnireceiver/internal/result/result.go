// Package result reads the files in which container runtimes (libcni) keep what
// each ADD returned: whose interface it is, its addresses and routes.
package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/netconf"
)

// MaxSize is the largest file that is read, in bytes. Real ones have a few KiB,
// the configuration of the network included.
const MaxSize = 2 << 20

// cacheKind is the kind of the only format there is (libcni/api.go).
const cacheKind = "cniCacheV1"

// Attachment is one interface that a container got from a network.
type Attachment struct {
	// Network, ContainerID and IfName identify it.
	Network, ContainerID, IfName string
	// PodName, PodNamespace and PodUID are from CNI_ARGS, empty outside of Kubernetes.
	PodName, PodNamespace, PodUID string
	// Netns is the path of the network namespace; empty when neither the runtime
	// nor the plugin wrote it.
	Netns string
	// HasInterface says that the result has the interface, or an address of it: a plugin
	// may well make none. What follows is of that interface, other ones of the same
	// container are left out.
	HasInterface bool
	// MAC is the hardware address of the interface in the container.
	MAC string
	// HostInterfaces are those that the plugin made or used outside of the container.
	HostInterfaces []string
	// Addresses of the interface, and Routes of the container.
	Addresses []netip.Prefix
	Routes    []Route
	// Gateways are those of the addresses.
	Gateways []netip.Addr
	// Plugins are the types of the network's plugins, in order.
	Plugins []string
	// Made is when the runtime wrote the result down, zero where that is not known.
	Made time.Time
}

// Route is one that the plugin made in the container.
type Route struct {
	Destination netip.Prefix
	// Gateway is the zero Addr when the result names none.
	Gateway netip.Addr
	// IsOnLink: its scope says that it goes by no gateway.
	IsOnLink bool
}

// Key identifies the attachment.
func (a *Attachment) Key() string { return a.Network + "/" + a.ContainerID + "/" + a.IfName }

// cached is the file.
type cached struct {
	Kind        string      `json:"kind"`
	ContainerID string      `json:"containerId"`
	Config      []byte      `json:"config"`
	IfName      string      `json:"ifName"`
	NetworkName string      `json:"networkName"`
	Netns       string      `json:"netns"`
	Args        [][2]string `json:"cniArgs"`
	Result      cniResult   `json:"result"`
}

// cniResult has the keys of results of CNI 0.3.0 and later, and of 0.1.0 and 0.2.0.
type cniResult struct {
	Interfaces []struct {
		Name    string `json:"name"`
		MAC     string `json:"mac"`
		Sandbox string `json:"sandbox"`
	} `json:"interfaces"`
	IPs []struct {
		Interface *int   `json:"interface"`
		Address   string `json:"address"`
		Gateway   string `json:"gateway"`
	} `json:"ips"`
	Routes []cniRoute `json:"routes"`
	IP4    *oldIP     `json:"ip4"`
	IP6    *oldIP     `json:"ip6"`
}

type oldIP struct {
	IP      string     `json:"ip"`
	Gateway string     `json:"gateway"`
	Routes  []cniRoute `json:"routes"`
}

type cniRoute struct {
	Dst   string `json:"dst"`
	GW    string `json:"gw"`
	Table *int   `json:"table"`
	Scope *int   `json:"scope"`
}

// Numbers of linux/rtnetlink.h.
const (
	mainTable = 254 // RT_TABLE_MAIN
	linkScope = 253 // RT_SCOPE_LINK
)

// Parse reads a file. Addresses that cannot be read are left out: the rest is
// still true.
func Parse(content []byte) (*Attachment, error) {
	var c cached
	if err := json.Unmarshal(content, &c); err != nil {
		return nil, err
	}
	if c.Kind != cacheKind {
		return nil, fmt.Errorf("kind: %q is not %s", c.Kind, cacheKind)
	}
	if c.ContainerID == "" || c.NetworkName == "" || c.IfName == "" {
		return nil, errors.New("containerId, networkName or ifName is missing")
	}
	a := &Attachment{Network: c.NetworkName, ContainerID: c.ContainerID, IfName: c.IfName, Netns: c.Netns}
	a.readArgs(c.Args)
	a.readInterfaces(&c.Result)
	a.readAddresses(&c.Result)
	if n, wrong := netconf.Parse("cached.conflist", c.Config); wrong == nil {
		a.Plugins = n.Types()
	}
	return a, nil
}

// readArgs reads what the kubelet's runtimes pass in CNI_ARGS.
func (a *Attachment) readArgs(args [][2]string) {
	for _, arg := range args {
		switch arg[0] {
		case "K8S_POD_NAME":
			a.PodName = arg[1]
		case "K8S_POD_NAMESPACE":
			a.PodNamespace = arg[1]
		case "K8S_POD_UID":
			a.PodUID = arg[1]
		}
	}
}

func (a *Attachment) readInterfaces(r *cniResult) {
	for _, i := range r.Interfaces {
		switch {
		case i.Sandbox == "" && i.Name != "":
			a.HostInterfaces = append(a.HostInterfaces, i.Name)
		case i.Name == a.IfName:
			a.HasInterface = true
			a.MAC = strings.ToLower(i.MAC)
			if a.Netns == "" {
				a.Netns = i.Sandbox
			}
		}
	}
}

func (a *Attachment) readAddresses(r *cniResult) {
	for _, ip := range r.IPs {
		if ip.Interface != nil && !r.isOf(a.IfName, *ip.Interface) {
			continue
		}
		a.Addresses = appendPrefix(a.Addresses, ip.Address)
		a.Gateways = appendAddress(a.Gateways, ip.Gateway)
	}
	a.Routes = appendRoutes(a.Routes, r.Routes)
	for _, old := range []*oldIP{r.IP4, r.IP6} {
		if old == nil {
			continue
		}
		a.Addresses = appendPrefix(a.Addresses, old.IP)
		a.Gateways = appendAddress(a.Gateways, old.Gateway)
		a.Routes = appendRoutes(a.Routes, old.Routes)
	}
	a.HasInterface = a.HasInterface || len(a.Addresses) > 0
}

// isOf says whether an interface of the list is that of the name in the container.
func (r *cniResult) isOf(ifName string, index int) bool {
	if index < 0 || index >= len(r.Interfaces) {
		return true // a plugin that counts wrongly means this one
	}
	return r.Interfaces[index].Sandbox != "" && r.Interfaces[index].Name == ifName
}

func appendPrefix(list []netip.Prefix, text string) []netip.Prefix {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return list
	}
	return append(list, p)
}

func appendAddress(list []netip.Addr, text string) []netip.Addr {
	address, err := netip.ParseAddr(text)
	if err != nil || address.IsUnspecified() {
		return list
	}
	return append(list, address.Unmap())
}

// appendRoutes leaves out those of other tables than the main one, which are not read.
func appendRoutes(list []Route, routes []cniRoute) []Route {
	for _, r := range routes {
		destination, err := netip.ParsePrefix(r.Dst)
		if err != nil || r.Table != nil && *r.Table != mainTable {
			continue
		}
		route := Route{Destination: destination.Masked(), IsOnLink: r.Scope != nil && *r.Scope >= linkScope}
		if gateway := appendAddress(nil, r.GW); len(gateway) > 0 {
			route.Gateway = gateway[0]
		}
		list = append(list, route)
	}
	return list
}
