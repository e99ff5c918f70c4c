package replay

import (
	"bytes"
	"errors"
	"fmt"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/protobuf/encoding/protowire"
)

// kind is what a message holds.
type kind uint8

const (
	// kindNone: no items.
	kindNone kind = iota
	kindTraces
	kindLogs
	kindMetrics
	// kindOther is OTLP that the processor does not take: profiles.
	kindOther
)

// errNotOTLP is for messages that are not OTLP.
var errNotOTLP = errors.New("not OTLP: want spans, log records or data points, as JSON or protobuf")

// put decodes one message and gives its items to the buffer. It returns their
// newest time, 0 when there is none.
func (b *Buffer) put(message []byte) (newest int64, err error) {
	asJSON := len(message) > 0 && message[0] == '{'
	kindOf := kindOfProto
	if asJSON {
		kindOf = kindOfJSON
	}
	k, err := kindOf(message)
	if err != nil {
		return 0, err
	}
	switch k {
	case kindTraces:
		td, err := unmarshal(message, asJSON, new(ptrace.JSONUnmarshaler).UnmarshalTraces, new(ptrace.ProtoUnmarshaler).UnmarshalTraces)
		if err != nil {
			return 0, err
		}
		return b.Traces(td)
	case kindLogs:
		ld, err := unmarshal(message, asJSON, new(plog.JSONUnmarshaler).UnmarshalLogs, new(plog.ProtoUnmarshaler).UnmarshalLogs)
		if err != nil {
			return 0, err
		}
		return b.Logs(ld)
	case kindMetrics:
		md, err := unmarshal(message, asJSON, new(pmetric.JSONUnmarshaler).UnmarshalMetrics, new(pmetric.ProtoUnmarshaler).UnmarshalMetrics)
		if err != nil {
			return 0, err
		}
		return b.Metrics(md)
	case kindOther:
		b.Counts.Other++
	}
	return 0, nil
}

func unmarshal[T any](message []byte, asJSON bool, fromJSON, fromProto func([]byte) (T, error)) (T, error) {
	from, what := fromProto, "protobuf"
	if asJSON {
		from, what = fromJSON, "JSON"
	}
	v, err := from(message)
	if err != nil {
		err = fmt.Errorf("OTLP as %s: %w", what, err)
	}
	return v, err
}

// kindOfJSON goes by the first key of the object: OTLP has one only.
func kindOfJSON(message []byte) (kind, error) {
	rest := bytes.TrimLeft(message[1:], " \t\r\n")
	if bytes.HasPrefix(rest, []byte("}")) {
		return kindNone, nil
	}
	for _, of := range []struct {
		key  string
		kind kind
	}{
		{`"resourceSpans"`, kindTraces},
		{`"resourceLogs"`, kindLogs},
		{`"resourceMetrics"`, kindMetrics},
		{`"resourceProfiles"`, kindOther},
		{`"dictionary"`, kindOther},
	} {
		if bytes.HasPrefix(rest, []byte(of.key)) {
			return of.kind, nil
		}
	}
	return kindNone, errNotOTLP
}

// kindOfProto goes by the types of the fields of the first item that tells: in
// protobuf the messages of all signals have the same outer fields.
func kindOfProto(message []byte) (k kind, err error) {
	err = fields(message, func(n protowire.Number, t protowire.Type, resource []byte) error {
		if n != 1 || t != protowire.BytesType || k != kindNone {
			return nil
		}
		return fields(resource, func(n protowire.Number, t protowire.Type, scope []byte) error {
			if n != 2 || t != protowire.BytesType || k != kindNone {
				return nil
			}
			return fields(scope, func(n protowire.Number, t protowire.Type, item []byte) (err error) {
				if n == 2 && t == protowire.BytesType && k == kindNone {
					k, err = kindOfItem(item)
				}
				return err
			})
		})
	})
	return k, err
}

// kindOfItem tells an opentelemetry.proto Span, which has its times in fields 7 and
// 8, from a LogRecord (1 and 11), a Profile (3) and a Metric: no time, its
// data in one of 5, 7, 9, 10 and 11. An item that has none of them is of no use.
func kindOfItem(item []byte) (kind, error) {
	var times, messages uint
	if err := fields(item, func(n protowire.Number, t protowire.Type, _ []byte) error {
		switch {
		case n > 11:
		case t == protowire.Fixed64Type:
			times |= 1 << n
		case t == protowire.BytesType:
			messages |= 1 << n
		}
		return nil
	}); err != nil {
		return kindNone, err
	}
	switch {
	case times&(1<<7|1<<8) != 0:
		return kindTraces, nil
	case times&(1<<1|1<<11) != 0:
		return kindLogs, nil
	case times&(1<<3) != 0:
		return kindOther, nil
	case times == 0 && messages&(1<<1) != 0 && messages&(1<<5|1<<7|1<<9|1<<10|1<<11) != 0:
		return kindMetrics, nil
	}
	return kindNone, nil
}

// fields calls visit with each field of a message, and the contents of those that
// have a length.
func fields(message []byte, visit func(protowire.Number, protowire.Type, []byte) error) error {
	for len(message) > 0 {
		n, t, size := protowire.ConsumeTag(message)
		if size < 0 {
			return errNotOTLP
		}
		message = message[size:]
		size = protowire.ConsumeFieldValue(n, t, message)
		if size < 0 {
			return errNotOTLP
		}
		var contents []byte
		if t == protowire.BytesType {
			contents, _ = protowire.ConsumeBytes(message)
		}
		if err := visit(n, t, contents); err != nil {
			return err
		}
		message = message[size:]
	}
	return nil
}
