package journal

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/journal/journaltest"
)

// Files beyond MaxOpenFiles take turns as fast as they are read, and need not wait for the
// next listing of the directories: here no time passes at all.
func TestFilesThatWaitAreReadWithoutDelay(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "system.journal")
	journaltest.Remote(t, path, true, true, journaltest.Export(0, 3, 1))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	content = bytes.TrimRight(content, "\x00") // the rest of the 8 MiB is a hole
	size := int64(8 << 20)
	for i := range 9 {
		content[24]++ // another file id
		name := filepath.Join(dir, fmt.Sprintf("other-%d.journal", i))
		require.NoError(t, os.WriteFile(name, content, 0o600))
		require.NoError(t, os.Truncate(name, size))
	}
	clock := &fakeClock{}
	options := testOptions(dir)
	options.Now, options.MaxOpenFiles = clock.now, 2
	r := NewReader(options, NewState(0))
	defer func() { _ = r.Close() }()
	read := 0
	for range 10 {
		r.Refresh()
		for r.Next() != nil {
			read++
		}
	}
	require.Equal(t, 10*3, read)
	require.Zero(t, r.Stats().Waiting)
}
