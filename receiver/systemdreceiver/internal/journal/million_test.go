//go:build linux

package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/journal/journaltest"
)

// A million entries are written while they are read, over all rotations of
// systemd-journal-remote and some restarts of the reader, and compared
// with what journalctl -o json prints: every field, in order, none lost, none twice.
// make journal-million runs it.
func TestMillion(t *testing.T) {
	if os.Getenv("TAPIO_MILLION") == "" {
		t.Skip("takes minutes; make journal-million runs it")
	}
	const total, each = 1_000_000, 50_000
	dir := t.TempDir()
	r := NewReader(testOptions(dir), NewState(0))
	defer func() { _ = r.Close() }()
	sums := make([][sha256.Size]byte, 0, total)
	var cpu time.Duration
	var heap uint64
	for from := 0; from < total; from += each {
		journaltest.Remote(t, filepath.Join(dir, "remote.journal"), true, true, journaltest.Export(from, each, 1))
		runtime.GC() // what is left of writing
		began, last := processorTime(t), len(sums)
		if from%(3*each) == each {
			r = restarted(t, r)
		}
		r.lastScan = time.Time{}
		r.Refresh()
		for e := r.Next(); e != nil; e = r.Next() {
			sums = append(sums, sha256.Sum256([]byte(lineOf(e))))
		}
		cpu += processorTime(t) - began
		require.Len(t, sums[last:], each, "entries from %d", from)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		heap = max(heap, m.HeapInuse)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	require.NoError(t, err)
	require.Greater(t, len(files), 5, "rotated")
	compareJSON(t, dir, sums)
	stats := r.Stats()
	assert.Zero(t, stats.LostCorrupt+stats.LostDeleted+stats.BadFields+stats.CutFields+stats.Backlog)
	t.Logf("%d entries in %d files are the same as journalctl's; %.0f entries per second of processor time, with the sums that are compared; largest heap %d MiB, of which %d MiB are the sums",
		total, len(files), total/cpu.Seconds(), heap>>20, cap(sums)*sha256.Size>>20)
}

// compareJSON compares the entries that journalctl prints with sums of lines.
func compareJSON(t *testing.T, dir string, sums [][sha256.Size]byte) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), journaltest.Needs(t, "journalctl"), "--quiet", "--no-pager", "--all", "--output=json", "-D", dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	in := json.NewDecoder(out)
	n := 0
	for ; ; n++ {
		var entry map[string]jsonValues
		err := in.Decode(&entry)
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.Less(t, n, len(sums), "journalctl has more")
		if want := jsonLine(entry); sums[n] != sha256.Sum256([]byte(want)) {
			t.Fatalf("entry %d is another than journalctl's:\n%s", n, want)
		}
	}
	require.NoError(t, cmd.Wait(), stderr.String())
	require.Equal(t, n, len(sums), "entries of journalctl, and ours")
}

// jsonValues are the values of one field: a text, numbers for the bytes of one that
// is no text, or a list of either.
type jsonValues []string

func (v *jsonValues) UnmarshalJSON(b []byte) error {
	if b[0] == '"' {
		var text string
		err := json.Unmarshal(b, &text)
		*v = jsonValues{text}
		return err
	}
	var numbers []uint16 // a []uint8 would be base64
	if json.Unmarshal(b, &numbers) == nil {
		value := make([]byte, len(numbers))
		for i, n := range numbers {
			value[i] = byte(n)
		}
		*v = jsonValues{string(value)}
		return nil
	}
	var several []jsonValues
	if err := json.Unmarshal(b, &several); err != nil {
		return err
	}
	for _, one := range several {
		*v = append(*v, one...)
	}
	return nil
}

// jsonLine is what lineOf returns for the same entry.
func jsonLine(entry map[string]jsonValues) string {
	var fields []string
	for name, values := range entry {
		switch name {
		case "__CURSOR", "__REALTIME_TIMESTAMP", "__MONOTONIC_TIMESTAMP", "__SEQNUM", "__SEQNUM_ID", "_BOOT_ID":
			continue
		}
		for _, value := range values {
			fields = append(fields, fmt.Sprintf("%s=%q", name, value))
		}
	}
	return line(entry["__CURSOR"][0], fields)
}

// processorTime is that of this process.
func processorTime(t *testing.T) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
