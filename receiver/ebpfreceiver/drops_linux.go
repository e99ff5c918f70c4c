//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

const kindDrops = bpf.ProcessRecordKind(bpf.NetworkNetworkKindTAPIO_DROPS)

// errNoDropReason: before Linux 5.17 the tracepoint skb/kfree_skb does not tell
// what is thrown away from what is merely freed.
var errNoDropReason = errors.New("this kernel's tracepoint skb/kfree_skb does not say why a packet is dropped; Linux 5.17 and later do")

func dropsProgram() program {
	return program{
		name: bpf.DropsProgPacketDropped, load: bpf.LoadDrops, sharesMaps: networkMaps,
		configure: func(spec *ebpf.CollectionSpec, f *features) error {
			if len(f.dropReasons) == 0 {
				return errNoDropReason
			}
			return errors.Join(
				spec.Variables[bpf.DropsVarBenignReasons].Set(benignBits(f.dropReasons)),
				spec.Variables[bpf.DropsVarNoSocketReason].Set(numberOf(f.dropReasons, "no_socket")),
				spec.Variables[bpf.DropsVarDropHasSocket].Set(f.dropHasSocket))
		},
		attached: func(k *kernel, p *runningProgram) {
			c := p.collection
			k.samplers = append(k.samplers, &dropCounts{
				counts:      newCounters[bpf.DropsDropKey, bpf.DropsDrop](c.Maps[bpf.DropsMapDrops]),
				closedPorts: newCounters[bpf.DropsDropKey, bpf.DropsDrop](c.Maps[bpf.DropsMapClosedPorts]),
				paths:       k.shared[bpf.NetworkMapPaths], reasons: k.features.dropReasons, sampled: time.Now(),
			})
		},
	}
}

// numberOf is the number of a name, 0 when there is none.
func numberOf(names map[uint32]string, name string) uint32 {
	for number, n := range names {
		if n == name {
			return number
		}
	}
	return 0
}

// dropCounts reads how many packets were dropped.
type dropCounts struct {
	counts, closedPorts counters[bpf.DropsDropKey, bpf.DropsDrop]
	paths               *ebpf.Map
	reasons             map[uint32]string
	sampled             time.Time
	// leftOut counts packets that were in none of the records sent.
	leftOut atomic.Int64
}

func (d *dropCounts) left() map[string]int64 {
	return map[string]int64{event.PacketsDropped: d.leftOut.Load()}
}

func (d *dropCounts) sample() []kernelEvent {
	now := time.Now()
	interval := now.Sub(d.sampled).Round(time.Millisecond)
	d.sampled = now
	boot := bootNow()
	var grown []dropsEvent
	grew := func(key bpf.DropsDropKey, now, before *bpf.DropsDrop) bool {
		if now.Count <= before.Count {
			return false
		}
		grown = append(grown, d.growth(&key, now, now.Count-before.Count))
		return true
	}
	d.counts.each(grew)
	d.closedPorts.each(grew)
	slices.SortFunc(grown, func(a, b dropsEvent) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.reasonNumber, b.reasonNumber), cmp.Compare(a.port, b.port),
			cmp.Compare(a.netns, b.netns), cmp.Compare(a.who.pid, b.who.pid))
	})
	var out []kernelEvent
	for i, ev := range grown {
		if i >= maxDrops {
			d.leftOut.Add(int64(ev.count))
			continue
		}
		ev.at, ev.interval = boot, interval
		out = append(out, ev)
	}
	return out
}

func (d *dropCounts) growth(key *bpf.DropsDropKey, value *bpf.DropsDrop, count uint64) dropsEvent {
	cgroup := bpf.NetworkCgroupPath{Partial: 1}
	if value.Process.Start != 0 && d.paths.Lookup(value.Process.CgroupId, &cgroup) != nil {
		cgroup = bpf.NetworkCgroupPath{Partial: 1}
	}
	return dropsEvent{
		base:   networkBase(0, (*bpf.NetworkProcessId)(&value.Process), &cgroup, nil),
		reason: nameOf(d.reasons, key.Reason), reasonNumber: key.Reason,
		protocol: key.Protocol, port: key.Port, hasSocket: key.HasSocket != 0, netns: key.Netns, count: count,
	}
}
