//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

const (
	// maxLatencies bounds the records of one sample; those that took most time are sent.
	maxLatencies = 64
	// maxHurtCgroups bounds the cgroups that are named for a slow device, the busiest first.
	maxHurtCgroups = 32
	// forgetDevice is after how many samples without a request a device is forgotten:
	// an hour of 10 s.
	forgetDevice = 360
)

// Kinds of records that disk.h defines.
const (
	kindBlockError   = bpf.ProcessRecordKind(bpf.DiskDiskKindTAPIO_BLOCK_ERROR)
	kindBlockLatency = bpf.ProcessRecordKind(bpf.DiskDiskKindTAPIO_BLOCK_LATENCY)
)

// errNoBlockTracepoint: built without CONFIG_BLOCK.
var errNoBlockTracepoint = errors.New("this kernel has no tracepoint block/block_rq_complete")

func diskPrograms() []program {
	shared := []string{bpf.DiskMapLatencies, bpf.DiskMapCgroupPaths}
	return []program{
		{name: bpf.DiskProgBlockError, load: bpf.LoadDisk, configure: configureBlockError, sharesMaps: shared},
		{name: bpf.DiskProgBlockLatency, load: bpf.LoadDisk, attached: countLatencies, sharesMaps: shared},
	}
}

// configureBlockError chooses the tracepoint: block_rq_error since 5.18, before it
// that of all requests.
func configureBlockError(spec *ebpf.CollectionSpec, f *features) error {
	if f.blockStatusSize == 0 {
		return errNoBlockTracepoint
	}
	if !f.hasBlockError {
		spec.Programs[bpf.DiskProgBlockError].AttachTo = "block_rq_complete"
	}
	return errors.Join(
		spec.Variables[bpf.DiskVarSeesAllRequests].Set(!f.hasBlockError),
		spec.Variables[bpf.DiskVarStatusIsBlk].Set(f.blockStatusSize == 1))
}

// sizeOfArgument is the size of an argument of a tracepoint in bytes, 0 when there
// is none.
func sizeOfArgument(arguments []btf.FuncParam, i int) int {
	if i >= len(arguments) {
		return 0
	}
	size, err := btf.Sizeof(arguments[i].Type)
	if err != nil {
		return 0
	}
	return size
}

func decodeBlockError(r *bpf.DiskBlockErrorRecord, _ *knownProcesses) kernelEvent {
	ev := blockErrorEvent{
		base:   base{at: r.Header.Time},
		device: text(r.Disk[:]), operation: blockOperation(r.Operation),
		sector: r.Sector, bytes: r.Bytes, status: decodeBlockStatus(r.Status),
	}
	if r.CgroupId != 0 {
		ev.who.cgroup = path((*bpf.ProcessCgroupPath)(&r.Cgroup))
	}
	return ev
}

// decodeBlockStatus reads a blk_status_t or, of older kernels, a negative errno.
func decodeBlockStatus(status int32) blockStatus {
	if s, ok := blockStatuses[status]; ok {
		return s
	}
	if status < 0 {
		errno := errnoName(uint32(-status))
		for _, s := range blockStatuses {
			if s.errno == errno {
				return s
			}
		}
		return blockStatus{errno, errno}
	}
	return blockStatus{"status " + strconv.Itoa(int(status)), "EIO"} // as blk_status_to_errno
}

// device is one kind of requests to one device.
type device struct {
	number    uint32
	operation uint32
}

// latencyCounts reads how long requests took, and judges each device.
type latencyCounts struct {
	latencies counters[bpf.DiskLatencyKey, bpf.DiskLatency]
	paths     *ebpf.Map
	devices   map[device]*deviceLatency
	sampled   time.Time
	leftOut   atomic.Int64
}

func countLatencies(k *kernel, p *runningProgram) {
	c := p.collection
	k.samplers = append(k.samplers, &latencyCounts{
		latencies: newCounters[bpf.DiskLatencyKey, bpf.DiskLatency](c.Maps[bpf.DiskMapLatencies]),
		paths:     c.Maps[bpf.DiskMapCgroupPaths],
		devices:   map[device]*deviceLatency{}, sampled: time.Now(),
	})
}

func (l *latencyCounts) left() map[string]int64 {
	return map[string]int64{event.BlockIOLatency: l.leftOut.Load()}
}

func (l *latencyCounts) sample() []kernelEvent {
	now := time.Now()
	interval := now.Sub(l.sampled).Round(time.Millisecond)
	l.sampled = now
	grown, all := l.grown()
	at := bootNow()
	var out []kernelEvent
	for d, ev := range l.judge(all) {
		ev.at, ev.interval = at, interval
		for _, slow := range slowFor(ev, d, grown) {
			out = append(out, slow)
		}
	}
	slices.SortFunc(grown, func(a, b grownLatency) int {
		return cmp.Or(cmp.Compare(b.event.took.total, a.event.took.total), a.compare(&b))
	})
	for i, g := range grown {
		if i >= maxLatencies {
			l.leftOut.Add(int64(len(grown) - i))
			break
		}
		g.event.at, g.event.interval = at, interval
		out = append(out, g.event)
	}
	return out
}

// slowFor returns what is to be said of a slow device: of the device, and of each
// cgroup, up to a bound, whose own requests took as long.
func slowFor(ev blockSlowEvent, d device, grown []grownLatency) []blockSlowEvent {
	var of []grownLatency
	for _, g := range grown {
		if g.device == d && g.cgroup != 0 && g.event.who.cgroup != "" {
			of = append(of, g)
		}
	}
	slices.SortFunc(of, func(a, b grownLatency) int {
		return cmp.Or(cmp.Compare(b.event.took.count, a.event.took.count), a.compare(&b))
	})
	if len(of) > 0 {
		ev.busiest, ev.share = of[0].event.who.cgroup, float64(of[0].event.took.count)/float64(ev.took.count)
	}
	out := []blockSlowEvent{ev}
	for _, g := range of {
		if ev.hurts(&g.event.took) && len(out) <= maxHurtCgroups {
			hurt := ev
			hurt.who.cgroup, hurt.took = g.event.who.cgroup, g.event.took
			out = append(out, hurt)
		}
	}
	return out
}

// grownLatency is what a cgroup asked of a device since the last sample.
type grownLatency struct {
	device
	cgroup uint64
	event  blockLatencyEvent
}

func (g *grownLatency) compare(other *grownLatency) int {
	return cmp.Or(cmp.Compare(g.cgroup, other.cgroup), cmp.Compare(g.number, other.number), cmp.Compare(g.operation, other.operation))
}

// grown returns what was asked by each cgroup, and the sum for each device.
func (l *latencyCounts) grown() (grown []grownLatency, all map[device]*blockSlowEvent) {
	all = map[device]*blockSlowEvent{}
	l.latencies.each(func(key bpf.DiskLatencyKey, now, before *bpf.DiskLatency) bool {
		took := grownHistogram(now.Histogram.Count, now.Histogram.Total, before.Histogram.Count, before.Histogram.Total, &now.Histogram.Slots, &before.Histogram.Slots)
		if took.count == 0 {
			return false
		}
		d := device{key.Device, key.Operation}
		g := grownLatency{device: d, cgroup: key.Cgroup, event: blockLatencyEvent{
			device: text(now.Disk[:]), operation: blockOperation(key.Operation), took: took, bytes: now.Bytes - before.Bytes,
		}}
		g.event.who.cgroup = cgroupOf(l.paths, key.Cgroup)
		grown = append(grown, g)
		if all[d] == nil {
			all[d] = &blockSlowEvent{device: g.event.device, operation: g.event.operation}
		}
		all[d].took.add(&took)
		return true
	})
	return grown, all
}

// judge returns the devices that are slow, with what is usual of each.
func (l *latencyCounts) judge(all map[device]*blockSlowEvent) map[device]blockSlowEvent {
	slow := map[device]blockSlowEvent{}
	for d, ev := range all {
		state := l.devices[d]
		if state == nil {
			state = &deviceLatency{}
			l.devices[d] = state
		}
		state.idle = 0
		usualRequests := state.usualRequests()
		if usual, isSlow := state.judge(&ev.took); isSlow {
			ev.usual, ev.usualRequests = usual, usualRequests
			slow[d] = *ev
		}
	}
	for d, state := range l.devices {
		if all[d] == nil {
			state.percentile.skip()
			if state.idle++; state.idle >= forgetDevice {
				delete(l.devices, d)
			}
		}
	}
	return slow
}
