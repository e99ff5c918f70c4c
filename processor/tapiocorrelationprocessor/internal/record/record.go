// Package record defines what the engine remembers of an event: a fixed record
// of 48 bytes without pointers for every event, and a Detail for the few that
// can matter to a finding.
package record

import (
	"encoding/hex"
	"strings"
	"time"
)

// MaxText bounds every text that is kept of an event, in bytes.
const MaxText = 512

// Text returns a copy of s of at most MaxText bytes that is valid UTF-8, as OTLP
// demands of the findings that will hold it.
func Text(s string) string {
	return strings.ToValidUTF8(strings.Clone(s[:min(len(s), MaxText)]), "\uFFFD")
}

// Kind says what a record stands for.
type Kind uint16

// The kinds of records. Kinds from KindSlowSpan on have a Detail.
const (
	// KindSpan is a span that is neither failed nor slow.
	KindSpan Kind = iota + 1
	// KindAnswer is a server span that is neither failed nor slow: somebody was
	// there and answered.
	KindAnswer
	// KindReached is a client span that is neither failed nor slow and names the address
	// that it called, which is its subject: somebody answered there.
	KindReached
	// KindLog is a log record without an event name.
	KindLog
	// KindSlowSpan is a span that took longer than its operation's threshold.
	KindSlowSpan
	// KindFailedSpan is a span whose status is an error.
	KindFailedSpan
	// KindEvent is a log record with an event name.
	KindEvent
)

// TraceID is a W3C trace id; all zero when there is none.
type TraceID [16]byte

// String returns 32 hexadecimal digits.
func (t TraceID) String() string { return hex.EncodeToString(t[:]) }

// SpanID is a W3C span id; all zero when there is none.
type SpanID [8]byte

// String returns 16 hexadecimal digits.
func (s SpanID) String() string { return hex.EncodeToString(s[:]) }

// EntityID is the interned number of an entity; 0 is none.
type EntityID uint32

// DetailID is the number of a detail; 0 is none.
type DetailID uint32

// Event is the record of one event. Its size is 48 bytes.
type Event struct {
	// Time is when it happened (a span: when it ended), in ns since 1970 UTC.
	Time    int64
	TraceID TraceID
	// Subject is to whom it happened (see KindReached), Object the operation of a span.
	Subject, Object EntityID
	Kind            Kind
	// Severity is the OpenTelemetry severity number, 0 when unset.
	Severity uint8
	Detail   DetailID
	// Value is the duration of a span in ns, else 0.
	Value int64
}

// Span is the detail of a failed or slow span.
type Span struct {
	ID, Parent SpanID
	Kind       SpanKind
	Start, End int64
	Name       string
	Operation  EntityID
	// Peer is the address that a client span called, 0 when unknown.
	Peer EntityID
	// Failed and Slow say why the span has a detail.
	Failed, Slow bool
	// Failure classifies a failed call.
	Failure Failure
	// ErrorType, Message and HTTPStatus are what the span says of its error.
	ErrorType, Message string
	HTTPStatus         int
	// User and Value are the impact attributes that the span carries.
	User, UserKey string
	Value         float64
	HasValue      bool
}

// SpanKind is the OTLP span kind.
type SpanKind uint8

// The span kinds that the engine tells apart.
const (
	SpanInternal SpanKind = iota
	SpanServer
	SpanClient
)

// Failure is how a call failed, as far as its span tells.
type Failure uint8

// The classes of failures.
const (
	// FailureOther is any failure that says nothing about the connection.
	FailureOther Failure = iota
	// FailureRefused: the peer's host answered that nothing listens there.
	FailureRefused
	// FailureBroken: a connection that was there ended before the answer.
	FailureBroken
	// FailureTimeout: no answer in the time that the caller allowed.
	FailureTimeout
	// FailureUnresolved: the caller found no address for the name.
	FailureUnresolved
	// FailureCanceled: the caller's own caller gave up before the answer.
	FailureCanceled
)

// String returns the words that findings use for the class.
func (f Failure) String() string {
	switch f {
	case FailureRefused:
		return "connection refused"
	case FailureBroken:
		return "connection lost before the answer"
	case FailureTimeout:
		return "no answer in time"
	case FailureUnresolved:
		return "name not resolved"
	case FailureCanceled:
		return "given up before the answer"
	}
	return "error"
}

// Attr is one attribute of an event; the value is string, int64, float64, bool or
// []string.
type Attr struct {
	Key   string
	Value any
}

// Detail is the text of an event: Span for spans, Name and Attrs for others.
type Detail struct {
	Span  *Span
	Name  string
	Attrs []Attr
	// Peer is the address that an event names as the other side.
	Peer EntityID
	// Other is to whom it happened as well, as two have one address; 0 for nobody.
	Other EntityID
	// Body is the record's text.
	Body string
}

// KeyBody is the key under which Attr finds the body.
const KeyBody = "body"

// Attr returns the value of an attribute, nil when it is absent.
func (d *Detail) Attr(key string) any {
	if key == KeyBody && d.Body != "" {
		return d.Body
	}
	for i := range d.Attrs {
		if d.Attrs[i].Key == key {
			return d.Attrs[i].Value
		}
	}
	return nil
}

// UTC converts a record's time.
func UTC(ns int64) time.Time { return time.Unix(0, ns).UTC() }
