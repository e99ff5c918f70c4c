package bus

import (
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Names of systemd on the bus (org.freedesktop.systemd1(5)).
const (
	name         = "org.freedesktop.systemd1"
	managerPath  = "/org/freedesktop/systemd1"
	unitPrefix   = "/org/freedesktop/systemd1/unit/"
	jobPrefix    = "/org/freedesktop/systemd1/job/"
	managerIface = "org.freedesktop.systemd1.Manager"
	unitIface    = "org.freedesktop.systemd1.Unit"
	propsIface   = "org.freedesktop.DBus.Properties"
	busIface     = "org.freedesktop.DBus"
)

// Properties are the values of D-Bus properties by name, as plain Go values:
// bool, integers, float64, string, and slices of them.
type Properties map[string]any

// Signal is one of the types below.
type Signal interface{ isSignal() }

// UnitRemoved says that systemd has forgotten a unit.
type UnitRemoved struct{ Unit string }

// UnitChanged carries properties of a unit that have changed.
type UnitChanged struct {
	Unit       string
	Properties Properties
}

// JobNew says that a job was queued.
type JobNew struct {
	ID   uint32
	Unit string
}

// JobTyped says what a new job does: start, stop, restart, reload, ... It is no
// signal of systemd, but the answer to a question that every JobNew raises.
type JobTyped struct {
	ID   uint32
	Type string
}

// JobChanged says that a job has begun to run, or waits again.
type JobChanged struct {
	ID    uint32
	State string
}

// JobRemoved says how a job ended: done, canceled, timeout, failed, dependency,
// skipped, invalid, assert, unsupported, collected, once or frozen.
type JobRemoved struct {
	ID           uint32
	Unit, Result string
}

// StartupFinished says that the boot is over.
type StartupFinished struct{}

// Reloading says that systemd begins to read all unit files again, or has done so.
type Reloading struct{ Active bool }

// OwnerChanged says that systemd has left the bus (Present is false) or joined it.
type OwnerChanged struct{ Present bool }

func (UnitRemoved) isSignal()     {}
func (UnitChanged) isSignal()     {}
func (JobNew) isSignal()          {}
func (JobTyped) isSignal()        {}
func (JobChanged) isSignal()      {}
func (JobRemoved) isSignal()      {}
func (StartupFinished) isSignal() {}
func (Reloading) isSignal()       {}
func (OwnerChanged) isSignal()    {}

// decode reads a D-Bus signal. It returns nil for one that does not matter, and
// false for one of a name that matters and a body that cannot be read.
func decode(s *dbus.Signal) (Signal, bool) {
	switch s.Name {
	case managerIface + ".UnitRemoved":
		var unit string
		var path dbus.ObjectPath
		err := dbus.Store(s.Body, &unit, &path)
		return UnitRemoved{unit}, err == nil
	case managerIface + ".JobNew":
		var v JobNew
		var path dbus.ObjectPath
		err := dbus.Store(s.Body, &v.ID, &path, &v.Unit)
		return v, err == nil
	case managerIface + ".JobRemoved":
		var v JobRemoved
		var path dbus.ObjectPath
		err := dbus.Store(s.Body, &v.ID, &path, &v.Unit, &v.Result)
		return v, err == nil
	case managerIface + ".StartupFinished":
		return StartupFinished{}, true
	case managerIface + ".Reloading":
		var v Reloading
		err := dbus.Store(s.Body, &v.Active)
		return v, err == nil
	case propsIface + ".PropertiesChanged":
		return decodeChanged(s)
	case busIface + ".NameOwnerChanged":
		var of, before, after string
		err := dbus.Store(s.Body, &of, &before, &after)
		if of != name {
			return nil, err == nil
		}
		return OwnerChanged{after != ""}, err == nil
	}
	return nil, true
}

func decodeChanged(s *dbus.Signal) (Signal, bool) {
	unit, isUnit := strings.CutPrefix(string(s.Path), unitPrefix)
	job, isJob := strings.CutPrefix(string(s.Path), jobPrefix)
	if !isUnit && !isJob {
		return nil, true
	}
	var iface string
	var changed map[string]dbus.Variant
	var invalidated []string
	if err := dbus.Store(s.Body, &iface, &changed, &invalidated); err != nil {
		return nil, false
	}
	if isUnit {
		return UnitChanged{unescape(unit), plain(changed)}, true
	}
	id, err := strconv.ParseUint(job, 10, 32)
	if err != nil {
		return nil, false
	}
	state, ok := changed["State"].Value().(string)
	if !ok {
		return nil, true
	}
	return JobChanged{uint32(id), state}, true
}

func plain(variants map[string]dbus.Variant) Properties {
	p := make(Properties, len(variants))
	for k, v := range variants {
		p[k] = v.Value()
	}
	return p
}

// escape writes a unit's name as systemd writes it into an object path: bytes
// that are no letters or digits, and a digit in the first place, become _xx.
func escape(unit string) string {
	if unit == "" {
		return "_"
	}
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i := range len(unit) {
		c := unit[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		digit := '0' <= c && c <= '9'
		if letter || digit && i > 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('_')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}

// unescape undoes escape. What is no escape is left as it is.
func unescape(path string) string {
	if path == "_" {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '_' && i+2 < len(path) {
			if c, err := strconv.ParseUint(path[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}
