package decode

import (
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

const (
	// againAfter is how often a log record with the same text of the same entity
	// becomes an event: a service in trouble says so a thousand times a second.
	againAfter = int64(time.Second)
	// maxSaid bounds the texts of entities that are remembered for that.
	maxSaid = 1 << 14
)

// texts picks the log records that a pattern has a use for.
type texts struct {
	// find returns which text a body holds, 0 for none; it may change the body.
	find func(body []byte) int

	mu   sync.Mutex
	said map[said]int64
}

type said struct {
	by   record.EntityID
	text int
}

// Texts makes log records without a name events of that name where find returns a
// number: which text of its own the body holds. It must be called before any record
// is decoded.
func (d *Decoder) Texts(name string, find func(body []byte) int) {
	d.logName = name
	d.texts = &texts{find: find, said: map[said]int64{}}
}

// Records tests whole log records.
type Records interface {
	// Met returns the keys of the conditions that a record of an event meets, and how
	// many could not be evaluated.
	Met(event string, rl plog.ResourceLogs, sl plog.ScopeLogs, r plog.LogRecord) (keys []string, failed int)
}

// Test has records tested while they are whole: an event gets each key that it meets as
// an attribute, and a log record without a name that meets one becomes an event of that
// name. It must be called before any record is decoded.
func (d *Decoder) Test(name string, records Records) { d.logName, d.records = name, records }

func (d *Decoder) met(rl plog.ResourceLogs, sl plog.ScopeLogs, r plog.LogRecord) (keys []string, failed int) {
	if d.records == nil {
		return nil, 0
	}
	name := r.EventName()
	if name == "" {
		name = d.logName
	}
	return d.records.Met(name, rl, sl, r)
}

// holds tells whether a record is to become an event. What says of itself that it is no
// trouble is not looked at.
func (t *texts) holds(r plog.LogRecord, by record.EntityID, at int64) bool {
	if s := r.SeverityNumber(); t == nil || (s != plog.SeverityNumberUnspecified && s < plog.SeverityNumberWarn) {
		return false
	}
	n := t.number(words(r.Body()))
	if n == 0 {
		n = t.number(exception(r))
	}
	if n == 0 {
		return false
	}
	key := said{by, n}
	t.mu.Lock()
	defer t.mu.Unlock()
	last, ok := t.said[key]
	if ok && at-last < againAfter && at >= last {
		return false
	}
	if len(t.said) >= maxSaid {
		clear(t.said)
	}
	t.said[key] = at
	return true
}

// number returns which text s holds, 0 for none.
func (t *texts) number(s string) int {
	if s == "" {
		return 0
	}
	var buffer [record.MaxText]byte
	return t.find(buffer[:copy(buffer[:], ends(s))])
}

// body returns the text of a record: its body, and what the exception says of which it
// tells, where the body does not; "" when neither is text.
func body(r plog.LogRecord) string { return record.Text(ends(with(words(r.Body()), exception(r)))) }

// words returns a value that is text, "" for any other.
func words(v pcommon.Value) string {
	if v.Type() != pcommon.ValueTypeStr {
		return ""
	}
	return v.Str()
}

// exception returns the message of the exception that a record tells of, "" for none.
func exception(r plog.LogRecord) string {
	v, ok := r.Attributes().Get("exception.message")
	if !ok {
		return ""
	}
	return words(v)
}

// with adds to what is said the reason that is given for it, unless it holds that.
func with(said, reason string) string {
	switch {
	case strings.Contains(said, reason):
		return said
	case said == "":
		return reason
	}
	return said + ": " + reason
}

// cut stands for what was left out of a text.
const cut = " ... "

// ends shortens a text to what is kept of one by leaving out its middle: errors that
// wrap others say what it was about at the beginning and what went wrong at the end.
func ends(s string) string {
	if len(s) <= record.MaxText {
		return s
	}
	half := (record.MaxText - len(cut)) / 2
	return s[:half] + cut + s[len(s)-half:]
}
