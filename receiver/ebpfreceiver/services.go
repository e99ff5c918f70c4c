package ebpfreceiver

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of what is held and read of processes.
const (
	// maxServices is how many processes one of the two generations of the cache
	// may have: about 2 MB when all have a long name.
	maxServices = 4096
	// maxEnviron bounds what is read of one environment. The kernel allows more,
	// but nobody sets it.
	maxEnviron = 256 << 10
	// maxServiceName cuts a name that is none any more.
	maxServiceName = 256
	// maxLooks bounds the processes that are to be looked at again.
	maxLooks = 4096
	// lookPatience is how long the memory of a process is waited for, and maxHanging how many
	// may hang at a time: it can be on a file system that never answers (FUSE, NFS).
	lookPatience = 100 * time.Millisecond
	maxHanging   = 8
)

// An SDK publishes the process context when it has begun; what begins later, such as
// an agent that is loaded into a running process, is found by the second look.
const (
	firstLook  = 5 * time.Second
	secondLook = time.Minute
)

// tick is a unit of the start times in /proc: USER_HZ is 100 on all
// architectures that this receiver supports.
const tick = 10_000_000 // nanoseconds

// Values of the attribute reason of otelcol_receiver_tapio_ebpf_services_unresolved.
const (
	unresolvedGone      = "gone"
	unresolvedForbidden = "forbidden"
	unresolvedTooLong   = "too_long"
	unresolvedMalformed = "malformed"
	unresolvedTooMany   = "too_many"
	unresolvedSlow      = "slow"
	unresolvedOther     = "other"
)

// errTooLong: the variables may be in the part that was not read.
var errTooLong = errors.New("environment is longer than is read")

var (
	errSlow    = errors.New("the memory of the process does not answer")
	errHanging = errors.New("the memory of too many processes does not answer")
)

// slowError is errSlow, with the answer when that comes.
type slowError struct{ late <-chan answer }

func (slowError) Error() string { return errSlow.Error() }
func (slowError) Unwrap() error { return errSlow }

// answer is what a look at the memory of a process found.
type answer struct {
	name serviceName
	err  error
}

// serviceName is what a process says that it is, in the context that it publishes
// or else in its environment.
type serviceName struct{ name, namespace string }

// processKey identifies a process: its pid and the tick at which it began.
type processKey struct {
	pid   uint32
	ticks uint64
}

// services knows to which service processes belong. It asks /proc for each process
// when it is first heard of, as a process that has ended has no environment any
// more, and twice later for the context. It is safe for concurrent use.
type services struct {
	proc string // /proc
	// unresolved is called with the reason when a process's cannot be read.
	unresolved func(reason string)

	hanging chan struct{} // one for each look under way

	mu sync.Mutex
	// The newer of two generations gets what is looked up; when it is full it
	// becomes the older one, and what that held is forgotten.
	newer, older map[processKey]serviceName
	looks        *looks
	// awaited are those whose environment may come late, and nothing else was put since.
	awaited map[processKey]<-chan answer
}

func newServices(proc string, unresolved func(reason string)) *services {
	return &services{
		proc: proc, unresolved: unresolved, hanging: make(chan struct{}, maxHanging), newer: map[processKey]serviceName{}, looks: newLooks(),
		awaited: map[processKey]<-chan answer{},
	}
}

// patiently looks at the memory of a process, for so long: what a process has mapped, or
// closes when it executes, can be a file of somebody who never answers, and who waits for
// that in the kernel cannot be called back. Nothing else may wait for it.
func (s *services) patiently(look func(pid uint32) (serviceName, error), pid uint32) (serviceName, error) {
	select {
	case s.hanging <- struct{}{}:
	default:
		return serviceName{}, errHanging
	}
	answers := make(chan answer, 1)
	go func() {
		name, err := look(pid)
		answers <- answer{name, err}
		<-s.hanging
	}()
	patience := time.NewTimer(lookPatience)
	defer patience.Stop()
	select {
	case a := <-answers:
		return a.name, a.err
	case <-patience.C:
		return serviceName{}, slowError{answers}
	}
}

// learn makes sure that an event's process is known. A process that began to run
// another program may have another environment.
func (s *services) learn(ev kernelEvent) {
	key, ok := keyOf(ev.process())
	if !ok {
		return
	}
	exit, isExit := ev.(exitEvent)
	if isExit {
		s.mu.Lock()
		s.looks.remove(key)
		s.mu.Unlock()
	}
	before, known := s.lookup(key)
	exec, isExec := ev.(execEvent)
	if known && !isExec {
		return
	}
	if exec.isServiceKnown {
		s.put(key, exec.service)
		s.lookLater(look{key: key, at: time.Now().Add(firstLook)})
		return
	}
	name, err := s.read(key)
	if isExit && exit.isCopy && name == (serviceName{}) { // its environment is gone, perhaps without an error
		name, err = s.ofParent(key, exit.who.parent)
	}
	isRefused := s.settle(key, name, before, err)
	if isRefused && !s.isRefused(key) { // its other events do not count
		s.unresolved(unresolvedReason(err))
	}
	if !isExit && !isGone(err) {
		s.lookLater(look{key: key, at: time.Now().Add(firstLook), environ: isRefused})
	}
}

// settle puts what was read of a process, or when that failed what was known before. It puts
// and counts nothing when the look was refused: the next event or look tries again.
func (s *services) settle(key processKey, name, before serviceName, err error) (isRefused bool) {
	if errors.Is(err, errHanging) {
		return true
	}
	if err != nil {
		s.unresolved(unresolvedReason(err))
		name = before
	}
	s.put(key, name) // also when it failed: it would fail again
	var slow slowError
	if errors.As(err, &slow) {
		s.mu.Lock()
		s.awaited[key] = slow.late
		s.mu.Unlock()
		go s.putLate(key, slow.late) // as many as are hanging
	}
	return false
}

// isRefused says that a process is to be looked at again because that was refused.
func (s *services) isRefused(key processKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks.hasEnviron(key)
}

// putLate waits for an answer and puts it, unless something newer was put meanwhile.
func (s *services) putLate(key processKey, late <-chan answer) {
	a := <-late
	err := errors.Join(a.err, s.isStill(key))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awaited[key] != late {
		return
	}
	delete(s.awaited, key)
	if err == nil {
		s.insert(key, a.name)
	}
}

// ofParent returns the service of the parent of a process that has ended.
func (s *services) ofParent(child processKey, parent uint32) (serviceName, error) {
	ticks, err := s.startTicks(parent)
	if err != nil || ticks > child.ticks { // that one has ended too, and another has its number
		return serviceName{}, os.ErrNotExist
	}
	key := processKey{parent, ticks}
	if name, known := s.lookup(key); known {
		return name, nil
	}
	name, err := s.read(key)
	if err == nil {
		s.put(key, name)
	}
	return name, err
}

func isGone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, errProcessGone)
}

func (s *services) lookLater(l look) {
	s.mu.Lock()
	isAdded := s.looks.add(l)
	s.mu.Unlock()
	if !isAdded {
		s.unresolved(unresolvedTooMany)
	}
}

// lookAgain looks for the context of the processes for which it is time, and for the
// environment of those at which no look was possible.
func (s *services) lookAgain(now time.Time) {
	s.mu.Lock()
	due := s.looks.due(now)
	s.mu.Unlock()
	for _, l := range due {
		isRefused := l.environ && s.readAgain(l.key)
		name, err := s.contextOf(l.key)
		switch {
		case err == nil && name.name != "":
			s.put(l.key, name)
		case isGone(err): // it published none in time
		default:
			if err != nil && !isRefused { // which was counted
				s.unresolved(unresolvedReason(err))
			}
			if !l.isLast || isRefused {
				s.lookLater(look{key: l.key, at: now.Add(secondLook), isLast: true, environ: isRefused})
			}
		}
	}
}

func (s *services) readAgain(key processKey) (isRefused bool) {
	before, _ := s.lookup(key)
	name, err := s.read(key)
	return s.settle(key, name, before, err)
}

// contextOf reads the context of a process, and that it is that process's.
func (s *services) contextOf(key processKey) (serviceName, error) {
	name, err := s.patiently(s.readContext, key.pid)
	if err != nil || name.name == "" {
		return serviceName{}, err
	}
	return name, s.isStill(key)
}

// seed learns the processes that are there, so that those that end next are
// known too. It does not count what it cannot read.
func (s *services) seed() {
	dirs, err := os.ReadDir(s.proc)
	if err != nil {
		return // learn will say so
	}
	for _, d := range dirs {
		pid, err := strconv.ParseUint(d.Name(), 10, 32)
		if err != nil {
			continue
		}
		ticks, err := s.startTicks(uint32(pid))
		if err != nil {
			continue
		}
		key := processKey{uint32(pid), ticks}
		name, _ := s.read(key)
		if published, err := s.contextOf(key); err == nil && published.name != "" {
			name = published
		}
		if name != (serviceName{}) {
			s.put(key, name)
		}
	}
}

// of returns the service of a process that was learnt.
func (s *services) of(p processInfo) serviceName {
	key, ok := keyOf(p)
	if s == nil || !ok {
		return serviceName{}
	}
	name, _ := s.lookup(key)
	return name
}

func keyOf(p processInfo) (processKey, bool) {
	return processKey{p.pid, p.started / tick}, p.pid != 0 && p.started != 0
}

func (s *services) lookup(key processKey) (serviceName, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name, ok := s.newer[key]; ok {
		return name, true
	}
	name, ok := s.older[key]
	if ok {
		s.insert(key, name)
	}
	return name, ok
}

func (s *services) put(key processKey, name serviceName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.awaited, key)
	s.insert(key, name)
}

func (s *services) insert(key processKey, name serviceName) {
	if len(s.newer) >= maxServices {
		s.older, s.newer = s.newer, make(map[processKey]serviceName, maxServices)
	}
	s.newer[key] = name
}

func (s *services) held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.newer) + len(s.older)
}

// read reads the environment of a process. The start time is read after it: if
// it is the process's, so was the environment, though pids are used again.
func (s *services) read(key processKey) (serviceName, error) {
	name, err := s.patiently(s.readEnviron, key.pid)
	if err != nil && !errors.Is(err, errTooLong) {
		return serviceName{}, err
	}
	if gone := s.isStill(key); gone != nil {
		return serviceName{}, gone
	}
	return name, err
}

// isStill returns an error when a pid is that of another process by now.
func (s *services) isStill(key processKey) error {
	ticks, err := s.startTicks(key.pid)
	if err == nil && ticks != key.ticks {
		err = os.ErrNotExist
	}
	return err
}

func (s *services) readEnviron(pid uint32) (serviceName, error) {
	f, err := os.Open(s.file(pid, "environ"))
	if err != nil {
		return serviceName{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEnviron+1))
	if err != nil {
		return serviceName{}, err
	}
	name := parseEnviron(text)
	switch {
	case name.name == "" && len(text) > maxEnviron:
		return serviceName{}, errTooLong
	case len(text) == 0 && s.hasEnded(pid):
		return serviceName{}, os.ErrNotExist
	}
	return name, nil
}

// hasEnded says that a process has no memory any more: a zombie, whose
// environment reads as empty.
func (s *services) hasEnded(pid uint32) bool {
	stat, err := os.ReadFile(s.file(pid, "stat"))
	if err != nil {
		return true
	}
	state := fieldsAfterName(stat)
	return len(state) > 0 && (state[0] == "Z" || state[0] == "X")
}

func (s *services) file(pid uint32, name string) string {
	return filepath.Join(s.proc, strconv.FormatUint(uint64(pid), 10), name)
}

// startTicks is when a process began, in ticks since boot: field 22 of
// /proc/PID/stat.
func (s *services) startTicks(pid uint32) (uint64, error) {
	stat, err := os.ReadFile(s.file(pid, "stat"))
	if err != nil {
		return 0, err
	}
	const startTime = 22 - 3 // the fields after the name begin with the third
	fields := fieldsAfterName(stat)
	if len(fields) <= startTime {
		return 0, io.ErrUnexpectedEOF
	}
	return strconv.ParseUint(fields[startTime], 10, 64)
}

// fieldsAfterName are the fields of /proc/PID/stat after the name of the process,
// which may itself hold spaces and parentheses.
func fieldsAfterName(stat []byte) []string {
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}

func unresolvedReason(err error) string {
	switch {
	case isGone(err):
		return unresolvedGone
	case errors.Is(err, os.ErrPermission):
		return unresolvedForbidden
	case errors.Is(err, errTooLong):
		return unresolvedTooLong
	case errors.Is(err, errSlow):
		return unresolvedSlow
	case errors.Is(err, errHanging):
		return unresolvedTooMany
	case errors.Is(err, errContextMalformed), errors.Is(err, errContextChanging):
		return unresolvedMalformed
	}
	return unresolvedOther
}

// parseEnviron finds the variables by which the OpenTelemetry SDKs are told the
// service (specification, "Environment Variable Specification"). Nothing else is
// looked at. OTEL_SERVICE_NAME wins over OTEL_RESOURCE_ATTRIBUTES.
func parseEnviron(environ []byte) serviceName {
	var s serviceName
	explicit := ""
	for variable := range bytes.SplitSeq(environ, []byte{0}) {
		if value, ok := bytes.CutPrefix(variable, []byte("OTEL_SERVICE_NAME=")); ok {
			explicit = serviceText(string(value))
		} else if value, ok := bytes.CutPrefix(variable, []byte("OTEL_RESOURCE_ATTRIBUTES=")); ok {
			s = parseResourceAttributes(string(value))
		}
	}
	if explicit != "" {
		s.name = explicit
	}
	if s.name == "" {
		return serviceName{} // a namespace alone names nothing
	}
	return s
}

// parseResourceAttributes reads key=value pairs separated by commas, with the
// percent-encoding of W3C Baggage.
func parseResourceAttributes(text string) (s serviceName) {
	for pair := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(pair, "=")
		decoded, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil {
			continue // SDKs ignore what they cannot decode
		}
		switch strings.TrimSpace(key) {
		case "service.name":
			s.name = serviceText(decoded)
		case "service.namespace":
			s.namespace = serviceText(decoded)
		}
	}
	return s
}

// serviceText is a name as text, cut to its bound.
func serviceText(s string) string {
	return strings.ToValidUTF8(strings.TrimSpace(s[:min(len(s), maxServiceName)]), "\uFFFD")
}
