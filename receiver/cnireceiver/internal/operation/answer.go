package operation

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// Failure is the error that a plugin wrote to its standard output, as the CNI
// specification has it.
type Failure struct {
	// Code: below 100 those of the specification, others the plugin's own; 0 when it
	// was not seen.
	Code uint64
	// Message is for people, Details may be empty.
	Message, Details string
}

// parseFailure reads an error object. isCut says that raw is its beginning only:
// then as much of the message is returned as is there. The second result is
// false when there is no message and no code.
func parseFailure(raw []byte, isCut bool) (Failure, bool) {
	if isCut {
		raw = closeObject(raw)
	}
	var answer struct {
		Code    uint64 `json:"code"`
		Msg     string `json:"msg"`
		Details string `json:"details"`
	}
	err := json.NewDecoder(bytes.NewReader(raw)).Decode(&answer)
	// A value of another type than it should have leaves the others readable.
	if mismatch := (*json.UnmarshalTypeError)(nil); err != nil && !errors.As(err, &mismatch) {
		return Failure{}, false
	}
	f := Failure{Code: answer.Code, Message: tidy(answer.Msg), Details: tidy(answer.Details)}
	return f, f != Failure{}
}

// tidy is clean, and without blanks around.
func tidy(s string) string { return strings.TrimSpace(clean(s)) }

// closeObject ends an object that was cut off: inside a string, as long messages
// are, or between two members.
func closeObject(raw []byte) []byte {
	depth, inString, escape := 0, false, -1
	lastComma := -1
	for i, c := range raw {
		switch {
		case escape >= 0:
			// \uXXXX is six bytes long, any other escape two.
			if c != 'u' && i == escape+1 || i >= escape+5 {
				escape = -1
			}
		case inString && c == '\\':
			escape = i
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		case c == ',' && depth == 1:
			lastComma = i
		}
	}
	if escape >= 0 {
		raw = raw[:escape]
	}
	if inString && depth == 1 {
		if closed := append(bytes.Clone(raw), `"}`...); json.Valid(closed) {
			return closed
		}
	}
	if lastComma >= 0 {
		return append(bytes.Clone(raw[:lastComma]), '}')
	}
	return raw
}

// networkName reads "name" of a network configuration, of which the end may be
// missing. Nothing else of it is kept.
func networkName(config []byte) string {
	d := json.NewDecoder(bytes.NewReader(config))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return ""
	}
	depth, isKey := 1, true
	for {
		token, err := d.Token()
		if err != nil {
			return ""
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				depth++
			} else {
				depth--
			}
			isKey = depth == 1
		default:
			if depth != 1 {
				continue
			}
			if isKey && t == "name" {
				name, _ := d.Token()
				s, _ := name.(string)
				return tidy(s)
			}
			isKey = !isKey
		}
		if depth == 0 {
			return ""
		}
	}
}
