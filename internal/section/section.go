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

// Choice is a type of text that may be one of a few.
type Choice interface{ Allowed() []string }

// Unmarshal reads conf into a pointer to a component's configuration. It is the body of
// that type's Unmarshal. Beyond what confmap refuses it refuses durations that are numbers
// without a unit, which would be nanoseconds.
func Unmarshal(conf *confmap.Conf, into any) error {
	values, to := conf.ToStringMap(), reflect.TypeOf(into).Elem()
	found := check(values, to, "")
	if len(found) > 0 {
		return errors.Join(found...)
	}
	err := conf.Unmarshal(into)
	if err == nil {
		return nil
	}
	if found := explain(refused{values, to, "", ""}, err.Error()); len(found) > 0 {
		return errors.Join(found...)
	}
	return err
}

// refused is a value that confmap may have refused. dotted is its path as confmap writes it.
type refused struct {
	value        any
	to           reflect.Type
	path, dotted string
}

// explain says what is allowed in place of each value that confmap's error names. It is
// asked only after confmap: from values alone it cannot be told whether 7 was written as a
// number or came out of an environment variable, which may be a text.
func explain(v refused, said string) (errs []error) {
	for v.to.Kind() == reflect.Pointer {
		v.to = v.to.Elem()
	}
	if v.path != "" && strings.Contains(said, "'"+v.dotted+"'") {
		if want := wanted(v); want != "" {
			return []error{fmt.Errorf("%s: %v is not allowed: want %s", v.path, v.value, want)}
		}
	}
	for _, in := range inside(v) {
		errs = append(errs, explain(in, said)...)
	}
	return errs
}

// inside are the values in a section, map or list.
func inside(v refused) (all []refused) {
	switch values := v.value.(type) {
	case map[string]any:
		fields := map[string]reflect.Type{}
		if v.to.Kind() == reflect.Struct {
			fields, _ = fieldsOf(v.to)
		}
		for _, key := range slices.Sorted(maps.Keys(values)) {
			in := refused{values[key], fields[key], joined(v.path, "::", key), joined(v.dotted, ".", key)}
			if v.to.Kind() == reflect.Map {
				in.to, in.dotted = v.to.Elem(), v.dotted+"["+key+"]"
			}
			if in.to != nil {
				all = append(all, in)
			}
		}
	case []any:
		if v.to.Kind() == reflect.Slice {
			for i := range values {
				at := fmt.Sprintf("[%d]", i)
				all = append(all, refused{values[i], v.to.Elem(), v.path + at, v.dotted + at})
			}
		}
	}
	return all
}

func joined(path, by, key string) string {
	if path == "" {
		return key
	}
	return path + by + key
}

// wanted says what is allowed, "" when that is not known here.
func wanted(v refused) string {
	_, isMap := v.value.(map[string]any)
	_, isList := v.value.([]any)
	if choice, ok := reflect.Zero(v.to).Interface().(Choice); ok {
		return "one of " + strings.Join(choice.Allowed(), ", ")
	}
	isText := v.to.Kind() == reflect.String || reflect.PointerTo(v.to).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	switch {
	case isText && (isMap || isList):
		return "a text"
	case isText:
		return fmt.Sprintf("a text, which a number is in quotes: %q", fmt.Sprint(v.value))
	case v.to.Kind() == reflect.Slice && isMap:
		return `a list, of which each item begins with "- "`
	case v.to.Kind() == reflect.Slice:
		return "a list"
	case v.to.Kind() == reflect.Struct && !isMap:
		fields, _ := fieldsOf(v.to)
		if field, ok := fields["enabled"]; ok && len(fields) == 1 && reflect.TypeOf(v.value) == field {
			return fmt.Sprintf("a section: {enabled: %v}", v.value)
		}
		return "a section of " + listed(fields)
	case v.to.Kind() == reflect.Map && !isMap:
		return "a section of names with their values"
	case v.to.Kind() == reflect.Bool:
		return "true or false"
	}
	return ""
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
		at := joined(path, "::", key)
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
	names := slices.Collect(maps.Keys(fields))
	if section, rest, ok := strings.Cut(key, "."); ok && fields[section] != nil {
		return fmt.Sprintf("; do you mean %s%s::%s?", prefix, section, strings.ReplaceAll(rest, ".", "::"))
	}
	if near := siblings(key, names); len(near) > 1 {
		return fmt.Sprintf("; do you mean %s%s?", prefix, strings.Join(near, " or "+prefix))
	}
	if best := Nearest(key, names); best != "" {
		return fmt.Sprintf("; do you mean %s%s?", prefix, best)
	}
	return ": want one of " + listed(fields)
}

// maxSiblings bounds the keys that may all have been meant.
const maxSiblings = 4

// siblings are the names that differ from a dotted one in what comes after the last dot,
// when that is no slip of the keyboard but another word: which one was meant, its letters
// do not tell.
func siblings(name string, names []string) (near []string) {
	dot := strings.LastIndexByte(name, '.') + 1
	var last []string
	for _, n := range names {
		if dot > 0 && strings.HasPrefix(n, name[:dot]) && !strings.Contains(n[dot:], ".") {
			near, last = append(near, n), append(last, n[dot:])
		}
	}
	if len(near) > maxSiblings || Nearest(name[dot:], last) != "" {
		return nil
	}
	slices.Sort(near)
	return near
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
