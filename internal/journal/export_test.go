package journal

import (
	"bytes"
	"fmt"
	"os/exec"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/journal/journaltest"
)

// line is an entry in one form, whatever read it: the cursor and all fields,
// sorted, since journalctl does not keep their order.
func line(cursor string, fields []string) string {
	sort.Strings(fields)
	return cursor + "\n" + strings.Join(fields, "\n")
}

func lineOf(e *Entry) string {
	var fields []string
	for _, f := range e.Fields {
		if f.Name != "_BOOT_ID" { // journalctl takes it from the entry; the cursor has it
			fields = append(fields, fmt.Sprintf("%s=%q", f.Name, f.Value))
		}
	}
	return line(e.Cursor(), fields)
}

// askJournalctl returns what journalctl reads, in its order.
func askJournalctl(t testing.TB, args ...string) []string {
	t.Helper()
	cmd := exec.Command(journaltest.Needs(t, "journalctl"), append([]string{"--quiet", "--no-pager", "--all", "--output=export"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, stderr.String())
	return parseExport(t, out)
}

// parseExport reads systemd's export format.
func parseExport(t testing.TB, b []byte) (lines []string) {
	t.Helper()
	var cursor string
	var fields []string
	for len(b) > 0 {
		text, rest, ok := bytes.Cut(b, []byte("\n"))
		require.True(t, ok)
		b = rest
		if len(text) == 0 {
			lines = append(lines, line(cursor, fields))
			cursor, fields = "", nil
			continue
		}
		name, value, ok := bytes.Cut(text, []byte("="))
		if !ok { // binary: the size in 8 bytes, the value, a newline
			size := int(b[0]) | int(b[1])<<8 | int(b[2])<<16 | int(b[3])<<24
			value, b = b[8:8+size], b[8+size+1:]
		}
		switch string(name) {
		case "__CURSOR":
			cursor = string(value)
		case "__REALTIME_TIMESTAMP", "__MONOTONIC_TIMESTAMP", "__SEQNUM", "__SEQNUM_ID", "_BOOT_ID":
		default:
			fields = append(fields, fmt.Sprintf("%s=%q", name, value))
		}
	}
	return lines
}

// testOptions read everything.
func testOptions(directories ...string) Options {
	return Options{Directories: directories, MaxFieldSize: 1 << 20, MaxOpenFiles: 512, Now: time.Now}
}

// readAll returns all entries that are there now.
func readAll(r *Reader) (lines []string) {
	r.Refresh()
	for e := r.Next(); e != nil; e = r.Next() {
		lines = append(lines, lineOf(e))
	}
	return lines
}
