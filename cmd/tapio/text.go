package main

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds one text taken from telemetry, in characters.
const maxText = 2000

// clean makes a text from telemetry safe to print: whoever names a process or a
// span must not be able to move the cursor, colour the screen, forge a line or
// reverse the reading order. White space becomes one blank, every other character
// that is not printable an escape such as \u001b.
func clean(s string) string {
	var b strings.Builder
	n := 0
	for i := 0; i < len(s); n++ {
		if n == maxText {
			fmt.Fprintf(&b, "... (%d bytes more)", len(s)-i)
			break
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsSpace(r):
			b.WriteByte(' ')
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}

// wrap breaks s into lines of at most width characters, at blanks where there
// are any. It returns at least one line.
func wrap(s string, width int) []string {
	width = max(width, 1)
	var lines []string
	line, length := "", 0
	for _, word := range strings.Fields(s) {
		for n := utf8.RuneCountInString(word); ; n = utf8.RuneCountInString(word) {
			if length > 0 && length+1+n <= width {
				line, length = line+" "+word, length+1+n
				break
			}
			if length > 0 {
				lines, line, length = append(lines, line), "", 0
			}
			if n <= width {
				line, length = word, n
				break
			}
			head, tail := splitAt(word, width)
			lines, word = append(lines, head), tail
		}
	}
	if length > 0 || len(lines) == 0 {
		lines = append(lines, line)
	}
	return lines
}

// splitAt cuts s after n characters.
func splitAt(s string, n int) (head, tail string) {
	for i := range s {
		if n == 0 {
			return s[:i], s[i:]
		}
		n--
	}
	return s, ""
}

// cut shortens s to n characters, with three dots in place of what is missing.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	if n <= 3 {
		head, _ := splitAt(s, max(n, 0))
		return head
	}
	head, _ := splitAt(s, n-3)
	return strings.TrimRight(head, " ") + "..."
}

// pad adds blanks to s until it has n characters.
func pad(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-utf8.RuneCountInString(s)))
}
