//go:build linux && (amd64 || arm64)

package plugins

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/linux"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/operation"
)

// ringSize is the memory between kernel and receiver in bytes. A plugin takes
// about 10 KiB of it: a hundred may begin and end while nobody reads.
const ringSize = 1 << 20

// Source is the kernel's records about plugins. Everything that keeps a program
// attached is held here: what nobody references, the garbage collector detaches.
type Source struct {
	collection *ebpf.Collection
	links      []link.Link
	reader     *ringbuf.Reader
	record     ringbuf.Record
	tap        *tap
	limits     []string

	stopOnce sync.Once
	stopped  chan struct{}
	// mu keeps Stats from reading what Close has closed.
	mu     sync.Mutex
	closed bool
}

// Open loads and attaches the programs. Without the two that see plugins begin
// and end there is no Source; the error says what is missing. Whatever else does
// not work is in Limits.
func Open(output Output, log *zap.Logger) (*Source, error) {
	// Kernels from 5.11 on count this memory to the cgroup instead, and need none.
	if err := rlimit.RemoveMemlock(); err != nil {
		log.Debug("the limit of locked memory stays as it is", zap.Error(err))
	}
	s := &Source{stopped: make(chan struct{})}
	if err := s.open(output); err != nil {
		return nil, errors.Join(errors.New(linux.Explain(err)), s.Close())
	}
	return s, nil
}

func (s *Source) open(output Output) error {
	var err error
	if s.collection, err = load(output != OutputNever); err != nil && output != OutputNever {
		reason := err
		if s.collection, err = load(false); err == nil {
			s.limits = append(s.limits, "network names and messages of plugins: "+linux.Explain(reason))
			output = OutputNever
		}
	}
	if err != nil {
		return err
	}
	if s.reader, err = ringbuf.NewReader(s.collection.Maps[bpf.CNIMapEvents]); err != nil {
		return fmt.Errorf("read ring buffer: %w", err)
	}
	for _, name := range []string{bpf.CNIProgCniExit, bpf.CNIProgCniExec} {
		l, err := link.AttachTracing(link.TracingOptions{Program: s.collection.Programs[name]})
		if err != nil {
			return fmt.Errorf("attach %s: %w", name, err)
		}
		s.links = append(s.links, l)
	}
	if output == OutputNever {
		return nil
	}
	s.tap = newTap(s.collection, output)
	if err := s.tap.try(); err != nil {
		s.limits = append(s.limits, "network names and messages of plugins: "+linux.Explain(err))
		s.tap = nil
	}
	return nil
}

// load makes the kernel take the programs, with those that look at streams or
// without.
func load(withStreams bool) (*ebpf.Collection, error) {
	spec, err := bpf.LoadCNI()
	if err != nil {
		return nil, err
	}
	if !withStreams {
		delete(spec.Programs, bpf.CNIProgCniWrite)
		delete(spec.Programs, bpf.CNIProgCniRead)
	}
	namespace, err := linux.PIDNamespace()
	if err != nil {
		return nil, err
	}
	if err := spec.Variables[bpf.CNIVarCollectorPidns].Set(namespace); err != nil {
		return nil, err
	}
	spec.Maps[bpf.CNIMapEvents].MaxEntries = ringSize
	return ebpf.NewCollection(spec)
}

// Read waits for the next record. After Stop it returns those that are left,
// then os.ErrClosed; any other error is about one record.
func (s *Source) Read() (operation.Record, error) {
	if err := s.reader.ReadInto(&s.record); err != nil {
		if s.isStopped() { // ringbuf.ErrFlushed: the ring is empty
			return nil, os.ErrClosed
		}
		return nil, err
	}
	r, err := decode(s.record.RawSample)
	if _, isExec := r.(operation.Exec); isExec && s.tap != nil {
		s.tap.open()
	}
	return r, err
}

// Limits are what does not work, each as "what: reason".
func (s *Source) Limits() []string { return s.limits }

// Stats may be called at any time.
func (s *Source) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := Stats{Lost: map[string]int64{}, Skipped: map[string]int64{}, Missed: map[string]int64{}}
	if s.closed {
		return stats
	}
	lost, skipped := s.collection.Maps[bpf.CNIMapLost], s.collection.Maps[bpf.CNIMapSkipped]
	stats.Lost["exec"] = sum(lost, uint32(bpf.CNICniKindTAPIO_CNI_EXEC))
	stats.Lost["data"] = sum(lost, uint32(bpf.CNICniKindTAPIO_CNI_DATA))
	stats.Lost["exit"] = sum(lost, uint32(bpf.CNICniKindTAPIO_CNI_EXIT))
	stats.Skipped["unscanned"] = sum(skipped, uint32(bpf.CNICniSkipTAPIO_CNI_UNSCANNED))
	stats.Skipped["unprivileged"] = sum(skipped, uint32(bpf.CNICniSkipTAPIO_CNI_UNPRIVILEGED))
	for name, program := range s.collection.Programs {
		if p, err := program.Stats(); err == nil {
			stats.Missed[name] = int64(p.RecursionMisses)
		}
	}
	return stats
}

// sum of a counter over all CPUs, 0 when it cannot be read.
func sum(counters *ebpf.Map, key uint32) int64 {
	var perCPU []uint64
	if err := counters.Lookup(key, &perCPU); err != nil {
		return 0
	}
	var total int64
	for _, n := range perCPU {
		total += int64(n)
	}
	return total
}

func (s *Source) isStopped() bool {
	select {
	case <-s.stopped:
		return true
	default:
		return false
	}
}

// Stop detaches all programs and wakes the reader, which then finds no more than
// what the ring buffer holds.
func (s *Source) Stop() error {
	var errs []error
	s.stopOnce.Do(func() {
		close(s.stopped)
		for _, l := range s.links {
			errs = append(errs, l.Close())
		}
		if s.tap != nil {
			errs = append(errs, s.tap.close())
		}
		if s.reader != nil {
			errs = append(errs, s.reader.Flush())
		}
	})
	return errors.Join(errs...)
}

// Close stops and frees everything. Nobody may read any more.
func (s *Source) Close() error {
	errs := []error{s.Stop()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errs[0]
	}
	s.closed = true
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	if s.collection != nil {
		s.collection.Close()
	}
	return errors.Join(errs...)
}
