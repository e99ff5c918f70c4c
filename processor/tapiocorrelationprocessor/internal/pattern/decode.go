package pattern

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Decode reads YAML into a pointer to a struct. Unknown keys are errors; each error says
// the line, the key, the value and what is allowed.
func Decode(b []byte, into any) error {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	err := dec.Decode(into)
	var typeErr *yaml.TypeError
	if !errors.As(err, &typeErr) {
		if err == nil && dec.Decode(new(yaml.Node)) == nil {
			return errors.New("a second YAML document (---): want one pattern or scenario a file")
		}
		return syntax(err, 1+bytes.Count(bytes.TrimSpace(b), []byte("\n")))
	}
	keys := map[string][]string{}
	keysOf(reflect.TypeOf(into), keys)
	lines := strings.Split(string(b), "\n")
	var errs []error
	for _, text := range typeErr.Errors {
		errs = append(errs, errors.New(inWordsOfFile(text, lines, keys)))
	}
	return errors.Join(errs...)
}

var (
	noYAML     = regexp.MustCompile(`(?s)^yaml: line (\d+): (.*)$`)
	unknownKey = regexp.MustCompile(`^(line \d+): field (.*) not found in type (.*)$`)
	wrongType  = regexp.MustCompile(`(?s)^line (\d+): cannot unmarshal !!\w+ ?(?:` + "`(.*)`" + `)? ?into (.*)$`)
)

// syntax says of what is no YAML in which of the lines. Of an error of its parser the
// library gives the line before the slip, or before the block that has it.
func syntax(err error, lines int) error {
	if err == nil {
		return nil
	}
	m := noYAML.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	n, parsed := strconv.Atoi(m[1])
	if parsed != nil {
		return err
	}
	if strings.HasPrefix(m[2], "did not find") {
		n = min(n+1, lines)
		m[2] += ", here or in the block that begins here"
	}
	return fmt.Errorf("line %d: no valid YAML: %s", n, m[2])
}

// inWordsOfFile says what the library says, in Go's words, in those of the file.
func inWordsOfFile(text string, lines []string, keys map[string][]string) string {
	if m := unknownKey.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s: %s: no such key; want one of %v", m[1], m[2], keys[m[3]])
	}
	m := wrongType.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	key := "value"
	if n, err := strconv.Atoi(m[1]); err == nil && n >= 1 && n <= len(lines) {
		if before, _, ok := strings.Cut(strings.TrimLeft(lines[n-1], " -{["), ":"); ok {
			key = before
		}
	}
	if m[2] != "" {
		key += fmt.Sprintf(": %q", m[2])
	}
	return fmt.Sprintf("line %s: %s: want %s", m[1], key, kindOf(m[3], keys))
}

// kindOf says what a Go type is in YAML.
func kindOf(name string, keys map[string][]string) string {
	switch {
	case strings.HasPrefix(name, "[]"):
		return "a list"
	case strings.HasPrefix(name, "map["):
		return "keys and values"
	case name == "time.Duration":
		return "a duration, such as 30s"
	case name == "bool":
		return "true or false"
	case strings.HasPrefix(name, "int"), strings.HasPrefix(name, "uint"):
		return "a whole number"
	case strings.HasPrefix(name, "float"):
		return "a number"
	case keys[name] != nil:
		return fmt.Sprintf("keys out of %v", keys[name])
	}
	return "a text"
}

// keysOf lists the keys of a struct and of all that it is made of, by type.
func keysOf(t reflect.Type, keys map[string][]string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || keys[t.String()] != nil {
		return
	}
	names := []string{}
	keys[t.String()] = names
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		names = append(names, name)
		keysOf(f.Type, keys)
	}
	slices.Sort(names)
	keys[t.String()] = names
}
