package journal

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/journal/journaltest"
)

// withFields is one entry in export format with some more fields.
func withFields(fields ...string) []byte {
	text := string(journaltest.Export(1, 1, 1))
	return []byte(strings.TrimSuffix(text, "\n") + strings.Join(fields, "\n") + "\n\n")
}

// noise is a text of n characters that no algorithm makes smaller than half of it.
func noise(n int) string {
	b := make([]byte, n/2)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	return hex.EncodeToString(b)
}

// A field is cut, however long its compressed form is; only with lz4 not beyond
// 8 MiB, where it is left out and counted.
func TestCutsHugeFields(t *testing.T) {
	for name, c := range map[string]struct {
		flag uint8
		by   func([]byte) []byte
		size int
		left bool
	}{
		"zstd":           {size: 10 << 20},
		"xz":             {compressedXZ, compressXZ, 3 << 20, false},
		"lz4":            {compressedLZ4, compressLZ4, 7 << 20, false},
		"lz4 over 8 MiB": {compressedLZ4, compressLZ4, 9 << 20, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "system.journal")
			value := noise(c.size)
			if c.flag == compressedLZ4 { // which does not make noise smaller
				value = value[:c.size*3/4] + strings.Repeat("x", c.size/4)
			}
			journaltest.Remote(t, path, true, c.by == nil, withFields("HUGE="+value))
			if c.by != nil {
				require.Equal(t, 1, recompress(t, path, c.flag, c.by))
			}
			options := testOptions(dir)
			options.MaxFieldSize = 64 << 10
			r := NewReader(options, NewState(0))
			defer r.Close()
			r.Refresh()
			e := r.Next()
			require.NotNil(t, e)
			if c.left {
				assert.Empty(t, e.Get("HUGE"))
				assert.Equal(t, uint64(1), r.Stats().BadFields)
				return
			}
			assert.Equal(t, value[:64<<10], e.Get("HUGE"))
			assert.Equal(t, uint64(1), r.Stats().CutFields)
			assert.Zero(t, r.Stats().BadFields)
		})
	}
}

// What follows a field that was cut is read as well, whole or cut.
func TestGoesOnAfterCutFields(t *testing.T) {
	for name, c := range map[string]struct {
		flag uint8
		by   func([]byte) []byte
	}{"zstd": {}, "lz4": {compressedLZ4, compressLZ4}, "xz": {compressedXZ, compressXZ}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "a.journal")
			sizes := []int{10, 100_000, 1000, 200_000, 100_000, 2000, 10}
			var entries []byte
			for i, n := range sizes {
				entries = append(entries, withFields(fmt.Sprintf("TEXT=%d%s", i, strings.Repeat("x", n-1)))...)
			}
			journaltest.Remote(t, path, true, c.by == nil, entries)
			if c.by != nil {
				recompress(t, path, c.flag, c.by)
			}
			options := testOptions(filepath.Dir(path))
			options.MaxFieldSize = 64 << 10
			r := NewReader(options, NewState(0))
			defer r.Close()
			read := make(chan []int, 1)
			go func() {
				var got []int
				r.Refresh()
				for e := r.Next(); e != nil; e = r.Next() {
					got = append(got, len(e.Get("TEXT")))
				}
				read <- got
			}()
			select {
			case got := <-read:
				assert.Equal(t, []int{10, 64 << 10, 1000, 64 << 10, 64 << 10, 2000, 10}, got)
				assert.Equal(t, uint64(3), r.Stats().CutFields)
				assert.Zero(t, r.Stats().BadFields)
			case <-time.After(time.Minute):
				t.Fatal("the reader stands still")
			}
		})
	}
}

// The values of an entry together are bounded too, and files share one buffer for
// what lies in more than one piece of them.
func TestBoundsEntries(t *testing.T) {
	dir := t.TempDir()
	var fields []string
	for i := range 100 {
		fields = append(fields, fmt.Sprintf("F%d=%d%s", i, i, strings.Repeat("x", 50_000)))
	}
	for i := range 3 {
		path := filepath.Join(dir, machineFolder, fmt.Sprintf("system@%d.journal", i))
		journaltest.Remote(t, path, true, false, withFields(fields...))
	}
	options := testOptions(dir)
	options.MaxFieldSize = 64 << 10
	r := NewReader(options, NewState(0))
	defer r.Close()
	r.Refresh()
	for e, n := r.Next(), 0; e != nil; e, n = r.Next(), n+1 {
		size := 0
		for _, f := range e.Fields {
			size += len(f.Value)
		}
		assert.Equal(t, maxEntry, size)
		assert.NotEmpty(t, e.Get("MESSAGE"))
	}
	assert.InDelta(t, 3*80, r.Stats().CutFields, 3*2)
	assert.LessOrEqual(t, cap(r.pool.scratch), 64<<10+compressedMore+maxNameLen+1)
}

// What was cut off is not kept in memory either.
func TestCutFieldsAreFreed(t *testing.T) {
	dir := t.TempDir()
	const files = 20
	var fields []string
	for i := range 100 {
		fields = append(fields, fmt.Sprintf("F%d=%050000d", i, i))
	}
	for i := range files {
		path := filepath.Join(dir, machineFolder, fmt.Sprintf("system@%d.journal", i))
		journaltest.Remote(t, path, true, true, withFields(fields...))
	}
	options := testOptions(dir)
	options.MaxFieldSize = 64 << 10
	before := heapInUse()
	r := NewReader(options, NewState(0))
	defer r.Close()
	r.Refresh()
	require.Len(t, r.open, files)
	each := (heapInUse() - before) / files
	t.Logf("%d KiB for each of %d open files, with what they share", each>>10, files)
	assert.Less(t, each, int64(2*maxEntry), "of 5 MB")
	runtime.KeepAlive(r)
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
