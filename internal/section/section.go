// Package section reads a component's section of the configuration, with errors that name
// key, value and what is allowed: a slip of the keyboard gets the key that was meant.
package section

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/confmap"
)

// Unmarshal reads conf into a pointer to a component's configuration. It is the body of
// that type's Unmarshal. Beyond what confmap refuses it refuses durations that are numbers
// without a unit, which would be nanoseconds.
func Unmarshal(conf *confmap.Conf, into any) error {
	found := check(conf.ToStringMap(), reflect.TypeOf(into).Elem(), "")
	if len(found) > 0 {
		return errors.Join(found...)
	}
	return conf.Unmarshal(into)
}

// check compares a value of the configuration with the type that it is for, and returns
// what is certainly wrong. What it does not know it leaves to confmap.
func check(value any, to reflect.Type, path string) []error {
	for to.Kind() == reflect.Pointer {
		to = to.Elem()
	}
	if to == reflect.TypeFor[time.Duration]() {
		return checkDuration(value, path)
	}
	if path != "" && readsItself(to) {
		return nil
	}
	switch to.Kind() {
	case reflect.Struct:
		if m, ok := value.(map[string]any); ok {
			return checkKeys(m, to, path)
		}
		if fields, whole := fieldsOf(to); whole && value != nil {
			return []error{fmt.Errorf("%s: %v is not allowed: want a section of %s", path, value, listed(fields))}
		}
	case reflect.Slice:
		if list, ok := value.([]any); ok {
			var errs []error
			for i, v := range list {
				errs = append(errs, check(v, to.Elem(), fmt.Sprintf("%s[%d]", path, i))...)
			}
			return errs
		}
	case reflect.Bool:
		return checkText(value, path, "true or false")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return checkText(value, path, "a whole number")
	case reflect.Float32, reflect.Float64:
		return checkText(value, path, "a number")
	}
	return nil
}

// readsItself tells whether a type has its own way of reading its value.
func readsItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[confmap.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// checkText refuses a text where there can be none; confmap reads no number out of one.
func checkText(value any, path, want string) []error {
	if s, ok := value.(string); ok {
		return []error{fmt.Errorf("%s: %q is not allowed: want %s", path, s, want)}
	}
	return nil
}

func checkDuration(value any, path string) []error {
	const want = "want a number with its unit, such as 30s, 5m or 1h"
	switch v := value.(type) {
	case string:
		if _, err := time.ParseDuration(v); err != nil {
			return []error{fmt.Errorf("%s: %q is not allowed: %s", path, v, want)}
		}
	case int, int64, uint64, float64:
		if number := fmt.Sprint(v); number != "0" {
			return []error{fmt.Errorf("%s: %s is not allowed: %s", path, number, want)}
		}
	}
	return nil
}

// checkKeys compares the keys of a section with the fields that they are for.
func checkKeys(m map[string]any, to reflect.Type, path string) (errs []error) {
	fields, whole := fieldsOf(to)
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		at := key
		if path != "" {
			at = path + "::" + key
		}
		if field, ok := fields[key]; ok {
			errs = append(errs, check(m[key], field, at)...)
		} else if whole {
			errs = append(errs, fmt.Errorf("%s: there is no such key%s", at, hint(strings.TrimSuffix(at, key), key, fields)))
		}
	}
	return errs
}

// fieldsOf returns the types by key, and whether those are all keys that there can be.
func fieldsOf(t reflect.Type) (fields map[string]reflect.Type, whole bool) {
	fields, whole = map[string]reflect.Type{}, true
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case strings.Contains(options, "squash"):
			of := f.Type
			for of.Kind() == reflect.Pointer {
				of = of.Elem()
			}
			if of.Kind() != reflect.Struct || readsItself(of) {
				whole = false
				continue
			}
			more, all := fieldsOf(of)
			whole = whole && all
			for key, v := range more {
				fields[key] = v
			}
		case strings.Contains(options, "remain"), name == "":
			whole = false
		default:
			fields[name] = f.Type
		}
	}
	return fields, whole
}

// maxListed bounds the keys that are listed as allowed.
const maxListed = 12

// hint says which key was meant, or which there are; prefix is the section that it is in.
func hint(prefix, key string, fields map[string]reflect.Type) string {
	if best := Nearest(key, slices.Collect(maps.Keys(fields))); best != "" {
		return fmt.Sprintf("; do you mean %s%s?", prefix, best)
	}
	return ": want one of " + listed(fields)
}

// listed names the keys that are allowed.
func listed(fields map[string]reflect.Type) string {
	names := slices.Sorted(maps.Keys(fields))
	if len(names) <= maxListed {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d others", strings.Join(names[:maxListed], ", "), len(names)-maxListed)
}

// Nearest returns which of the names was meant by one that is none of them, "" when it is
// not near enough to any.
func Nearest(name string, names []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, n := range names {
		if d := distance(name, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance is how many characters must be put in, taken out or changed to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
