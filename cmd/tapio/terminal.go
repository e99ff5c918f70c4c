package main

import (
	"io"
	"os"
)

// Widths of lines, in characters.
const (
	// defaultWidth is used when the output is no terminal.
	defaultWidth = 100
	// maxWidth keeps lines readable on a wide screen.
	maxWidth = 120
	// minWidth is the narrowest layout that is still one.
	minWidth = 40
)

// terminal is where output goes, and what can be shown there.
type terminal struct {
	io.Writer
	// width is where lines wrap.
	width int
	// color is whether escape sequences are wanted.
	color bool
	// interactive is whether a person looks at it, so that rows may be cut.
	interactive bool
}

// newTerminal looks at f. Colour is off when f is no terminal, when NO_COLOR is
// set (https://no-color.org) or when TERM is dumb.
func newTerminal(f *os.File, getenv func(string) string) terminal {
	t := terminal{Writer: f, width: defaultWidth}
	if columns, ok := columnsOf(f); ok {
		t.interactive = true
		t.color = getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
		if columns > 0 {
			t.width = min(max(columns, minWidth), maxWidth)
		}
	}
	return t
}
