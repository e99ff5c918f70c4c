package state

import (
	"fmt"
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
func (d *Decider) poolConditions(p *Picture) []condition {
	all := pools(p)
	d.pools = len(all)
	var out []condition
	for _, pool := range all {
		size, used := pool.addresses.Size(), int64(0)
		for _, r := range p.Reservations {
			if r.Network == pool.network && pool.addresses.Contains(r.Address) {
				used++
			}
		}
		out = append(out, pool.conditions(used, size, d.settings.PoolHighWater)...)
	}
	return out
}

// conditions of a pool of that size (at least 1) with that many addresses used.
func (p pool) conditions(used, size int64, highWater float64) []condition {
	fill := float64(used) / float64(size)
	if fill < highWater-recovery {
		return nil
	}
	key := p.network + "/" + p.addresses.String()
	ev := func(name string, severity plog.SeverityNumber, what string) Event {
		return Event{
			Name: name, Severity: severity,
			Body: fmt.Sprintf("Address pool %s of network %s is %s: %d of %d addresses are used", p.addresses, p.network, what, used, size),
			Attributes: map[string]any{
				event.KeyCNINetwork: p.network, event.KeyCNIPlugin: p.plugin, event.KeyCNIPoolUsed: used, event.KeyCNIPoolSize: size,
			},
		}
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
