package ebpfreceiver

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/kmsg"
)

// kmsgName is how the kernel's log is called among the kernel programs.
const kmsgName = "kmsg"

// Bounds of the messages of one kind, like those of the token buckets in
// bpf/bucket.h: a disk that dies says so for every sector.
const (
	messageBurst    = 32
	messageInterval = 100 * time.Millisecond
)

// maxClockDrift is how far the kernel's log may be from CLOCK_BOOTTIME. Its own
// clock is not corrected by NTP. Records are read as soon as they are written,
// so that beyond this the time of reading is the better one.
const maxClockDrift = time.Second

// messageEvent is a line of the kernel's log that a rule knows.
type messageEvent struct {
	base
	found kmsg.Event
	line  string
}

func (e messageEvent) name() string   { return e.found.Name }
func (e messageEvent) isUrgent() bool { return e.found.Severity >= plog.SeverityNumberWarn }

// messages reads the kernel's log. What the rules do not know is left out: it is
// no event.
type messages struct {
	reader  messageReader
	rules   kmsg.Rules
	clocks  func() (boot, suspended uint64)
	log     *zap.Logger
	skip    map[string]func(line string, found *kmsg.Event) bool
	failure *failure
	lost    atomic.Int64

	mu      sync.Mutex
	buckets map[string]*messageBucket
}

// messageReader is what *kmsg.Reader does.
type messageReader interface {
	Next() (kmsg.Record, error)
	Lost() uint64
	Close() error
}

// messageBucket holds back what a kind of message has too much of. There is one
// for each event name of the rules, whose number is bounded.
type messageBucket struct {
	tokens     int
	at         uint64 // CLOCK_BOOTTIME in nanoseconds
	suppressed int64
}

// openMessages opens the kernel's log at its end, unless the configuration
// disables it. running are the kernel programs that run: what one of them tells
// better is not told twice.
func openMessages(cfg *Config, running []string, log *zap.Logger) *messages {
	if !cfg.Programs.Kmsg.Enabled {
		return nil
	}
	rules, err := cfg.Programs.Kmsg.rules()
	var reader messageReader
	if err == nil {
		reader, err = openKmsg(kmsg.Device)
	}
	if err != nil {
		log.Debug("the kernel's log cannot be read", zap.Error(err))
		return &messages{failure: &failure{program: kmsgName, reason: explainKmsg(err)}}
	}
	return newMessages(reader, rules, running, bootClock, log)
}

func openKmsg(path string) (messageReader, error) { return kmsg.Open(path, true) }

func newMessages(reader messageReader, rules kmsg.Rules, running []string, clocks func() (boot, suspended uint64), log *zap.Logger) *messages {
	m := &messages{reader: reader, rules: rules, clocks: clocks, log: log, skip: map[string]func(string, *kmsg.Event) bool{}, buckets: map[string]*messageBucket{}}
	for _, name := range running {
		if told, ok := toldByPrograms[name]; ok {
			m.skip[told.event] = told.is
		}
	}
	return m
}

// toldByPrograms are the events of the rules that a kernel program tells with
// more detail, and which of them it does.
var toldByPrograms = map[string]struct {
	event string
	is    func(line string, found *kmsg.Event) bool
}{
	"oom_kill":    {event.OOMKill, func(string, *kmsg.Event) bool { return true }},
	"block_error": {event.BlockIOError, isRequestError},
}

// blockDevices is where the kernel shows block devices.
const blockDevices = "/sys/class/block/"

// isRequestError says that a line about a block device is of a request that failed,
// which the kernel logs where its tracepoint is; or a consequence of one. A device
// without a queue of requests (dm, md) has none.
func isRequestError(line string, found *kmsg.Event) bool {
	if !strings.Contains(line, "Buffer I/O error") {
		return true
	}
	for _, a := range found.Attributes {
		if a.Key != event.KeyBlockDevice || strings.ContainsAny(a.Text, "/.") {
			continue
		}
		for _, queue := range []string{"/mq", "/../mq"} { // of the device, of a partition's disk
			if _, err := os.Stat(blockDevices + a.Text + queue); err == nil {
				return true
			}
		}
	}
	return false
}

// read waits for the next event; os.ErrClosed after stop.
func (m *messages) read() (kernelEvent, error) {
	for {
		rec, err := m.reader.Next()
		m.lost.Store(int64(m.reader.Lost()))
		var failed *os.PathError
		if errors.As(err, &failed) && !errors.Is(err, os.ErrClosed) {
			// Not about one record: reading on would fail for ever.
			m.log.Error("the kernel's log cannot be read any more", zap.Error(err))
			return nil, os.ErrClosed
		}
		if err != nil {
			return nil, err
		}
		if ev, ok := m.event(&rec); ok {
			return ev, nil
		}
	}
}

func (m *messages) hasMore() bool { return false }

// event is what a record says, if a rule knows it and there are not too many.
// What programs wrote to /dev/kmsg is no word of the kernel.
func (m *messages) event(rec *kmsg.Record) (messageEvent, bool) {
	if rec.Facility != 0 {
		return messageEvent{}, false
	}
	found, ok := m.rules.Match(rec.Message)
	if !ok {
		return messageEvent{}, false
	}
	if isTold := m.skip[found.Name]; isTold != nil && isTold(rec.Message, &found) {
		return messageEvent{}, false
	}
	boot, suspended := m.clocks()
	if !m.take(found.Name, boot) {
		return messageEvent{}, false
	}
	return messageEvent{base: base{at: timeOf(rec, boot, suspended)}, found: found, line: rec.Message}, true
}

// timeOf is the time of a record in nanoseconds of CLOCK_BOOTTIME. The clock of
// the log stands still while the machine is suspended.
func timeOf(rec *kmsg.Record, boot, suspended uint64) uint64 {
	at := uint64(rec.SinceBoot) + suspended
	if at > boot || boot-at > uint64(maxClockDrift) {
		return boot
	}
	return at
}

// take takes a token of the bucket of an event.
func (m *messages) take(name string, now uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.buckets[name]
	if b == nil {
		b = &messageBucket{tokens: messageBurst, at: now}
		m.buckets[name] = b
	}
	if refill := (now - b.at) / uint64(messageInterval); refill > 0 {
		b.tokens = int(min(uint64(b.tokens)+refill, messageBurst))
		b.at = now
	}
	if b.tokens == 0 {
		b.suppressed++
		return false
	}
	b.tokens--
	return true
}

// suppressed counts, by event, what the buckets held back.
func (m *messages) suppressed() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]int64, len(m.buckets))
	for name, b := range m.buckets {
		out[name] = b.suppressed
	}
	return out
}

// stop ends read.
func (m *messages) stop() error { return m.reader.Close() }

// explainKmsg says what is missing and how to get it.
func explainKmsg(err error) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Sprintf("not permitted: %s needs CAP_SYSLOG where kernel.dmesg_restrict is 1, and in a container that the runtime allows the device: %v", kmsg.Device, err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Sprintf("%s is not here; containers need the host's (a hostPath volume): %v", kmsg.Device, err)
	}
	return err.Error()
}
