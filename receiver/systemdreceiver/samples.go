package systemdreceiver

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/bus"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/unit"
)

// maxSampled bounds how many services are asked for at once: a question takes
// systemd some 50 us. Where there are more they take turns.
const maxSampled = 256

// samples keep what the services that run used last.
type samples struct {
	// interval is how often they are looked at, 0 for never.
	interval time.Duration
	next     time.Time
	last     map[string]unit.Sample
	// turn is the last service that was looked at.
	turn string
}

// due says when to look next; false when never.
func (s *samples) due() (time.Time, bool) { return s.next, s.interval > 0 }

// take asks systemd for the memory and tasks of the services that run.
func (s *samples) take(ctx context.Context, conn *bus.Conn, t *unit.Tracker) error {
	s.next = time.Now().Add(s.interval)
	running := services(t)
	for name := range s.last {
		if _, found := slices.BinarySearch(running, name); !found && t.Get(name) == nil {
			delete(s.last, name)
		}
	}
	for _, name := range takeTurns(running, s.turn, maxSampled) {
		s.turn = name
		sample, err := usage(ctx, conn, t.Get(name))
		switch {
		case err == nil:
			s.last[name] = s.last[name].Next(sample)
		case !bus.IsGone(err):
			return err
		}
	}
	return nil
}

// usage asks what a unit uses. A unit that nothing has happened to since it was
// first listed has no invocation id yet.
func usage(ctx context.Context, conn *bus.Conn, u *unit.Unit) (sample unit.Sample, err error) {
	sample.InvocationID = u.InvocationID
	if sample.InvocationID == "" {
		if sample.InvocationID, err = conn.Invocation(ctx, u.Name); err != nil {
			return sample, err
		}
	}
	sample.Memory, sample.Tasks, err = conn.Usage(ctx, u.Name)
	sample.At = time.Now()
	return sample, err
}

// services are those that run, sorted.
func services(t *unit.Tracker) []string {
	var running []string
	for _, name := range t.Names() {
		u := t.Get(name)
		if strings.HasSuffix(name, ".service") && (u.SubState == "running" || u.ActiveState == "activating" || u.ActiveState == "deactivating") {
			running = append(running, name)
		}
	}
	slices.Sort(running)
	return running
}

// takeTurns returns at most limit of the names, beginning after the last one.
func takeTurns(names []string, last string, limit int) []string {
	if len(names) <= limit {
		return names
	}
	i, found := slices.BinarySearch(names, last)
	if found {
		i++
	}
	return append(slices.Clone(names[i:]), names[:i]...)[:limit]
}
