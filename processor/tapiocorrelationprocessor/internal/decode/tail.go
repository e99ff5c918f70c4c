package decode

import (
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/tail"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/template"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// Tails has the last log records of everybody kept. It must be called before any record
// is decoded.
func (d *Decoder) Tails(t *tail.Tails) { d.tails = t }

const (
	// lookAt is how many of a batch's last records of a resource are read for the level that
	// their text names where they say no severity of themselves.
	lookAt = 32
	// keepAtOnce bounds the lines that are kept of one batch of a resource.
	keepAtOnce = 32
)

// writer says who writes the records of a resource.
type writer struct {
	of      record.EntityID // 0 for nobody of whom it matters
	part    tail.Part
	restart int64
	// runs: each record names the run of the unit that wrote it.
	runs bool
}

// writerOf reads of a resource what its entity does not say: a pod is several containers,
// a service several instances, a unit one run after the other.
func (d *Decoder) writerOf(attrs pcommon.Map, subject record.EntityID) writer {
	text := func(key string) string {
		if v, ok := attrs.Get(key); ok {
			return v.AsString()
		}
		return ""
	}
	w := writer{of: subject, restart: -1}
	if n, err := strconv.ParseInt(text(event.KeyContainerRestart), 10, 64); err == nil && n >= 0 {
		w.restart = n
	}
	switch e, _ := d.graph.Entity(subject); e.Kind {
	case topology.KindProcess, topology.KindContainer:
		return w
	case topology.KindUnit:
		w.runs = true
		return w
	case topology.KindPod:
		w.part = tail.PartOf(text(event.KeyContainerName))
	case topology.KindService:
		w.part = tail.PartOf(text(event.KeyServiceInstanceID))
	}
	if w.part == 0 {
		return writer{}
	}
	return w
}

// keepTail keeps the last records of a resource without an event name.
func (d *Decoder) keepTail(rl plog.ResourceLogs, w writer, latest int64) {
	if w.of == 0 || d.tails == nil {
		return
	}
	var buffer [keepAtOnce + tail.KeepLoud]tail.Source
	n := len(buffer)
	quiet, loud, seen := 0, 0, 0
	scopes := rl.ScopeLogs()
	for i := scopes.Len() - 1; i >= 0; i-- {
		records := scopes.At(i).LogRecords()
		for k := records.Len() - 1; k >= 0 && n > 0; k-- {
			r := records.At(k)
			if seen++; !w.wants(r, seen, quiet) {
				continue
			}
			s, ok := w.line(r, latest)
			if !ok {
				continue
			}
			count, most := &quiet, w.most(tail.KeepLast)
			if s.Loud() {
				count, most = &loud, w.most(tail.KeepLoud)
			}
			if *count++; *count <= most {
				n--
				buffer[n] = s
			}
		}
	}
	if n < len(buffer) {
		d.tails.Add(buffer[n:])
	}
}

// most is how many lines of a batch to keep of a kind of which n are kept of each writer:
// there can be several runs of a unit in it.
func (w *writer) most(n int) int {
	if w.runs {
		return n * keepAtOnce / (tail.KeepLast + tail.KeepLoud)
	}
	return n
}

// wants tells whether a record is to be read, of which seen were looked at and quiet kept
// that are no warnings. What a unit prints has no severity of its own, and a crash can print
// hundreds of lines after the one that says why.
func (w *writer) wants(r plog.LogRecord, seen, quiet int) bool {
	severity := r.SeverityNumber()
	switch {
	case r.EventName() != "":
		return false
	case severity >= plog.SeverityNumberWarn:
		return true
	case w.runs:
		return true
	case seen > lookAt:
		return false
	}
	return severity == plog.SeverityNumberUnspecified || quiet < tail.KeepLast
}

// line reads a record; false is for one that is blank, the continuation of another one as
// those of stack traces are, or not of a known run of a unit.
func (w *writer) line(r plog.LogRecord, latest int64) (tail.Source, bool) {
	s := tail.Source{Of: w.of, Part: w.part, Line: tail.Line{Time: timeOf(r), Severity: severityOf(r), Restart: w.restart, Text: r.Body().AsString()}}
	if s.Time <= 0 || s.Time > latest || s.Text == "" || s.Text[0] == ' ' || s.Text[0] == '\t' {
		return s, false
	}
	if w.runs {
		run, ok := r.Attributes().Get(event.KeySystemdInvocation)
		if !ok {
			return s, false // what systemd says of the unit
		}
		s.Part = tail.PartOf(run.Str())
		if pid, ok := r.Attributes().Get(event.KeyProcessPID); ok {
			s.PID = pid.Int()
		}
	}
	s.Text = ends(strings.TrimSpace(s.Text))
	if w.runs || s.Severity == 0 {
		s.Severity = max(s.Severity, template.Level(s.Text))
	}
	return s, s.Text != ""
}
