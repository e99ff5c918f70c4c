package journal

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// fixture returns a small file that systemd-journal-remote 252 wrote, with the
// unused space at its end cut off.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".journal.zst")
	if err != nil {
		t.Fatal(err)
	}
	d, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b, err = d.DecodeAll(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// damaged is a file of which some bytes are others.
type damaged struct {
	*bytes.Reader
	changes map[int64]byte
}

func (d *damaged) ReadAt(p []byte, offset int64) (int, error) {
	n, err := d.Reader.ReadAt(p, offset)
	for at, to := range d.changes {
		if at >= offset && at < offset+int64(n) {
			p[at-offset] = to
		}
	}
	return n, err
}

// Whatever bytes a file has, reading ends, in bounded memory, without a panic.
// The input is a list of changes to a real file: most random bytes are none.
func FuzzFile(f *testing.F) {
	files := [][]byte{fixture(f, "regular"), fixture(f, "compact")}
	f.Add(uint8(0), []byte{})
	f.Add(uint8(1), []byte{0, 1, 0, 99, 0, 16, 0, 0xff, 7, 8, 9, 10})
	f.Fuzz(func(t *testing.T, which uint8, changes []byte) {
		b := files[int(which)%len(files)]
		in := &damaged{Reader: bytes.NewReader(b), changes: map[int64]byte{}}
		// Objects are in the last part, after the tables: three bytes say where
		// from the end, one what.
		for ; len(changes) >= 4; changes = changes[4:] {
			at := (int(changes[0])<<16 | int(changes[1])<<8 | int(changes[2])) % len(b)
			in.changes[int64(len(b)-1-at)] = changes[3]
		}
		const maxField = 4096
		file, err := newFile(in, newPool(), &decompressor{}, maxField)
		if err != nil {
			return
		}
		var e Entry
		// Every entry has an offset of its own in the arrays, of four bytes or more.
		for range len(b) / 4 {
			err := file.next(&e)
			var bad entryError
			if err != nil && !errors.As(err, &bad) {
				return
			}
			checkMemory(t, file, &e, maxField)
		}
		t.Fatalf("%d entries in %d bytes, and no end", len(b)/4, len(b))
	})
}

// checkMemory checks everything that reading a file can make grow.
func checkMemory(t *testing.T, f *file, e *Entry, maxField int) {
	t.Helper()
	values := 0
	for _, f := range e.Fields {
		values += len(f.Value)
		if len(f.Value) > maxField || f.Name == "" || len(f.Name) > maxNameLen {
			t.Fatalf("%q with %d bytes", f.Name, len(f.Value))
		}
	}
	for _, c := range []struct {
		what       string
		is, atMost int
	}{
		{"fields of an entry", len(e.Fields), maxEntryFields},
		{"bytes of an entry", values, max(maxEntry, maxField)},
		{"windows", len(f.pool.windows), maxWindows},
		{"buffer", cap(f.pool.scratch), max(maxLZ4, maxField+maxNameLen+1+compressedMore)},
		{"cached fields", len(f.cached), maxCached},
		{"bytes of cached fields", f.cachedBytes, maxCachedBytes + maxCachedValue + maxNameLen},
		{"bytes of a zstd field", cap(f.decode.whole), 2 * maxLZ4},
		{"bytes of another field", f.decode.out.Cap(), 2*maxLZ4 + maxField},
	} {
		if c.is > c.atMost {
			t.Fatalf("%s: %d, more than %d", c.what, c.is, c.atMost)
		}
	}
}

// Payloads alone reach the decoders more often.
func FuzzDecompress(f *testing.F) {
	text := bytes.Repeat([]byte("MESSAGE=some text that repeats "), 40)
	next := map[uint8][]byte{compressedZSTD: compressZSTD(text), compressedLZ4: compressLZ4(text), compressedXZ: compressXZ(text)}
	for flag, payload := range next {
		f.Add(flag, payload)
	}
	d := &decompressor{}
	f.Fuzz(func(t *testing.T, flags uint8, payload []byte) {
		out, cut, err := d.read(flags&7, payload, 1000)
		if err == nil && (len(out) > 1000 || cut && len(out) != 1000) {
			t.Fatalf("%d bytes, cut %t", len(out), cut)
		}
		for flag, good := range next { // whatever came before
			if out, _, err := d.read(flag, good, len(text)); err != nil || !bytes.Equal(out, text) {
				t.Fatalf("after it, %d bytes, %v", len(out), err)
			}
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	s := NewState(1)
	s.files[ID{1}] = position{Handed: 2, Entries: 3}
	b, err := s.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, []byte{1})
	f.Fuzz(func(_ *testing.T, state, done []byte) {
		if s, err := DecodeState(state, done); err == nil {
			_, _ = s.Encode()
		}
	})
}
