package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// oneOf refuses a value of --output that is not allowed.
func oneOf(value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return usageError{fmt.Errorf("--output %q: want %s", value, strings.Join(allowed, " or "))}
}

// printJSON writes v for programs. JSON escapes control characters itself.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
