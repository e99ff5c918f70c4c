package cloudopsbench

import "strings"

// field is one line of what kubectl describe prints, with the lines that are
// indented below it.
type field struct {
	key, value string
	// raw is the whole line, without its indentation.
	raw   string
	below []*field
}

// parse reads the output of kubectl describe for one object.
func parse(text string) *field {
	root := &field{}
	type level struct {
		indent int
		f      *field
	}
	open := []level{{-1, root}}
	for _, line := range strings.Split(text, "\n") {
		raw := strings.TrimSpace(line)
		if raw == "" {
			continue
		}
		indent := len(line) - len(strings.TrimLeft(line, " "))
		for len(open) > 1 && open[len(open)-1].indent >= indent {
			open = open[:len(open)-1]
		}
		f := &field{raw: raw}
		if key, value, ok := strings.Cut(raw, ":"); ok && (value == "" || value[0] == ' ') {
			f.key, f.value = key, strings.TrimSpace(value)
		}
		parent := open[len(open)-1].f
		parent.below = append(parent.below, f)
		open = append(open, level{indent, f})
	}
	return root
}

// get returns the first field of that name below f, an empty one when there is none.
func (f *field) get(path ...string) *field {
	for _, name := range path {
		next := &field{}
		for _, b := range f.below {
			if b.key == name {
				next = b
				break
			}
		}
		f = next
	}
	return f
}

// text is the value, "" for what kubectl prints of what is not there.
func (f *field) text() string {
	switch f.value {
	case "<none>", "<unset>", "<nil>":
		return ""
	}
	return f.value
}

// list is the value and the lines below it: what kubectl prints of labels and taints.
func (f *field) list() []string {
	var out []string
	if t := f.text(); t != "" {
		out = append(out, t)
	}
	for _, b := range f.below {
		out = append(out, b.raw)
	}
	return out
}

// pairs reads a list of a=b, on lines of their own or joined by commas.
func pairs(lines []string) map[string]string {
	out := map[string]string{}
	for _, line := range lines {
		for _, part := range strings.Split(line, ",") {
			if k, v, ok := strings.Cut(part, "="); ok {
				out[strings.TrimSpace(k)] = strings.TrimSpace(v)
			}
		}
	}
	return out
}
