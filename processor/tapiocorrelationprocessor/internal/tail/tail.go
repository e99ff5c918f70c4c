// Package tail keeps the last log records of everybody who writes some, so that a finding
// can quote what a process, unit or container said before it ended. Of each writer it
// holds a few lines; of those who wrote nothing for longest it forgets all.
package tail

import (
	"cmp"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// Capacity is how many writers are remembered.
	Capacity = 4096
	// KeepLast is how many lines are kept of a writer.
	KeepLast = 5
	// KeepLoud is how many warnings or worse are kept of a writer beside them.
	KeepLoud = 3
)

// Part tells several apart who write as one entity: runs of a unit, containers of a pod,
// instances of a service. 0 is the only one.
type Part uint64

var seed = maphash.MakeSeed()

// PartOf returns the part that a text names, 0 for "".
func PartOf(text string) Part {
	if text == "" {
		return 0
	}
	return Part(maphash.String(seed, text))
}

// Line is a log record.
type Line struct {
	// Time is when it was written, in ns since 1970 UTC.
	Time int64
	// Severity is the OpenTelemetry severity number, 0 when unset; that of the level that
	// the line names, where it is higher.
	Severity uint8
	// PID is the process that wrote it, 0 when unknown.
	PID int64
	// Restart is how often the container had been restarted, -1 when unknown.
	Restart int64
	// Text is the body, of which Of and ByPID return valid UTF-8.
	Text string

	number uint64 // of those that were kept
}

// Loud tells a warning, or worse.
func (l *Line) Loud() bool { return l.Severity >= uint8(plog.SeverityNumberWarn) }

// Compare orders lines by time and, of one time, in the order in which they came.
func (l Line) Compare(than Line) int {
	return cmp.Or(cmp.Compare(l.Time, than.Time), cmp.Compare(l.number, than.number))
}

// Source is a line and who wrote it.
type Source struct {
	Of   record.EntityID
	Part Part
	Line
}

type key struct {
	of   record.EntityID
	part Part
}

// writer holds lines in circles, whose memory it uses again and again.
type writer struct {
	last, loud circle
	newest     int64
}

type circle struct {
	lines []held
	next  int
}

type held struct {
	Line
	text []byte
}

// put keeps a line in the place of the oldest, once there are n.
func (c *circle) put(l *Line, n int) {
	if len(c.lines) < n {
		c.lines = append(c.lines, held{})
		c.next = len(c.lines) - 1
	}
	h := &c.lines[c.next]
	h.text = append(h.text[:0], l.Text...)
	h.Line = *l
	h.Text = "" // not to hold the batch
	c.next = (c.next + 1) % n
}

// Tails are the tails of all writers. All methods are safe for concurrent use.
type Tails struct {
	mu      sync.Mutex
	writers map[key]*writer
	number  uint64
	evicted int64
}

// New returns an empty store.
func New() *Tails { return &Tails{writers: map[key]*writer{}} }

// Add keeps lines, in the order in which they were written. The texts are copied.
func (t *Tails) Add(lines []Source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var k key
	var w *writer
	for i := range lines {
		l := &lines[i]
		if n := (key{l.Of, l.Part}); w == nil || n != k {
			k, w = n, t.writer(n)
		}
		w.newest = max(w.newest, l.Time)
		t.number++
		l.number = t.number
		if l.Loud() {
			w.loud.put(&l.Line, KeepLoud)
		} else {
			w.last.put(&l.Line, KeepLast)
		}
	}
}

func (t *Tails) writer(k key) *writer {
	w := t.writers[k]
	if w == nil {
		if len(t.writers) >= Capacity {
			t.evict()
		}
		w = &writer{newest: math.MinInt64}
		t.writers[k] = w
	}
	return w
}

// evict forgets the sixteenth of the writers that wrote nothing for longest, so that a full
// store does not look at all of them for each new one.
func (t *Tails) evict() {
	times := make([]int64, 0, len(t.writers))
	for _, w := range t.writers {
		times = append(times, w.newest)
	}
	slices.Sort(times)
	n := max(len(times)/16, 1)
	for k, w := range t.writers {
		if n > 0 && w.newest <= times[max(len(times)/16, 1)-1] {
			delete(t.writers, k)
			t.evicted++
			n--
		}
	}
}

// Of returns the lines of one writer, the oldest first.
func (t *Tails) Of(of record.EntityID, part Part) []Line {
	t.mu.Lock()
	defer t.mu.Unlock()
	return sorted(t.writers[key{of, part}].copied(nil))
}

// ByPID returns the lines of all parts of an entity that a process wrote, the oldest first.
func (t *Tails) ByPID(of record.EntityID, pid int64) []Line {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Line
	for k, w := range t.writers {
		if k.of == of {
			out = w.copied(out)
		}
	}
	return sorted(slices.DeleteFunc(out, func(l Line) bool { return l.PID != pid }))
}

func (w *writer) copied(to []Line) []Line {
	if w == nil {
		return to
	}
	for _, c := range []*circle{&w.last, &w.loud} {
		for i := range c.lines {
			h := &c.lines[(c.next+i)%len(c.lines)]
			l := h.Line
			l.Text = strings.ToValidUTF8(string(h.text), "\uFFFD")
			to = append(to, l)
		}
	}
	return to
}

func sorted(lines []Line) []Line {
	slices.SortFunc(lines, Line.Compare)
	return lines
}

// Sweep forgets who wrote nothing since a time.
func (t *Tails) Sweep(before int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, w := range t.writers {
		if w.newest < before {
			delete(t.writers, k)
		}
	}
}

// Len returns how many writers are remembered.
func (t *Tails) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.writers)
}

// Evicted returns how many writers were forgotten for want of space.
func (t *Tails) Evicted() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.evicted
}
