package journal

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/journal/journaltest"
)

// machineFolder is the folder of one machine, by its id, as journalctl wants it.
const machineFolder = "0123456789abcdef0123456789abcd01"

// equalLines compares entry by entry, and shows only the first that differs.
func equalLines(t testing.TB, want, got []string) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			t.Logf("%d of %d entries; the one that is missing here is at %d", len(got), len(want), slices.Index(got, want[i]))
			require.Equal(t, want[i], got[i], "entry %d", i)
		}
	}
	require.Len(t, got, len(want))
}

// What journalctl reads is what we read, in the same order, of every form of file.
func TestSameAsJournalctl(t *testing.T) {
	for name, c := range map[string]struct {
		compact, compress bool
		flag              uint8
		by                func([]byte) []byte
	}{
		"regular zstd":       {compress: true},
		"compact zstd":       {compact: true, compress: true},
		"compact plain":      {compact: true},
		"regular lz4":        {flag: compressedLZ4, by: compressLZ4},
		"regular xz":         {flag: compressedXZ, by: compressXZ},
		"compact lz4":        {compact: true, flag: compressedLZ4, by: compressLZ4},
		"compact xz":         {compact: true, flag: compressedXZ, by: compressXZ},
		"compact zstd by us": {compact: true, flag: compressedZSTD, by: compressZSTD},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "remote-x.journal")
			journaltest.Remote(t, file, c.compact, c.compress, journaltest.Export(0, 3000, 1))
			if c.by != nil {
				assert.Equal(t, 60, recompress(t, file, c.flag, c.by), "fields that were compressed")
			}
			want := askJournalctl(t, "-D", dir)
			require.Len(t, want, 3000)

			r := NewReader(testOptions(dir), NewState(0))
			defer r.Close()
			equalLines(t, want, readAll(r))
			stats := r.Stats()
			assert.Zero(t, stats.LostCorrupt+stats.LostDeleted+stats.BadFields+stats.CutFields+stats.Copies+stats.Backlog)
			assert.Empty(t, r.Problems())
		})
	}
}

// The journals of several machines are merged by time, as journalctl --merge does.
func TestSeveralMachines(t *testing.T) {
	dir := t.TempDir()
	for m := range 3 {
		machine := filepath.Join(dir, fmt.Sprintf("0123456789abcdef0123456789abcd%02x", m))
		journaltest.Remote(t, filepath.Join(machine, "system.journal"), m%2 == 0, true, journaltest.Export(m*500, 1000, byte(m)))
	}
	want := askJournalctl(t, "--merge", "-D", dir)
	require.Len(t, want, 3000)
	r := NewReader(testOptions(dir), NewState(0))
	defer r.Close()
	equalLines(t, want, readAll(r))
}

// Any number of restarts, also in the middle of a file, loses and doubles nothing.
func TestGoesOnAfterRestarts(t *testing.T) {
	dir := t.TempDir()
	journaltest.Remote(t, filepath.Join(dir, machineFolder, "system.journal"), true, true, journaltest.Export(0, 5000, 1))
	want := askJournalctl(t, "-D", dir)
	state, done := []byte(nil), []byte(nil)
	var got []string
	for len(got) < len(want) {
		s := NewState(0)
		if state != nil {
			var err error
			s, err = DecodeState(state, done)
			require.NoError(t, err)
		}
		r := NewReader(testOptions(dir), s)
		r.Refresh()
		for range 701 {
			e := r.Next()
			if e == nil {
				break
			}
			got = append(got, lineOf(e))
		}
		s = r.State()
		if d := s.EncodeDone(); d != nil {
			done = d
		}
		var err error
		state, err = s.Encode()
		require.NoError(t, err)
		require.NoError(t, r.Close())
	}
	equalLines(t, want, got)
}

// A file that was cut off gives what is left of it; journalctl refuses it.
func TestTruncated(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "system.journal")
	journaltest.Remote(t, path, true, true, journaltest.Export(0, 3000, 1))
	want := askJournalctl(t, "-D", dir)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	h, err := parseHeader(b)
	require.NoError(t, err)
	first := h.entryArray // what is before it are tables
	for _, size := range []uint64{h.tailObject, first + (h.tailObject-first)/2, first + (h.tailObject-first)/4 + 3, first, headerSize, 100, 0} {
		cut := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(cut, "system.journal"), b[:size], 0o600))
		clock := &fakeClock{}
		options := testOptions(cut)
		options.Now = clock.now
		r := NewReader(options, NewState(0))
		got := readAll(r)
		clock.advance(2 * patience)
		got = append(got, readAll(r)...)
		stats := r.Stats()
		require.NoError(t, r.Close())
		equalLines(t, want[:len(got)], got)
		if size > headerSize {
			assert.Equal(t, uint64(3000), uint64(len(got))+stats.LostCorrupt, "read and lost are all, at %d bytes", size)
		}
		if size == 100 {
			assert.NotEmpty(t, r.Problems())
		}
		t.Logf("%d of %d bytes: %d entries read, %d lost", size, len(b), len(got), stats.LostCorrupt)
	}
}

// A file that is being copied is read to its end when it is complete.
func TestCopiedWhileRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "system.journal")
	journaltest.Remote(t, path, true, true, journaltest.Export(0, 3000, 1))
	want := askJournalctl(t, "-D", dir)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	copied := t.TempDir()
	clock := &fakeClock{}
	options := testOptions(copied)
	options.Now = clock.now
	r := NewReader(options, NewState(0))
	defer r.Close()
	out, err := os.Create(filepath.Join(copied, "system.journal"))
	require.NoError(t, err)
	defer out.Close()
	var got []string
	for len(b) > 0 {
		n := min(len(b), 100_000)
		_, err := out.Write(b[:n])
		require.NoError(t, err)
		b = b[n:]
		for range 2 { // more often than it grows
			clock.advance(patience * 9 / 20)
			got = append(got, readAll(r)...)
		}
	}
	equalLines(t, want, got)
	assert.Zero(t, r.Stats().LostCorrupt)
}

// One byte that is wrong costs an entry or a field, never the rest, and never
// what is right.
func TestCorrupt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "system.journal")
	journaltest.Remote(t, path, true, true, journaltest.Export(0, 300, 1))
	clean := map[string]bool{}
	for _, l := range askJournalctl(t, "-D", dir) {
		clean[l] = true
	}
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	h, err := parseHeader(b)
	require.NoError(t, err)
	objects := map[uint8][]uint64{}
	for at := h.headerSize; at <= h.tailObject; {
		o := parseObject(b[at:])
		objects[o.kind] = append(objects[o.kind], at)
		at += (o.size + 7) &^ 7
	}
	damage := func(kind uint8, nth int, f func(at uint64)) { f(objects[kind][nth]) }
	damage(objectEntry, 10, func(at uint64) { b[at] = 77 })         // type
	damage(objectEntry, 20, func(at uint64) { b[at+8+7] = 0x7f })   // size
	damage(objectEntry, 30, func(at uint64) { b[at+64+1] ^= 0xff }) // offset of a field
	damage(objectEntry, 40, func(at uint64) { b[at+16] = 0 })       // sequence number
	damage(objectData, 200, func(at uint64) { b[at] = 0 })
	require.NoError(t, os.WriteFile(path, b, 0o600))

	r := NewReader(testOptions(dir), NewState(0))
	defer r.Close()
	got := readAll(r)
	same := 0
	for _, l := range got {
		if clean[l] {
			same++
		}
	}
	stats := r.Stats()
	assert.Equal(t, uint64(300), uint64(len(got))+stats.LostCorrupt)
	assert.InDelta(t, 3, stats.LostCorrupt, 1)
	assert.GreaterOrEqual(t, stats.BadFields, uint64(1))
	assert.GreaterOrEqual(t, same, 290)
	t.Logf("%d entries, %d of them whole, lost %d entries and %d fields", len(got), same, stats.LostCorrupt, stats.BadFields)
}

// Long values are cut, in all forms, without reading all of them.
func TestCutsLongFields(t *testing.T) {
	for name, by := range map[string]func([]byte) []byte{"plain": nil, "zstd": compressZSTD, "lz4": compressLZ4, "xz": compressXZ} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "system.journal")
			journaltest.Remote(t, path, true, false, journaltest.Export(0, 100, 1))
			if by != nil {
				flag := map[string]uint8{"zstd": compressedZSTD, "lz4": compressedLZ4, "xz": compressedXZ}[name]
				require.Equal(t, 2, recompress(t, path, flag, by))
			}
			options := testOptions(dir)
			options.MaxFieldSize = 1000
			r := NewReader(options, NewState(0))
			defer r.Close()
			r.Refresh()
			cut := 0
			for e := r.Next(); e != nil; e = r.Next() {
				for _, f := range e.Fields {
					if f.Truncated {
						assert.Equal(t, "LONG", f.Name)
						assert.Len(t, f.Value, 1000)
						cut++
					}
				}
			}
			assert.Equal(t, 2, cut)
			assert.Equal(t, uint64(2), r.Stats().CutFields)
			assert.Zero(t, r.Stats().BadFields)
		})
	}
}

// At the end begins what is written later, also in a directory that comes later.
func TestStartAtEnd(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "later")
	since := uint64(journaltest.FirstTime + 1_500_000)
	r := NewReader(testOptions(dir), NewState(since))
	defer r.Close()
	assert.Empty(t, readAll(r))
	assert.True(t, r.Empty())
	assert.Empty(t, r.Problems(), "a directory that is not there yet is no problem")

	journaltest.Remote(t, filepath.Join(dir, machineFolder, "system.journal"), true, true, journaltest.Export(0, 2000, 1))
	r.lastScan = r.lastScan.Add(-scanInterval)
	got := readAll(r)
	equalLines(t, askJournalctl(t, "-D", dir)[1500:], got)

	// A file that comes into a directory that was read is new, whatever its time.
	journaltest.Remote(t, filepath.Join(dir, machineFolder, "user-1.journal"), true, true, journaltest.Export(0, 10, 1))
	r.lastScan = r.lastScan.Add(-scanInterval)
	assert.Len(t, readAll(r), 10)
}

// What journald wrote to /run and then copied to /var is read once.
func TestFlushedFromRunToVar(t *testing.T) {
	run, other := t.TempDir(), t.TempDir()
	journaltest.Remote(t, filepath.Join(run, machineFolder, "system.journal"), true, true, journaltest.Export(0, 500, 1))
	state := NewState(0)
	r := NewReader(testOptions(other, run), state)
	assert.Len(t, readAll(r), 500)

	// journald numbers the copies anew, then goes on in the same file.
	journaltest.Remote(t, filepath.Join(other, machineFolder, "system.journal"), true, true, journaltest.Export(0, 800, 1))
	require.NoError(t, os.RemoveAll(filepath.Join(run, machineFolder)))
	b, err := r.State().Encode()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	state, err = DecodeState(b, nil)
	require.NoError(t, err)
	r = NewReader(testOptions(other, run), state)
	defer r.Close()
	assert.Len(t, readAll(r), 300)
	assert.Equal(t, uint64(500), r.Stats().Copies)
}

// The machines of two directories may share a boot, as containers do with their host,
// and their journals may lie in no folder: they are no copies of each other.
func TestMachinesOfOneBoot(t *testing.T) {
	one, other := t.TempDir(), t.TempDir()
	journaltest.Remote(t, filepath.Join(one, "a.journal"), true, true, journaltest.Export(0, 100, 1))
	r := NewReader(testOptions(one, other), NewState(0))
	defer func() { _ = r.Close() }()
	require.Len(t, readAll(r), 100)

	entries := bytes.ReplaceAll(journaltest.Export(0, 100, 1), []byte("_MACHINE_ID=01"), []byte("_MACHINE_ID=fe"))
	journaltest.Remote(t, filepath.Join(other, "b.journal"), true, true, entries)
	r = restarted(t, r)
	equalLines(t, askJournalctl(t, "--file", filepath.Join(other, "b.journal")), readAll(r))
	assert.Zero(t, r.Stats().Copies)
}

// What is added later is wanted also when the clock of who adds it is behind, and what
// was there is not, also when it was not looked at yet.
func TestClockBehindTheStart(t *testing.T) {
	for name, c := range map[string]struct {
		open    int
		restart bool
	}{"all files open": {open: 8}, "one file open": {open: 1}, "one file open, restarted": {1, true}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			paths := []string{filepath.Join(dir, "a.journal"), filepath.Join(dir, "b.journal"), filepath.Join(dir, "c.journal")}
			for i, p := range paths {
				journaltest.Remote(t, p, true, true, journaltest.Export(0, 100, byte(i)))
			}
			clock := &fakeClock{}
			options := testOptions(dir)
			options.MaxOpenFiles, options.Now = c.open, clock.now
			r := NewReader(options, NewState(journaltest.FirstTime+3_600_000_000))
			defer func() { _ = r.Close() }()
			require.Empty(t, readAll(r))
			if c.restart {
				r = restarted(t, r)
				require.Empty(t, readAll(r))
			}

			for i, p := range paths {
				journaltest.Remote(t, p, true, true, journaltest.Export(100, 50, byte(i)))
			}
			var got int
			for range len(paths) {
				clock.advance(scanInterval)
				got += len(readAll(r))
			}
			assert.Equal(t, 150, got)
			assert.Zero(t, r.Stats().Waiting)
		})
	}
}

// So is what it copies while the file in /run is being read: both are there at once.
func TestFlushedWhileRead(t *testing.T) {
	run, other := t.TempDir(), t.TempDir()
	journaltest.Remote(t, filepath.Join(run, machineFolder, "system.journal"), true, true, journaltest.Export(0, 500, 1))
	journaltest.Remote(t, filepath.Join(other, machineFolder, "system.journal"), true, true, journaltest.Export(0, 800, 1))
	r := NewReader(testOptions(other, run), NewState(0))
	defer func() { _ = r.Close() }()
	r.Refresh()
	var got []string
	for e := r.Next(); e != nil; e = r.Next() {
		got = append(got, e.Get("MESSAGE"))
		if len(got) == 250 {
			r = restarted(t, r)
			r.Refresh()
		}
	}
	var want []string
	for i := range 800 {
		want = append(want, fmt.Sprintf("request %d of client 10.0.%d.%d took %d ms", i, i%256, i%199, i*7919%1000))
	}
	equalLines(t, want, got)
}

// Of more files than may be open at once, all are read and followed, though none is
// ever closed by its writer, as those of other machines.
func TestFilesTakeTurns(t *testing.T) {
	dir := t.TempDir()
	const files, each = 5, 100
	clock := &fakeClock{}
	options := testOptions(dir)
	options.MaxOpenFiles, options.Now = 2, clock.now
	r := NewReader(options, NewState(0))
	defer func() { _ = r.Close() }()
	var got []string
	for round := range 3 {
		for f := range files {
			path := filepath.Join(dir, fmt.Sprintf("remote-%d.journal", f))
			journaltest.Remote(t, path, true, true, journaltest.Export(round*each, each, byte(f)))
		}
		for scan := range 3 {
			clock.advance(scanInterval)
			got = append(got, readAll(r)...)
			assert.LessOrEqual(t, r.Stats().Open, 2)
			if scan == 0 {
				assert.Positive(t, r.Stats().Waiting)
				r = restarted(t, r)
			}
		}
		assert.Zero(t, r.Stats().Waiting)
		want := askJournalctl(t, "--merge", "-D", dir)
		assert.Len(t, want, (round+1)*files*each)
		require.ElementsMatch(t, want, got)
	}
	assert.Zero(t, r.Stats().LostDeleted+r.Stats().LostCorrupt)
}
