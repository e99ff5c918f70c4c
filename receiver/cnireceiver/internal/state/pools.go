package state

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/netconf"
)

// poolLinger: in a full pool every deleted pod makes room for the next.
const poolLinger = 10 * time.Second

// recovery is how far below the high-water mark a fill must fall to be over.
const recovery = 0.05

// pool is an address pool of a network, and who has which address is elsewhere.
type pool struct {
	network, plugin string
	addresses       netconf.Pool
	// stores are the directories in which its reservations may be.
	stores []string
}

// holds says whether a reservation is one of the pool: other stores may have rests
// of a network of the same name.
func (p pool) holds(r Reservation) bool {
	return slices.Contains(p.stores, r.Dir) && p.addresses.Contains(r.Address)
}

// pools are those whose addresses and size can be known from files.
func (d *Decider) pools(p *Picture) []pool {
	var out []pool
	for _, c := range p.Configs {
		if c.Network == nil {
			continue
		}
		for _, plugin := range c.Network.Plugins {
			if plugin.IPAM != nil {
				stores := d.stores(c.Network.Name, plugin.IPAM.DataDir)
				for _, addresses := range plugin.IPAM.Pools {
					out = append(out, pool{network: c.Network.Name, plugin: plugin.IPAM.Type, addresses: addresses, stores: stores})
				}
			}
			if plugin.Type != Flannel {
				continue
			}
			if subnet, ok := p.Subnets[FlannelSubnetFile(plugin)]; ok {
				if r, err := netconf.SubnetRange(subnet); err == nil {
					out = append(out, pool{
						network: c.Network.Name, plugin: netconf.HostLocal, addresses: netconf.Pool{Ranges: []netconf.Range{r}},
						stores: d.stores(c.Network.Name, ""),
					})
				}
			}
		}
	}
	return out
}

// stores are where host-local keeps the addresses of a network: below the dataDir of
// its configuration, or where it does when that has none.
func (d *Decider) stores(network, dataDir string) []string {
	dirs := d.settings.DataDirs
	if dataDir != "" {
		dirs = []string{dataDir}
	}
	out := make([]string, len(dirs))
	for i, dir := range dirs {
		out[i] = path.Join(dir, network)
	}
	return out
}

// poolConditions tells which pools are nearly or quite full.
func (d *Decider) poolConditions(v *view) []condition {
	all := d.pools(v.Picture)
	d.poolCount = len(all)
	var leaked []Reservation
	if d.settings.Leaks && v.Sees(leakSources...) {
		// A pod whose ADD has just run has no process yet.
		leaked = slices.DeleteFunc(leftReservations(v), func(r Reservation) bool { return !d.tracker.lasts(addressLeak(v, r), v.At) })
	}
	var out []condition
	for _, pool := range all {
		out = append(out, pool.conditions(pool.usage(v.Reservations, leaked), d.settings.PoolHighWater)...)
	}
	return out
}

// usage is how many addresses of a pool are reserved, how many of those for nobody who
// lives, in which directory (of those, if there are any), and since when so many are.
type usage struct {
	used, leaked int64
	store        string
	since        time.Time
}

func (p pool) usage(reserved, leaked []Reservation) usage {
	var u usage
	count := func(list []Reservation) int64 {
		addresses := make(map[netip.Addr]bool)
		for _, r := range list {
			if p.holds(r) {
				addresses[r.Address], u.store = true, r.Dir
				if r.Since.After(u.since) {
					u.since = r.Since
				}
			}
		}
		return int64(len(addresses))
	}
	u.used = count(reserved)
	u.leaked = count(leaked)
	return u
}

// conditions of a pool, of at least one address, that is used so.
func (p pool) conditions(u usage, highWater float64) []condition {
	used, size := u.used, p.addresses.Size()
	fill := float64(used) / float64(size)
	if fill < highWater-recovery {
		return nil
	}
	key := p.network + "/" + p.addresses.String()
	ev := func(name string, severity plog.SeverityNumber, what string) Event {
		e := Event{
			Name: name, Severity: severity,
			Body: fmt.Sprintf("Address pool %s of network %s is %s: %d of %d addresses are used", p.addresses, p.network, what, used, size),
			Attributes: map[string]any{
				event.KeyCNINetwork: p.network, event.KeyCNIPlugin: p.plugin, event.KeyCNIPoolUsed: used, event.KeyCNIPoolSize: size,
				event.KeyFilePath: u.store,
			},
		}
		if u.leaked > 0 {
			e.Body += fmt.Sprintf(", %d of them by nobody who lives", u.leaked)
			e.Attributes[event.KeyCNIPoolLeaked] = u.leaked
		}
		return e
	}
	sources := []Source{SourceConfig, SourcePools}
	out := []condition{{
		key: "pool.high/" + key, sources: sources, began: u.since,
		// A full pool is told as full, and needs no warning any more.
		weak:  fill < highWater || used >= size,
		event: ev(event.CNIPoolHigh, plog.SeverityNumberWarn, "nearly full"),
	}}
	if used >= size {
		out = append(out, condition{
			key: "pool.exhausted/" + key, sources: sources, linger: poolLinger, began: u.since,
			event: ev(event.CNIPoolExhausted, plog.SeverityNumberError, "exhausted"),
		})
	}
	return out
}
