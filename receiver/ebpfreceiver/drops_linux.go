//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"cmp"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

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
				spec.Variables[bpf.DropsVarDropHasSocket].Set(f.dropHasSocket))
		},
		attached: func(k *kernel, p *runningProgram) {
			c := p.collection
			k.samplers = append(k.samplers, &dropCounts{
				counts: c.Maps[bpf.DropsMapDrops], paths: k.shared[bpf.NetworkMapPaths], reasons: k.features.dropReasons,
				known: map[bpf.DropsDropKey]*dropCount{}, sampled: time.Now(),
			})
		},
	}
}

// dropCounts reads how many packets were dropped. The kernel only counts up.
type dropCounts struct {
	counts, paths *ebpf.Map
	reasons       map[uint32]string
	known         map[bpf.DropsDropKey]*dropCount
	sampled       time.Time
	// leftOut counts packets that were in none of the records sent.
	leftOut atomic.Int64
}

// dropCount is what a count was, and for how many samples.
type dropCount struct {
	value uint64
	idle  int
}

func (d *dropCounts) left() map[string]int64 {
	return map[string]int64{event.PacketsDropped: d.leftOut.Load()}
}

func (d *dropCounts) sample() []kernelEvent {
	now := time.Now()
	interval := now.Sub(d.sampled).Round(time.Millisecond)
	d.sampled = now
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail with this clock
	grown := d.grown()
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
		ev.at, ev.interval = uint64(ts.Nano()), interval
		out = append(out, ev)
	}
	return out
}

// grown returns what grew since the last sample, and forgets what does no more.
func (d *dropCounts) grown() (out []dropsEvent) {
	var key bpf.DropsDropKey
	var value bpf.DropsDrop
	var idle []bpf.DropsDropKey
	for all := d.counts.Iterate(); all.Next(&key, &value); {
		k := d.known[key]
		if k == nil {
			k = &dropCount{}
			d.known[key] = k
		}
		if value.Count > k.value {
			out = append(out, d.growth(&key, &value, value.Count-k.value))
			*k = dropCount{value: value.Count}
			continue
		}
		if k.idle++; k.idle >= idleSamples {
			idle = append(idle, key)
		}
	}
	for _, key := range idle {
		_ = d.counts.Delete(key) // gone already is as good
		delete(d.known, key)
	}
	return out
}

func (d *dropCounts) growth(key *bpf.DropsDropKey, value *bpf.DropsDrop, count uint64) dropsEvent {
	cgroup := bpf.NetworkCgroupPath{Partial: 1}
	if value.Process.Start != 0 && d.paths.Lookup(value.Process.CgroupId, &cgroup) != nil {
		cgroup = bpf.NetworkCgroupPath{Partial: 1}
	}
	return dropsEvent{
		base:   networkBase(0, (*bpf.NetworkProcessId)(&value.Process), &cgroup),
		reason: nameOf(d.reasons, key.Reason), reasonNumber: key.Reason,
		protocol: key.Protocol, port: key.Port, hasSocket: key.HasSocket != 0, netns: key.Netns, count: count,
	}
}
