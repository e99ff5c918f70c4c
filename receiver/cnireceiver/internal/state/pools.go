package state

import (
	"fmt"
	"net/netip"
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
}

// pools are those whose addresses and size can be known from files.
func pools(p *Picture) []pool {
	var out []pool
	for _, c := range p.Configs {
		if c.Network == nil {
			continue
		}
		for _, plugin := range c.Network.Plugins {
			if plugin.IPAM != nil {
				for _, addresses := range plugin.IPAM.Pools {
					out = append(out, pool{network: c.Network.Name, plugin: plugin.IPAM.Type, addresses: addresses})
				}
			}
			if plugin.Type != Flannel {
				continue
			}
			if subnet, ok := p.Subnets[FlannelSubnetFile(plugin)]; ok {
				if r, err := netconf.SubnetRange(subnet); err == nil {
					out = append(out, pool{network: c.Network.Name, plugin: netconf.HostLocal, addresses: netconf.Pool{Ranges: []netconf.Range{r}}})
				}
			}
		}
	}
	return out
}

// poolConditions tells which pools are nearly or quite full.
func (d *Decider) poolConditions(v *view) []condition {
	all := pools(v.Picture)
	d.pools = len(all)
	var leaked []condition
	if d.settings.Leaks && v.Sees(leakSources...) {
		leaked = addressLeaks(v)
	}
	var out []condition
	for _, pool := range all {
		var u usage
		for _, r := range v.Reservations {
			if r.Network == pool.network && pool.addresses.Contains(r.Address) {
				u.used++
			}
		}
		for _, l := range leaked {
			// A pod whose ADD has just run has no process yet.
			if !d.tracker.lasts(l, v.At) {
				continue
			}
			address, err := netip.ParseAddr(fmt.Sprint(l.event.Attributes[event.KeyCNIAddress]))
			if err == nil && l.event.Attributes[event.KeyCNINetwork] == pool.network && pool.addresses.Contains(address) {
				u.leaked++
			}
		}
		out = append(out, pool.conditions(u, d.settings.PoolHighWater)...)
	}
	return out
}

// usage is how many addresses of a pool are reserved, and how many of those for
// nobody who lives.
type usage struct{ used, leaked int64 }

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
		key: "pool.high/" + key, sources: sources,
		// A full pool is told as full, and needs no warning any more.
		weak:  fill < highWater || used >= size,
		event: ev(event.CNIPoolHigh, plog.SeverityNumberWarn, "nearly full"),
	}}
	if used >= size {
		out = append(out, condition{
			key: "pool.exhausted/" + key, sources: sources, linger: poolLinger,
			event: ev(event.CNIPoolExhausted, plog.SeverityNumberError, "exhausted"),
		})
	}
	return out
}
