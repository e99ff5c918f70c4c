package template

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/plog"
)

const (
	// maxBody is how much of a line is read, in bytes.
	maxBody = 1024
	// maxWords is how many words of a line make its template: what a statement
	// prints after that is data.
	maxWords = 20
	// minIDLen is the length from which a word with digits among its letters is
	// taken for an identifier as a whole (base64, random suffixes).
	minIDLen = 24
	// traceIDLen and spanIDLen are the lengths of W3C ids in hexadecimal: such an
	// id and the word before it are the logging layout's, not the statement's.
	traceIDLen, spanIDLen = 32, 16
	// levelWithin is how many words from the beginning a level is looked for.
	levelWithin = 4
)

// masked is what stands for a value.
const masked = "<*>"

// line is a log line taken apart.
type line struct {
	words [maxWords]string
	n     int
	level uint8
	// exception is the first exception type in the text, "" for none.
	exception string
}

// read takes a line apart. The words are parts of body, except those of which
// digits were masked.
func (l *line) read(body string) {
	body = body[:min(len(body), maxBody)]
	position := 0
	valued := false // the next word is the value of a key
	for rest := body; rest != ""; {
		word, ended, next := cut(rest)
		rest = next
		if word == "" {
			valued = valued && (ended == ' ' || ended == '"')
			continue
		}
		if l.exception == "" && isException(word) {
			l.exception = word
		}
		if l.n == maxWords {
			continue // still looking for an exception
		}
		if position++; position <= levelWithin && l.level == 0 {
			if l.level = levelOf(word); l.level != 0 {
				continue
			}
		}
		l.put(word, valued)
		if valued = (ended == ':' || ended == '=' || ended == '"' && rest != "" && rest[0] == ':') && isKey(word, l.n); valued {
			var skipped bool
			rest, skipped = l.list(rest)
			valued = !skipped
		}
	}
}

// list skips the value of a key when that is a list or a map in brackets.
func (l *line) list(s string) (rest string, skipped bool) {
	i := 0
	for i < len(s) && (s[i] == ' ' || s[i] == ':') {
		i++
	}
	if i == len(s) || s[i] != '[' && s[i] != '{' || l.n == maxWords {
		return s, false
	}
	if l.words[l.n-1] != masked {
		l.words[l.n] = masked
		l.n++
	}
	depth := 0
	for ; i < len(s); i++ {
		switch s[i] {
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return s[i+1:], true
			}
		}
	}
	return "", true
}

// isKey tells whether a word before a colon or equals sign is the key of a value
// that is data. The first words are the logging layout's; some keys have values
// that say what happened, and after an exception its message follows.
func isKey(word string, n int) bool {
	if n < 2 || isException(word) {
		return false
	}
	switch strings.ToLower(word) {
	case "msg", "message", "event", "error", "err", "reason", "status", "result", "code", "state", "cause":
		return false
	}
	return true
}

// put appends a word, masked. Values at the beginning (times, process ids) and
// those that follow a value say nothing about the statement.
func (l *line) put(word string, valued bool) {
	kind := classify(word)
	switch {
	case kind == id && l.n > 0:
		if l.words[l.n-1] != masked {
			l.n--
		}
		return
	case valued || kind == value || kind == id:
		if l.n == 0 || l.words[l.n-1] == masked {
			return
		}
		word = masked
	case kind == mixed:
		word = maskDigits(word)
	}
	l.words[l.n] = word
	l.n++
}

// cut returns the next word, the separator that ended it, and what follows.
func cut(s string) (word string, ended byte, rest string) {
	for i := 0; i < len(s); i++ {
		if separator[s[i]] {
			return s[:i], s[i], s[i+1:]
		}
	}
	return s, 0, ""
}

var separator = func() (t [256]bool) {
	for c := range 33 {
		t[c] = true
	}
	for _, c := range []byte("[](){}<>=,;:\"'|`!") {
		t[c] = true
	}
	return t
}()

type wordKind uint8

const (
	plain wordKind = iota // no digits
	mixed                 // letters with digits among them
	value                 // a number, a time, a uuid, an address, a random id
	id                    // as long as a trace or span id
)

func classify(w string) wordKind {
	digits, hex := 0, 0
	for i := 0; i < len(w); i++ {
		switch c := w[i]; {
		case c >= '0' && c <= '9':
			digits++
			hex++
		case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
			hex++
		case c == '-', c == '.', c == '_', c == '/', c == '+', c == '#', c == '%', c == '*':
			hex++
		}
	}
	switch {
	case digits == 0:
		return plain
	case hex == len(w) && digits >= 4 && (len(w) == traceIDLen || len(w) == spanIDLen):
		return id
	case hex == len(w), digits > len(w)/2, len(w) >= minIDLen && digits >= 4:
		return value
	}
	return mixed
}

// maskDigits replaces every run of digits by one asterisk.
func maskDigits(w string) string {
	var b strings.Builder
	b.Grow(len(w))
	in := false
	for i := 0; i < len(w); i++ {
		if d := w[i] >= '0' && w[i] <= '9'; !d {
			b.WriteByte(w[i])
			in = false
		} else if !in {
			b.WriteByte('*')
			in = true
		}
	}
	return b.String()
}

// isException tells whether a word is the name of an exception type, as Java, .NET,
// Python and JavaScript name them.
func isException(w string) bool {
	for _, suffix := range []string{"Exception", "Error"} {
		if name, ok := strings.CutSuffix(w, suffix); ok {
			last := name[strings.LastIndexByte(name, '.')+1:]
			return last != "" && last[0] >= 'A' && last[0] <= 'Z' && strings.IndexByte(name, '/') < 0
		}
	}
	return false
}

// levelOf returns the severity number that a level's name stands for, 0 when the
// word is none.
func levelOf(w string) uint8 {
	if len(w) < 3 || len(w) > 8 {
		return 0
	}
	for _, l := range levels {
		if len(w) == len(l.name) && strings.EqualFold(w, l.name) {
			return l.number
		}
	}
	return 0
}

var levels = []struct {
	name   string
	number uint8
}{
	{"INFO", uint8(plog.SeverityNumberInfo)},
	{"DEBUG", uint8(plog.SeverityNumberDebug)},
	{"WARN", uint8(plog.SeverityNumberWarn)},
	{"ERROR", uint8(plog.SeverityNumberError)},
	{"TRACE", uint8(plog.SeverityNumberTrace)},
	{"WARNING", uint8(plog.SeverityNumberWarn)},
	{"NOTICE", uint8(plog.SeverityNumberInfo)},
	{"FATAL", uint8(plog.SeverityNumberFatal)},
	{"ERR", uint8(plog.SeverityNumberError)},
	{"SEVERE", uint8(plog.SeverityNumberError)},
	{"CRITICAL", uint8(plog.SeverityNumberFatal)},
	{"PANIC", uint8(plog.SeverityNumberFatal)},
	{"EMERG", uint8(plog.SeverityNumberFatal)},
	{"ALERT", uint8(plog.SeverityNumberFatal)},
}

// Level returns the OpenTelemetry severity number that a log line names near its
// beginning: that of a level or, of the name of an exception type or a signal, an error;
// else 0.
func Level(body string) uint8 {
	rest := body[:min(len(body), maxBody)]
	for n := 0; n < levelWithin && rest != ""; {
		var word string
		if word, _, rest = cut(rest); word == "" || classify(word) == value { // such as the time
			continue
		}
		n++
		if level := levelOf(word); level != 0 {
			return level
		}
		if isException(word) || isSignal(word) {
			return uint8(plog.SeverityNumberError)
		}
	}
	return 0
}

// isSignal tells whether a word is the name of a signal that ends a process, as runtimes
// write it.
func isSignal(w string) bool {
	switch w {
	case "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGKILL", "SIGQUIT", "SIGSEGV", "SIGSYS", "SIGTERM", "SIGTRAP":
		return true
	}
	return false
}
