//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/linux"
)

// program is one kernel program: what it is called in its object, where that
// is, and what it must be told before it is loaded.
type program struct {
	name      string
	load      func() (*ebpf.CollectionSpec, error)
	configure func(*ebpf.CollectionSpec, *features) error
	// needed, unless nil, tells whether it is of use on this kernel: another one may do
	// the same there.
	needed func(*features) bool
	// attached, unless nil, is called when it runs.
	attached func(*kernel, *runningProgram)
	// iterates names the map over whose elements an iterator runs.
	iterates string
	// sharesMaps names maps that programs of one object have in common.
	sharesMaps []string
}

// isNeeded tells whether a program is of use; of a kernel of which nothing is known every
// one is.
func (p *program) isNeeded(f *features) bool { return f == nil || p.needed == nil || p.needed(f) }

// programs are those that the configuration enables.
func programs(cfg *Config) []program {
	var all []program
	if cfg.Programs.Process.Enabled {
		all = append(all,
			program{name: bpf.ProcessProgProcessExec, load: bpf.LoadProcess, configure: func(spec *ebpf.CollectionSpec, _ *features) error {
				return spec.Variables["command_line"].Set(cfg.CommandLine)
			}},
			program{name: bpf.ProcessProgProcessExit, load: bpf.LoadProcess, sharesMaps: []string{bpf.ProcessMapDeaths}, configure: func(spec *ebpf.CollectionSpec, f *features) error {
				return spec.Variables["exit_has_group_dead"].Set(f.exitHasGroupDead)
			}},
			program{name: bpf.ProcessProgProcessSignal, load: bpf.LoadProcess},
			program{name: bpf.ForksProgProcessFork, load: bpf.LoadForks, attached: countForks})
	}
	if cfg.Programs.Memory.Enabled {
		all = append(all,
			program{name: bpf.MemoryProgOomKill, load: bpf.LoadMemory, sharesMaps: []string{bpf.MemoryMapDeaths}, configure: configureOOM},
			program{name: bpf.MemoryProgMemorySamples, load: bpf.LoadMemory, configure: configureMemory, attached: watchGrowth(cfg.Programs.Memory.GrowthWindow, cfg.SampleInterval)})
		all = append(all, reclaimPrograms()...)
	}
	if cfg.Programs.Syscalls.Enabled {
		all = append(all, program{name: bpf.SyscallsProgSyscallFailed, load: bpf.LoadSyscalls, attached: countFailures})
	}
	if cfg.Programs.HTTP.Enabled {
		all = append(all, httpPrograms(cfg)...)
	}
	if cfg.Programs.Network.Enabled {
		all = append(all, networkPrograms()...)
		all = append(all, dnsPrograms(cfg)...)
		all = append(all, dropsProgram())
	}
	if cfg.Programs.Disk.Enabled {
		all = append(all, diskPrograms()...)
	}
	if cfg.Programs.Scheduler.Enabled {
		all = append(all, schedulerPrograms()...)
	}
	return all
}

func configureOOM(spec *ebpf.CollectionSpec, f *features) error {
	if !f.victimHasTask {
		return errNoVictim
	}
	return configureMemory(spec, f)
}

func configureMemory(spec *ebpf.CollectionSpec, _ *features) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	return errors.Join(
		spec.Variables["page_size"].Set(uint32(os.Getpagesize())),
		spec.Variables["cpus"].Set(uint32(cpus)))
}

// kernel is the source of real events. Everything that keeps a program attached
// is held here: what nobody references, the garbage collector would detach.
type kernel struct {
	events, lost, suppressed *ebpf.Map
	reader                   *ringbuf.Reader
	record                   ringbuf.Record
	// isAhead says that record, or in its place aheadErr, was read and not returned yet.
	isAhead  bool
	aheadErr error
	// failing has calls that were read and not returned yet.
	failing  failureGroups
	known    knownProcesses
	pace     pace
	running  []runningProgram
	failures []failure
	features *features
	types    *btf.Cache // of the kernel, read once for all programs; nil when they are loaded
	samplers []sampler
	pollers  []poller
	shared   map[string]*ebpf.Map // by name, of the program that came first
	traces   *traces              // nil unless the group http runs
	tracer   *tracer              // the same

	sampleInterval time.Duration

	stopOnce sync.Once
	stopped  chan struct{}
	// mu keeps stats from reading what close has closed.
	mu     sync.Mutex
	closed bool
}

// sampler reads what programs count and do not send.
type sampler interface {
	// sample returns the growth since it was called last, up to a bound.
	sample() []kernelEvent
	// left counts, by event, what was beyond that bound. It may be called at any time.
	left() map[string]int64
}

// poller reads what shows only when something does not happen in time.
type poller interface {
	poll() []kernelEvent
	// last is poll for the last time: it returns what would be told later.
	last() []kernelEvent
	// left counts, by event, what was beyond a bound. It may be called at any time.
	left() map[string]int64
}

type runningProgram struct {
	name       string
	collection *ebpf.Collection
	program    *ebpf.Program
	link       link.Link // nil of a program that runs in processes
}

func openSource(cfg *Config, log *zap.Logger) source {
	return openKernel(cfg, programs(cfg), log)
}

// openKernel attaches what can be attached. It does not fail: what does not
// run is in failed.
func openKernel(cfg *Config, wanted []program, log *zap.Logger) *kernel {
	k := &kernel{sampleInterval: cfg.SampleInterval, stopped: make(chan struct{}), shared: map[string]*ebpf.Map{}, types: btf.NewCache()}
	defer func() { k.types = nil }()
	// Kernels from 5.11 on count this memory to the cgroup instead, and need none.
	if err := rlimit.RemoveMemlock(); err != nil {
		log.Debug("the limit of locked memory stays as it is", zap.Error(err))
	}
	f, err := readFeatures(k.types)
	k.features = f
	if err == nil {
		err = k.openRing(cfg)
	}
	if err == nil && cfg.Programs.HTTP.Enabled {
		err = k.openTraces(cfg, log)
	}
	for _, p := range wanted {
		if !p.isNeeded(f) {
			continue
		}
		if err != nil {
			k.fail(p.name, err, log)
			continue
		}
		running, err := k.attach(p, f)
		if err != nil {
			k.fail(p.name, err, log)
			continue
		}
		k.running = append(k.running, *running)
		if p.attached != nil {
			p.attached(k, running)
		}
	}
	if f != nil && f.pidNamespace != 0 && len(k.running) > 0 {
		log.Warn("the collector is in a pid namespace of its own: processes outside of it are reported without process.pid; run it in the host's (hostPID: true)")
	}
	if len(k.running) > 0 && linux.Capabilities()&(1<<unix.CAP_SYS_PTRACE) == 0 {
		log.Warn("missing CAP_SYS_PTRACE: service.name of other users' processes is known only as their environment says when they begin to run")
	}
	return k
}

func (k *kernel) fail(name string, err error, log *zap.Logger) {
	k.failures = append(k.failures, failure{program: name, reason: explain(err)})
	log.Debug("kernel program failed", zap.String("program", name), zap.Error(err))
}

// openRing makes what all programs share: the ring buffer and the loss counts.
func (k *kernel) openRing(cfg *Config) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	k.failing = newFailureGroups(cfg.MaxBatchSize, cpus)
	spec, err := bpf.LoadProcess()
	if err != nil {
		return err
	}
	events := spec.Maps[bpf.ProcessMapEvents]
	events.MaxEntries = uint32(cfg.RingBufferSize)
	if k.events, err = ebpf.NewMap(events); err != nil {
		return fmt.Errorf("create ring buffer: %w", err)
	}
	if k.lost, err = ebpf.NewMap(spec.Maps[bpf.ProcessMapLost]); err != nil {
		return errors.Join(fmt.Errorf("create loss counters: %w", err), k.events.Close())
	}
	if k.suppressed, err = ebpf.NewMap(spec.Maps[bpf.ProcessMapSuppressed]); err != nil {
		return errors.Join(fmt.Errorf("create suppression counters: %w", err), k.events.Close(), k.lost.Close())
	}
	if k.reader, err = ringbuf.NewReader(k.events); err != nil {
		return errors.Join(fmt.Errorf("read ring buffer: %w", err), k.events.Close(), k.lost.Close(), k.suppressed.Close())
	}
	return nil
}

// attach loads one program by itself, so that it fails by itself.
func (k *kernel) attach(p program, f *features) (*runningProgram, error) {
	spec, err := p.load()
	if err != nil {
		return nil, err
	}
	for name := range spec.Programs {
		if name != p.name {
			delete(spec.Programs, name)
		}
	}
	spec.Maps[bpf.ProcessMapEvents].MaxEntries = k.events.MaxEntries()
	if err := spec.Variables["collector_pidns"].Set(f.pidNamespace); err != nil {
		return nil, err
	}
	if p.configure != nil {
		if err := p.configure(spec, f); err != nil {
			return nil, err
		}
	}
	maps := map[string]*ebpf.Map{bpf.ProcessMapEvents: k.events, bpf.ProcessMapLost: k.lost, bpf.ProcessMapSuppressed: k.suppressed}
	for _, name := range p.sharesMaps {
		if m := k.shared[name]; m != nil {
			maps[name] = m
		}
	}
	if err := k.traces.use(spec, maps); err != nil {
		return nil, err
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: maps, Cache: k.types})
	if err != nil {
		return nil, err
	}
	l, err := attachTo(spec.Programs[p.name], collection, p)
	if err != nil {
		collection.Close()
		return nil, err
	}
	for _, name := range p.sharesMaps {
		if k.shared[name] == nil {
			k.shared[name] = collection.Maps[name]
		}
	}
	return &runningProgram{name: p.name, collection: collection, program: collection.Programs[p.name], link: l}, nil
}

// attachTo attaches a program to its tracepoint, or makes an iterator ready to run.
// Those that run in processes have no link of their own: the tracer attaches them.
func attachTo(spec *ebpf.ProgramSpec, c *ebpf.Collection, p program) (link.Link, error) {
	if spec.Type == ebpf.Kprobe {
		return nil, tryUprobe(c.Programs[p.name])
	}
	if spec.AttachType == ebpf.AttachTraceIter {
		return link.AttachIter(link.IterOptions{Program: c.Programs[p.name], Map: c.Maps[p.iterates]})
	}
	return link.AttachTracing(link.TracingOptions{Program: c.Programs[p.name]})
}

// read waits in the kernel until there is a record. The programs have the kernel
// wake the reader for a record that comes when all before have been read, so it
// needs no deadline; while records are frequent it lets them gather.
func (k *kernel) read() (kernelEvent, error) {
	if k.reader == nil {
		<-k.stopped
		return nil, os.ErrClosed
	}
	if failed, ok := k.failing.next(); ok {
		return failed, nil
	}
	if err := k.nextRecord(); err != nil {
		return nil, err
	}
	if isFailure(k.record.RawSample) {
		return k.gather()
	}
	ev, err := decode(k.record.RawSample, &k.known)
	if err != nil {
		return nil, err
	}
	if ev = k.tracer.take(ev); ev == nil {
		return nil, nil
	}
	return k.features.named(ev), nil
}

func (k *kernel) hasMore() bool { return k.isAhead || k.failing.hasNext() || k.record.Remaining > 0 }

// nextRecord has the next record in k.record.
func (k *kernel) nextRecord() error {
	if k.isAhead {
		k.isAhead = false
		return k.aheadErr
	}
	if k.record.Remaining == 0 && k.reader.AvailableBytes() == 0 && k.pace.isFast(time.Now()) {
		time.Sleep(pacePause)
	}
	return k.readRecord()
}

func (k *kernel) readRecord() error {
	k.pace.records++
	err := k.reader.ReadInto(&k.record)
	if err != nil && k.isStopped() { // ringbuf.ErrFlushed: the ring is empty
		return os.ErrClosed
	}
	return err
}

// gather puts the failing calls that are next in the ring together with the one in
// k.record.
func (k *kernel) gather() (kernelEvent, error) {
	if err := k.failing.add(k.record.RawSample, &k.known); err != nil {
		return nil, err
	}
	for k.record.Remaining > 0 && !k.isAhead {
		k.aheadErr = k.readRecord()
		k.isAhead = k.aheadErr != nil || !isFailure(k.record.RawSample) || k.failing.add(k.record.RawSample, &k.known) != nil
	}
	failed, _ := k.failing.next()
	return failed, nil
}

func (k *kernel) attached() []string {
	names := make([]string, len(k.running))
	for i, p := range k.running {
		names[i] = p.name
	}
	return names
}

func (k *kernel) failed() []failure { return k.failures }

// eventNames are the names of the kinds of records.
var eventNames = map[bpf.ProcessRecordKind]string{
	bpf.ProcessRecordKindTAPIO_EXEC:    event.ProcessExec,
	bpf.ProcessRecordKindTAPIO_EXIT:    event.ProcessExit,
	bpf.ProcessRecordKindTAPIO_SIGNAL:  event.ProcessSignal,
	bpf.ProcessRecordKindTAPIO_OOM:     event.OOMKill,
	bpf.ProcessRecordKindTAPIO_SYSCALL: event.SyscallFailed,
	bpf.ProcessRecordKindTAPIO_CONNECT: event.TCPConnectFailed,

	kindListen:      event.TCPListen,
	kindReset:       event.TCPReset,
	kindRetransmit:  event.TCPRetransmit,
	kindOverflow:    event.TCPListenOverflow,
	kindConnections: event.TCPConnections,

	kindHTTPExchange: spanEvent,
	kindDNS:          event.DNSFailed,
	kindUDPListen:    event.UDPListen,

	kindBlockError:   event.BlockIOError,
	kindBlockLatency: event.BlockIOLatency,
	kindDrops:        event.PacketsDropped,

	kindReclaim:   event.MemoryReclaim,
	kindGrowth:    event.MemoryGrowth,
	kindForks:     event.ProcessForks,
	kindRunQueue:  event.CPURunQueue,
	kindThrottled: event.CPUThrottled,
}

func (k *kernel) stats() sourceStats {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := sourceStats{lost: make(map[string]int64), suppressed: make(map[string]int64), missed: make(map[string]int64)}
	if k.closed || k.reader == nil {
		return s
	}
	s.ringUsed = int64(k.reader.AvailableBytes())
	for kind, name := range eventNames {
		s.lost[name] = sum(k.lost, uint32(kind))
		s.suppressed[name] = sum(k.suppressed, uint32(kind))
	}
	s.requests = k.traces.requests()
	s.goroutines, s.goroutinesForgotten = k.traces.goroutines()
	if k.tracer != nil {
		s.probedFiles, s.probesFailed = k.tracer.probes.counts()
		files, failed := k.tracer.tls.probes.counts()
		s.probedFiles, s.probesFailed = s.probedFiles+files, s.probesFailed+failed
		s.suppressed[spanEvent] += k.tracer.unnamed.Load() + sum(k.traces.maps[bpf.HTTPMapHttpCounts], uint32(bpf.HTTPHttpCountTAPIO_HTTP_SPANS_LOST))
	}
	for _, counts := range k.samplers {
		for name, n := range counts.left() {
			s.suppressed[name] += n
		}
	}
	for _, p := range k.pollers {
		for name, n := range p.left() {
			s.suppressed[name] += n
		}
	}
	for _, p := range k.running {
		if stats, err := p.program.Stats(); err == nil {
			s.missed[p.name] = int64(stats.RecursionMisses)
		}
	}
	return s
}

// sum adds what all CPUs counted.
func sum(m *ebpf.Map, kind uint32) (total int64) {
	var perCPU []uint64
	if err := m.Lookup(kind, &perCPU); err != nil {
		return 0 // a kind of another version: never
	}
	for _, n := range perCPU {
		total += int64(n)
	}
	return total
}

func (k *kernel) sample() (out []kernelEvent) {
	for _, counts := range k.samplers {
		out = append(out, counts.sample()...)
	}
	return out
}

func (k *kernel) poll() (out []kernelEvent) {
	for _, p := range k.pollers {
		out = append(out, p.poll()...)
	}
	return out
}

func (k *kernel) last() []kernelEvent {
	out := lastSample(k.sample(), k.sampleInterval)
	for _, p := range k.pollers {
		out = append(out, p.last()...)
	}
	return out
}

// lastSample is what to tell of a sample when the time since the one before may be too short
// to judge by. What is judged by what is usual is left out; what is judged by the part of the
// time that it takes is told, and judged as if it were all of an interval.
func lastSample(events []kernelEvent, interval time.Duration) []kernelEvent {
	events = slices.DeleteFunc(events, func(ev kernelEvent) bool {
		return slices.Contains([]string{event.ProcessForkStorm, event.CPUStarved, event.BlockIOSlow}, ev.name())
	})
	for i := range events {
		switch ev := events[i].(type) {
		case reclaimEvent:
			ev.judgedOver = interval
			events[i] = ev
		case throttledEvent:
			ev.judgedOver = interval
			events[i] = ev
		}
	}
	return events
}

func (k *kernel) isStopped() bool {
	select {
	case <-k.stopped:
		return true
	default:
		return false
	}
}

// stop detaches all programs and wakes the reader, which then finds no more
// than what the ring buffer holds.
func (k *kernel) stop() error {
	var errs []error
	k.stopOnce.Do(func() {
		for _, p := range k.running {
			if p.link != nil {
				errs = append(errs, p.link.Close())
			}
		}
		if k.tracer != nil {
			errs = append(errs, k.tracer.probes.close(), k.tracer.tls.probes.close())
		}
		close(k.stopped)
		if k.reader != nil {
			errs = append(errs, k.reader.Flush())
		}
	})
	return errors.Join(errs...)
}

func (k *kernel) close() error {
	errs := []error{k.stop()}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return errs[0]
	}
	k.closed = true
	for _, p := range k.running {
		p.collection.Close()
	}
	k.tracer.close()
	errs = append(errs, k.traces.close())
	if k.reader != nil {
		errs = append(errs, k.reader.Close(), k.events.Close(), k.lost.Close(), k.suppressed.Close())
	}
	return errors.Join(errs...)
}
