// Package bus talks to systemd over D-Bus: it asks for units and jobs and
// listens to what changes. It decides nothing.
package bus

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
)

// callTimeout bounds one question. systemd answers in well under a millisecond
// unless it is busy, as during daemon-reload.
const callTimeout = 10 * time.Second

// ErrAbsent says that the bus is there and systemd is not on it, or left it
// before it answered. All methods of Conn return it.
var ErrAbsent = errors.New("systemd is not on the bus")

// Item is a signal and when it came.
type Item struct {
	Signal Signal
	At     time.Time
}

// Conn is a connection to systemd. Its methods are safe for concurrent use.
type Conn struct {
	bus     *dbus.Conn
	manager dbus.BusObject
	queue   *queue
	// asked is closed when typeJobs has ended.
	asked  chan struct{}
	cancel context.CancelFunc
}

// queue takes signals from the connection's reader, which must not wait.
type queue struct {
	items chan Item
	// newJob wakes the goroutine that asks for the types of new jobs.
	newJob chan struct{}
	// dropped counts signals that found the queue full, malformed those that
	// could not be read.
	dropped, malformed atomic.Int64
}

// DeliverSignal implements dbus.SignalHandler.
func (q *queue) DeliverSignal(_, _ string, s *dbus.Signal) {
	signal, ok := decode(s)
	if !ok {
		q.malformed.Add(1)
		return
	}
	if signal == nil {
		return
	}
	q.push(signal)
	if _, ok := signal.(JobNew); ok {
		select {
		case q.newJob <- struct{}{}:
		default: // it is awake, and will see this job too
		}
	}
}

func (q *queue) push(s Signal) {
	select {
	case q.items <- Item{s, time.Now()}:
	default:
		q.dropped.Add(1)
	}
}

// Dial connects to the bus at a D-Bus address and subscribes to systemd. size
// is how many signals may wait. It returns ErrAbsent when systemd is not there.
// The end of ctx closes the connection.
func Dial(ctx context.Context, address string, size int) (*Conn, error) {
	// A bus that accepts and never answers must not hold up anything.
	ctx, cancel := context.WithCancel(ctx)
	hung := time.AfterFunc(callTimeout, cancel)
	q := &queue{items: make(chan Item, size), newJob: make(chan struct{}, 1)}
	b, err := dbus.Connect(address, dbus.WithSignalHandler(q), dbus.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	c := &Conn{bus: b, manager: b.Object(name, managerPath), queue: q, cancel: cancel}
	if err := c.listen(ctx); err != nil {
		cancel()
		return nil, errors.Join(err, c.bus.Close())
	}
	if !hung.Stop() {
		cancel()
		return nil, errors.Join(context.DeadlineExceeded, c.bus.Close())
	}
	c.asked = make(chan struct{})
	go c.typeJobs()
	return c, nil
}

// typeJobs asks for the types of new jobs as soon as they are announced: a job
// may be over, and its type forgotten, within a millisecond.
func (c *Conn) typeJobs() {
	defer close(c.asked)
	known := map[uint32]bool{}
	for {
		select {
		case <-c.Done():
			return
		case <-c.queue.newJob:
		}
		jobs, err := c.Jobs(c.bus.Context())
		if err != nil {
			continue // then the type stays unknown
		}
		open := make(map[uint32]bool, len(jobs))
		for _, j := range jobs {
			open[j.ID] = true
			if !known[j.ID] {
				c.queue.push(JobTyped{j.ID, j.Type})
			}
		}
		known = open
	}
}

func (c *Conn) listen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchSender(name), dbus.WithMatchInterface(managerIface)},
		{dbus.WithMatchSender(name), dbus.WithMatchInterface(propsIface), dbus.WithMatchPathNamespace(managerPath)},
		{dbus.WithMatchSender(busIface), dbus.WithMatchInterface(busIface), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name)},
	} {
		if err := c.bus.AddMatchSignalContext(ctx, match...); err != nil {
			return fmt.Errorf("listen to systemd: %w", err)
		}
	}
	return c.Subscribe(ctx)
}

// Subscribe asks systemd to send its signals. A systemd that was executed again
// must be asked again.
func (c *Conn) Subscribe(ctx context.Context) error {
	err := c.call(ctx, c.manager, managerIface+".Subscribe").Err
	var e dbus.Error
	if errors.As(err, &e) && e.Name == "org.freedesktop.systemd1.AlreadySubscribed" {
		return nil
	}
	return err
}

// absent are the D-Bus errors that say that the one who was asked is not there
// or left without an answer.
var absent = []string{
	"org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
	"org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected",
}

// call asks without starting anything: to ask for systemd must not make the bus
// try to start one.
func (c *Conn) call(ctx context.Context, object dbus.BusObject, method string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	call := object.CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
	var e dbus.Error
	if errors.As(call.Err, &e) && slices.Contains(absent, e.Name) {
		call.Err = fmt.Errorf("%w: %w", ErrAbsent, call.Err)
	}
	return call
}

// Close ends the connection.
func (c *Conn) Close() error {
	err := c.bus.Close()
	c.cancel()
	<-c.asked
	return err
}

// Done is closed when the connection has broken or was closed.
func (c *Conn) Done() <-chan struct{} { return c.bus.Context().Done() }

// Signals are those that came, in their order.
func (c *Conn) Signals() <-chan Item { return c.queue.items }

// Dropped returns how many signals have found the queue full so far, and how
// many could not be read. It is safe for concurrent use.
func (c *Conn) Dropped() (full, malformed int64) {
	return c.queue.dropped.Load(), c.queue.malformed.Load()
}

// Unit is one unit of the list of all.
type Unit struct {
	Name, ActiveState, SubState string
}

// Units lists the units that systemd has loaded, in no particular order.
func (c *Conn) Units(ctx context.Context) ([]Unit, error) {
	var rows []struct {
		Name, Description, LoadState, ActiveState, SubState, Following string
		Path                                                           dbus.ObjectPath
		JobID                                                          uint32
		JobType                                                        string
		JobPath                                                        dbus.ObjectPath
	}
	if err := c.call(ctx, c.manager, managerIface+".ListUnits").Store(&rows); err != nil {
		return nil, fmt.Errorf("list units: %w", err)
	}
	units := make([]Unit, len(rows))
	for i, r := range rows {
		units[i] = Unit{r.Name, r.ActiveState, r.SubState}
	}
	return units, nil
}

// UnitFiles lists the names of the units that are installed, loaded or not. systemd
// reads its directories for it, which takes a third of a second.
func (c *Conn) UnitFiles(ctx context.Context) ([]string, error) {
	var rows []struct{ Path, State string }
	if err := c.call(ctx, c.manager, managerIface+".ListUnitFiles").Store(&rows); err != nil {
		return nil, fmt.Errorf("list unit files: %w", err)
	}
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = path.Base(r.Path)
	}
	return names, nil
}

// Job is a job that is queued or runs.
type Job struct {
	ID                uint32
	Unit, Type, State string
}

// Jobs lists the jobs that have not ended.
func (c *Conn) Jobs(ctx context.Context) ([]Job, error) {
	var rows []struct {
		ID                uint32
		Unit, Type, State string
		Path, UnitPath    dbus.ObjectPath
	}
	if err := c.call(ctx, c.manager, managerIface+".ListJobs").Store(&rows); err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	jobs := make([]Job, len(rows))
	for i, r := range rows {
		jobs[i] = Job{r.ID, r.Unit, r.Type, r.State}
	}
	return jobs, nil
}

// Manager returns the properties of systemd itself.
func (c *Conn) Manager(ctx context.Context) (Properties, error) {
	p, err := c.properties(ctx, managerPath, managerIface)
	if err != nil {
		return nil, fmt.Errorf("read properties of systemd: %w", err)
	}
	return p, nil
}

// MachineID returns the id of the machine that systemd runs on, which in a
// container is not that of the container's own files.
func (c *Conn) MachineID(ctx context.Context) (string, error) {
	var id string
	if err := c.call(ctx, c.manager, "org.freedesktop.DBus.Peer.GetMachineId").Store(&id); err != nil {
		return "", fmt.Errorf("ask systemd for the id of the machine: %w", err)
	}
	return id, nil
}

// StateChange returns when the state of a unit last changed, in microseconds
// since 1970, 0 for never. It costs systemd far less than Properties.
func (c *Conn) StateChange(ctx context.Context, unit string) (uint64, error) {
	v, err := c.property(ctx, unit, unitIface, "StateChangeTimestamp")
	at, _ := v.(uint64)
	return at, err
}

// ControlGroup returns the control group of a unit, "" when it has none. It
// costs systemd far less than Properties.
func (c *Conn) ControlGroup(ctx context.Context, unit string) (string, error) {
	iface, ok := cgroupIface(unit)
	if !ok {
		return "", nil
	}
	v, err := c.property(ctx, unit, iface, "ControlGroup")
	group, _ := v.(string)
	return group, err
}

// Usage returns the memory in bytes and the tasks of a unit, each math.MaxUint64
// where nothing counts them. It costs systemd far less than Properties.
func (c *Conn) Usage(ctx context.Context, unit string) (memory, tasks uint64, err error) {
	memory, tasks = math.MaxUint64, math.MaxUint64
	iface, ok := cgroupIface(unit)
	if !ok {
		return memory, tasks, nil
	}
	for key, to := range map[string]*uint64{"MemoryCurrent": &memory, "TasksCurrent": &tasks} {
		v, err := c.property(ctx, unit, iface, key)
		if err != nil {
			return math.MaxUint64, math.MaxUint64, err
		}
		if n, ok := v.(uint64); ok {
			*to = n
		}
	}
	return memory, tasks, nil
}

// Invocation returns the id of the run of a unit in hexadecimal, "" before the first.
func (c *Conn) Invocation(ctx context.Context, unit string) (string, error) {
	v, err := c.property(ctx, unit, unitIface, "InvocationID")
	id, _ := v.([]byte)
	return hex.EncodeToString(id), err
}

// cgroupIface is the D-Bus interface of a unit whose type has a control group.
func cgroupIface(unit string) (string, bool) {
	kind := unit[strings.LastIndexByte(unit, '.')+1:]
	if !slices.Contains([]string{"service", "socket", "mount", "swap", "slice", "scope"}, kind) {
		return "", false
	}
	return name + "." + strings.ToUpper(kind[:1]) + kind[1:], true
}

func (c *Conn) property(ctx context.Context, unit, iface, key string) (any, error) {
	var v dbus.Variant
	err := c.call(ctx, c.bus.Object(name, dbus.ObjectPath(unitPrefix+escape(unit))), propsIface+".Get", iface, key).Store(&v)
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w", key, unit, err)
	}
	return v.Value(), nil
}

// Properties returns all properties of a unit, also those of its own type.
func (c *Conn) Properties(ctx context.Context, unit string) (Properties, error) {
	// An empty interface name asks for those of all interfaces.
	p, err := c.properties(ctx, dbus.ObjectPath(unitPrefix+escape(unit)), "")
	if err != nil {
		return nil, fmt.Errorf("read properties of %s: %w", unit, err)
	}
	return p, nil
}

func (c *Conn) properties(ctx context.Context, path dbus.ObjectPath, iface string) (Properties, error) {
	var variants map[string]dbus.Variant
	err := c.call(ctx, c.bus.Object(name, path), propsIface+".GetAll", iface).Store(&variants)
	return plain(variants), err
}

// IsGone tells whether an error says that the unit or job does not exist any more.
func IsGone(err error) bool {
	var e dbus.Error
	return errors.As(err, &e) &&
		(strings.HasSuffix(e.Name, ".UnknownObject") || strings.HasSuffix(e.Name, ".NoSuchUnit") || strings.HasSuffix(e.Name, ".UnknownInterface"))
}

// IsRefused tells whether an error is systemd's own answer to a question, or that
// of the bus: one about this unit says nothing of others.
func IsRefused(err error) bool {
	var e dbus.Error
	return errors.As(err, &e) && !errors.Is(err, ErrAbsent)
}
