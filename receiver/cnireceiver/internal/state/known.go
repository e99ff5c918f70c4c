package state

import (
	"maps"
	"slices"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/netconf"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/runtimelog"
)

// Types of plugins that need more than their configuration to be understood.
const (
	Bridge = "bridge"
	PTP    = "ptp"
	// Flannel calls bridge and host-local with a subnet from a file.
	Flannel = "flannel"
)

// KnownPlugin is what there is to know about a plugin besides its type. To
// teach the receiver another, add a row to known.
type KnownPlugin struct {
	// Title is how people call it.
	Title string
	// IPAM says where its addresses are kept: "host-local" for files that are
	// read here, else in words.
	IPAM string
	// RoutesByKernel: the host reaches a pod by a route to its interface, or to
	// the bridge that this is part of. False where BPF programs or another
	// routing table carry the packets, so that no such route is missed.
	RoutesByKernel bool
	// RoutesByGateway: a route of its result that names no gateway goes by that of the
	// pod's address (ConfigureIface in pkg/ipam of containernetworking/plugins).
	RoutesByGateway bool
	// MovesRoutes: behind another plugin it moves the routes of that one's result to
	// another table, and passes the result on as it is.
	MovesRoutes bool
	// Log is where it logs what fails, nil when it has no file of its own: what it
	// says is then in the log of its runtime.
	Log *PluginLog
}

// PluginLog is the log of a plugin.
type PluginLog struct {
	// Files are its paths when nobody configured others.
	Files  []string
	Format runtimelog.Format
}

// known has a row for each plugin, by type.
var known = map[string]KnownPlugin{
	Bridge:            {Title: "bridge", RoutesByKernel: true, RoutesByGateway: true},
	PTP:               {Title: "ptp", RoutesByKernel: true, RoutesByGateway: true},
	netconf.HostLocal: {Title: "host-local", IPAM: netconf.HostLocal},
	"portmap":         {Title: "portmap"},
	"firewall":        {Title: "firewall"},
	"bandwidth":       {Title: "bandwidth"},
	"tuning":          {Title: "tuning"},
	"sbr":             {Title: "sbr", MovesRoutes: true},
	"vrf":             {Title: "vrf", MovesRoutes: true},
	"loopback":        {Title: "loopback"},
	"macvlan":         {Title: "macvlan"},
	"ipvlan":          {Title: "ipvlan"},
	"static":          {Title: "static", IPAM: inConfiguration},
	"dhcp":            {Title: "dhcp", IPAM: "leases of a DHCP server"},
	"calico": {
		Title: "Calico", RoutesByKernel: true,
		Log: &PluginLog{Files: []string{"/var/log/calico/cni/cni.log"}, Format: runtimelog.Calico},
	},
	"calico-ipam": {Title: "Calico IPAM", IPAM: "blocks in the cluster's datastore"},
	"cilium-cni": {
		Title: "Cilium", IPAM: "the agent's memory",
		Log: &PluginLog{Files: []string{"/var/run/cilium/cilium-cni.log"}, Format: runtimelog.Cilium},
	},
	Flannel: {Title: "flannel", IPAM: netconf.HostLocal, RoutesByKernel: true, RoutesByGateway: true},
	"aws-cni": {
		Title: "Amazon VPC CNI", IPAM: "ipamd's memory",
		Log: &PluginLog{Files: []string{"/var/log/aws-routed-eni/plugin.log", "/var/log/aws-routed-eni/ipamd.log"}, Format: runtimelog.Amazon},
	},
	"egress-cni":  {Title: "Amazon VPC CNI, egress"},
	"whereabouts": {Title: "Whereabouts", IPAM: "objects in the cluster"},
	"multus":      {Title: "Multus"},
}

// Known returns what is known about a plugin; false when it is not in the table.
func Known(plugin string) (KnownPlugin, bool) {
	k, ok := known[plugin]
	return k, ok
}

// PluginLogs are the files to which the known plugins log, sorted, and the formats of
// these.
func PluginLogs() (files []string, formats []runtimelog.Format) {
	for _, plugin := range slices.Sorted(maps.Keys(known)) {
		if log := known[plugin].Log; log != nil {
			files = append(files, log.Files...)
			formats = append(formats, log.Format)
		}
	}
	slices.Sort(files)
	return files, formats
}

// InFiles says whether the plugin's addresses are in files that are read here,
// or in the configuration itself.
func (k KnownPlugin) InFiles() bool {
	return k.IPAM == netconf.HostLocal || k.IPAM == inConfiguration
}

// inConfiguration: each address is given by hand, there is no pool.
const inConfiguration = "in the configuration"

// defaultSubnetFile is where flannel's plugin looks when its configuration has no subnetFile.
const defaultSubnetFile = "/run/flannel/subnet.env"

// FlannelSubnetFile is the file that holds the node's subnet.
func FlannelSubnetFile(p netconf.Plugin) string {
	if p.SubnetFile != "" {
		return p.SubnetFile
	}
	return defaultSubnetFile
}
