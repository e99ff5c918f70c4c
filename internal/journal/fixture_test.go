package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/journal/journaltest"
)

// The files in testdata need no program to be read. TAPIO_UPDATE=1 writes them
// anew, with what journalctl makes of them.
func TestFixtures(t *testing.T) {
	for name, compact := range map[string]bool{"regular": false, "compact": true} {
		t.Run(name, func(t *testing.T) {
			if os.Getenv("TAPIO_UPDATE") != "" {
				updateFixture(t, name, compact)
			}
			want, err := os.ReadFile("testdata/" + name + ".txt")
			require.NoError(t, err)
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "a.journal"), fixture(t, name), 0o600))
			r := NewReader(testOptions(dir), NewState(0))
			defer r.Close()
			assert.Equal(t, string(want), strings.Join(readAll(r), "\n\n")+"\n")
		})
	}
}

func updateFixture(t *testing.T, name string, compact bool) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "a.journal")
	journaltest.Remote(t, path, compact, true, journaltest.Export(0, 8, 1))
	lines := askJournalctl(t, "-D", dir)
	require.NoError(t, os.WriteFile("testdata/"+name+".txt", []byte(strings.Join(lines, "\n\n")+"\n"), 0o600))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	h, err := parseHeader(b)
	require.NoError(t, err)
	// The id of the machine that made it is nobody's business.
	copy(b[40:56], bytes.Repeat([]byte{0xab}, 16))
	b = b[:h.tailObject+(parseObject(b[h.tailObject:]).size+7)&^7]
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("testdata/"+name+".journal.zst", w.EncodeAll(b, nil), 0o600))
}
