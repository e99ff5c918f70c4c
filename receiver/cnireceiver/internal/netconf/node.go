package netconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxDepth is how deep a configuration may nest; real ones have about 6.
const maxDepth = 64

// node is a JSON value that knows where it stands, so that an error about it
// can name a line. encoding/json forgets that.
type node struct {
	// offset is where the value ends, in bytes; for an object or a list where it begins.
	offset int64
	// value is string, json.Number, bool or nil of a plain value.
	value  any
	fields map[string]*node
	items  []*node
	kind   kind
}

type kind string

const (
	kindObject kind = "an object"
	kindList   kind = "a list"
	kindText   kind = "a string"
	kindNumber kind = "a number"
	kindBool   kind = "true or false"
	kindNull   kind = "null"
)

// syntaxError is a mistake in the JSON itself.
type syntaxError struct {
	offset int64
	reason string
}

func (e *syntaxError) Error() string { return e.reason }

// parse reads one JSON value and nothing after it. Errors are *syntaxError.
func parse(content []byte) (*node, error) {
	// The whole first: it finds what a stream of tokens lets pass, and says better why.
	var whole any
	if err := json.Unmarshal(content, &whole); err != nil {
		var s *json.SyntaxError
		if errors.As(err, &s) {
			return nil, &syntaxError{offset: s.Offset, reason: s.Error()}
		}
		return nil, &syntaxError{reason: err.Error()}
	}
	dec := json.NewDecoder(bytes.NewReader(content))
	dec.UseNumber()
	n, err := parseValue(dec, 0)
	if err != nil {
		var s *syntaxError
		if errors.As(err, &s) {
			return nil, s
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, &syntaxError{offset: int64(len(content)), reason: "unexpected end of file"}
		}
		return nil, &syntaxError{offset: dec.InputOffset(), reason: err.Error()}
	}
	return n, nil
}

func parseValue(dec *json.Decoder, depth int) (*node, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	n := &node{offset: dec.InputOffset()}
	if depth > maxDepth {
		return nil, &syntaxError{offset: n.offset, reason: fmt.Sprintf("nested deeper than %d", maxDepth)}
	}
	switch t := token.(type) {
	case json.Delim:
		return n, n.parseInside(dec, t, depth)
	case string:
		n.kind, n.value = kindText, t
	case json.Number:
		n.kind, n.value = kindNumber, t
	case bool:
		n.kind, n.value = kindBool, t
	default:
		n.kind = kindNull
	}
	return n, nil
}

func (n *node) parseInside(dec *json.Decoder, open json.Delim, depth int) error {
	if open == '{' {
		n.kind, n.fields = kindObject, make(map[string]*node)
	} else {
		n.kind = kindList
	}
	for dec.More() {
		var key string
		if n.kind == kindObject {
			token, err := dec.Token()
			if err != nil {
				return err
			}
			key, _ = token.(string)
		}
		child, err := parseValue(dec, depth+1)
		if err != nil {
			return err
		}
		if n.kind == kindObject {
			n.fields[key] = child
		} else {
			n.items = append(n.items, child)
		}
	}
	_, err := dec.Token() // the closing one
	return err
}

// field returns the value of a key, nil when there is none. Like encoding/json,
// which plugins read their configuration with, it falls back on another case.
func (n *node) field(key string) *node {
	if f, ok := n.fields[key]; ok {
		return f
	}
	for k, f := range n.fields {
		if strings.EqualFold(k, key) {
			return f
		}
	}
	return nil
}

// lineOf counts lines up to an offset, from 1.
func lineOf(content []byte, offset int64) int {
	end := min(max(int(offset), 0), len(content))
	// The offset is behind the byte in question, which may be a line's end itself.
	end = max(end-1, 0)
	return 1 + bytes.Count(content[:end], []byte{'\n'})
}
