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
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/journal/journaltest"
)

// A million entries are read while systemd-journal-remote writes them. Its file is renamed
// fifty times, as a rotation does, and the reader is made anew from its saved position a
// hundred times, in the middle of a file. All is compared with what journalctl -o json
// prints: every field, in order, none lost, none twice. make journal-million runs it.
func TestMillion(t *testing.T) {
	if os.Getenv("TAPIO_MILLION") == "" {
		t.Skip("takes minutes; make journal-million runs it")
	}
	const total, each, run = 1_000_000, 20_000, 9_973
	const maxLive = 32 << 20 // of the reader, with all these files open
	dir := t.TempDir()
	m := &million{r: NewReader(testOptions(dir), NewState(0)), sums: make([][sha256.Size]byte, 0, total), every: run}
	defer func() { _ = m.r.Close() }()
	var live, during int
	to := filepath.Join(dir, "remote.journal")
	for from := 0; from < total; from += each {
		written := journaltest.StartRemote(t, to, true, true, journaltest.Export(from, each, 1))
		for ended := false; !ended; {
			select {
			case err := <-written:
				require.NoError(t, err)
				ended = true
			default:
				time.Sleep(time.Millisecond) // there is no more yet
			}
			m.read(t)
			if !ended && len(m.sums) > from && len(m.sums) < from+each {
				during++
			}
		}
		require.Len(t, m.sums, from+each)
		require.NoError(t, os.Rename(to, filepath.Join(dir, fmt.Sprintf("remote@%03d.journal", from/each))))
		live = max(live, liveHeap()-cap(m.sums)*sha256.Size)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), total/each)
	require.GreaterOrEqual(t, m.restarts, total/run)
	require.Positive(t, during, "read in the middle of the writing")
	compareJSON(t, dir, m.sums)
	stats := m.r.Stats()
	assert.Zero(t, stats.LostCorrupt+stats.LostDeleted+stats.BadFields+stats.CutFields+stats.Backlog)
	assert.Less(t, live, maxLive)
	t.Logf("%d entries in %d files are the same as journalctl's; %d looks in the middle of the writing, %d restarts of the reader; largest live heap %d KiB",
		total, len(files), during, m.restarts, live>>10)
}

// million reads, and begins anew after every so many entries.
type million struct {
	r               *Reader
	sums            [][sha256.Size]byte
	every, restarts int
}

// read takes all entries that are there now.
func (m *million) read(t *testing.T) {
	t.Helper()
	for {
		m.r.lastScan = time.Time{}
		m.r.Refresh()
		again := false
		for e := m.r.Next(); e != nil && !again; {
			m.sums = append(m.sums, sha256.Sum256([]byte(lineOf(e))))
			if again = len(m.sums)%m.every == 0; !again {
				e = m.r.Next()
			}
		}
		if !again {
			return
		}
		m.r = restarted(t, m.r)
		m.restarts++
	}
}

// liveHeap is what is in use after a collection, in bytes.
func liveHeap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
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
