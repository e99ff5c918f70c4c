package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/journal/journaltest"
)

// written is a journal file as its writer left it.
type written struct {
	content []byte
	header  header
	want    []string // what journalctl reads of it
}

func writeJournal(t *testing.T) written {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "system.journal")
	journaltest.Remote(t, path, true, true, journaltest.Export(0, 3000, 1))
	w := written{want: askJournalctl(t, "-D", dir)}
	var err error
	w.content, err = os.ReadFile(path)
	require.NoError(t, err)
	w.header, err = parseHeader(w.content)
	require.NoError(t, err)
	return w
}

// half is the file without its end.
func (w written) half() []byte {
	return w.content[:w.header.entryArray+(w.header.tailObject-w.header.entryArray)/2]
}

// unlinked is the file with all of its bytes, in which the second entry array is not to be found.
func (w written) unlinked() []byte {
	b := append([]byte(nil), w.content...)
	clear(b[w.header.entryArray+objectHeaderSize:][:8])
	return b
}

func put(t *testing.T, dir, name string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
}

func texts(damages []Damage) (out []string) {
	for _, d := range damages {
		d.Path = filepath.Base(d.Path)
		out = append(out, d.String())
	}
	return out
}

// A damaged copy of a file does not hide the one that is whole, whichever comes first.
func TestDamagedCopyBesideTheWholeFile(t *testing.T) {
	w := writeJournal(t)
	for name, c := range map[string]struct {
		damaged []byte
		told    []string
	}{
		"cut off":  {damaged: w.half()}, // what is missing is seen before it is opened
		"unlinked": {w.unlinked(), []string{"a.journal: is damaged; what follows is read from another copy of the file"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, clock := t.TempDir(), &fakeClock{}
			put(t, dir, "a.journal", c.damaged)
			put(t, dir, "b.journal", w.content)
			options := testOptions(dir)
			options.Now = clock.now
			r := NewReader(options, NewState(0))
			defer func() { _ = r.Close() }()
			var got []string
			var damages []Damage
			for range 4 {
				got = append(got, readAll(r)...)
				damages = append(damages, r.Damages()...)
				r = restarted(t, r)
				got = append(got, readAll(r)...)
				clock.advance(2 * patience)
				got = append(got, readAll(r)...)
				damages = append(damages, r.Damages()...)
			}
			equalLines(t, w.want, got)
			assert.Equal(t, c.told, texts(damages))
			assert.Zero(t, r.Stats().LostCorrupt)
		})
	}
}

// What is lost with a damaged file is told once, and comes when a whole copy does.
func TestWholeCopyComesLater(t *testing.T) {
	w := writeJournal(t)
	dir, clock := t.TempDir(), &fakeClock{}
	put(t, dir, "cut.journal", w.half())
	options := testOptions(dir)
	options.Now = clock.now
	r := NewReader(options, NewState(0))
	defer func() { _ = r.Close() }()
	got := readAll(r)
	assert.Empty(t, r.Damages(), "it may still be on its way here")
	clock.advance(2 * patience)
	got = append(got, readAll(r)...)
	read := len(got)
	require.Positive(t, read)
	require.Less(t, read, 3000)
	damages := r.Damages()
	require.Len(t, damages, 1)
	assert.Equal(t, Damage{Path: filepath.Join(dir, "cut.journal"), EndsEarly: true, Lost: uint64(3000 - read)}, damages[0])
	assert.Equal(t, uint64(3000-read), r.Stats().LostCorrupt)

	r = restarted(t, r)
	for range 3 {
		clock.advance(2 * patience)
		require.Empty(t, readAll(r))
	}
	assert.Empty(t, r.Damages(), "told before the restart")
	assert.Zero(t, r.Stats().LostCorrupt)

	put(t, dir, "whole.journal", w.content)
	clock.advance(scanInterval)
	got = append(got, readAll(r)...)
	equalLines(t, w.want, got)
	assert.Empty(t, r.Damages())
	require.NoError(t, os.Remove(filepath.Join(dir, "cut.journal")))
	for range 3 {
		clock.advance(scanInterval)
		assert.Empty(t, readAll(r))
	}
	assert.Zero(t, r.Stats().LostDeleted+r.Stats().LostCorrupt)
}

// A file that grows again after it was given up is read on.
func TestCopyThatGoesOn(t *testing.T) {
	w := writeJournal(t)
	dir, clock := t.TempDir(), &fakeClock{}
	put(t, dir, "system@1.journal", w.half())
	options := testOptions(dir)
	options.Now = clock.now
	r := NewReader(options, NewState(0))
	defer func() { _ = r.Close() }()
	got := readAll(r)
	clock.advance(2 * patience)
	got = append(got, readAll(r)...)
	require.Len(t, r.Damages(), 1)

	f, err := os.OpenFile(filepath.Join(dir, "system@1.journal"), os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.Write(w.content[len(w.half()):])
	require.NoError(t, err)
	require.NoError(t, f.Close())
	clock.advance(scanInterval)
	equalLines(t, w.want, append(got, readAll(r)...))
}

// Entries that are damaged are told once, together.
func TestDamagedEntriesAreTold(t *testing.T) {
	w := writeJournal(t)
	dir := t.TempDir()
	var entries []uint64
	for at := w.header.headerSize; at <= w.header.tailObject; {
		o := parseObject(w.content[at:])
		if o.kind == objectEntry {
			entries = append(entries, at)
		}
		at += (o.size + 7) &^ 7
	}
	for _, nth := range []int{10, 20, 30} {
		w.content[entries[nth]] = 77 // no type of an object
	}
	put(t, dir, "a.journal", w.content)
	r := NewReader(testOptions(dir), NewState(0))
	defer func() { _ = r.Close() }()
	assert.Len(t, readAll(r), 2997)
	readAll(r)
	assert.Equal(t, []string{"a.journal: is damaged, 3 entries lost"}, texts(r.Damages()))
	readAll(r)
	assert.Empty(t, r.Damages())
}

// A header of which all numbers are damaged does not claim more lost entries than the file
// has room for.
func TestDamagedHeaderLosesWhatTheFileHolds(t *testing.T) {
	w := writeJournal(t)
	for name, damage := range map[string]func(b []byte){
		"all numbers": func(b []byte) { copy(b[88:208], bytes.Repeat([]byte{0x5a, 0x13, 0x77}, 40)) },
		"ones":        func(b []byte) { copy(b[88:208], bytes.Repeat([]byte{0xff}, 120)) },
		"size and entries": func(b []byte) {
			copy(b[96:104], "\x00\x00\x00\x00\x00\x00\x00\x70")
			copy(b[152:176], bytes.Repeat([]byte{0x70}, 24))
			clear(b[176:184])
		},
		"entries and numbers": func(b []byte) { copy(b[152:168], bytes.Repeat([]byte{0x70}, 16)); clear(b[168:184]) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, clock := t.TempDir(), &fakeClock{}
			content := append([]byte(nil), w.content...)
			damage(content)
			put(t, dir, "a.journal", content)
			options := testOptions(dir)
			options.Now = clock.now
			r := NewReader(options, NewState(0))
			defer func() { _ = r.Close() }()
			var backlog uint64
			for range 4 {
				r.Refresh()
				backlog = max(backlog, r.Stats().Backlog)
				for r.Next() != nil {
				}
				clock.advance(patience + scanInterval)
			}
			room := uint64(len(content)) / (entryHeaderSize + 4)
			assert.LessOrEqual(t, r.Stats().LostCorrupt+r.Stats().LostDeleted, room)
			assert.LessOrEqual(t, backlog, room)
		})
	}
}
