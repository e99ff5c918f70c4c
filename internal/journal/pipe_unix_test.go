//go:build unix

package journal

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is no file, but is called like a journal, is passed over with a problem: neither
// a named pipe that nobody writes to, nor one behind a link, nor a device holds up the
// files beside it.
func TestPassesOverPipesAndDevices(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "a.journal"), 0o600))
	require.NoError(t, os.Symlink(filepath.Join(dir, "a.journal"), filepath.Join(dir, "b.journal")))
	require.NoError(t, os.Symlink("/dev/zero", filepath.Join(dir, "c.journal")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "system@a.journal"), fixture(t, "compact"), 0o600))
	r := NewReader(testOptions(dir), NewState(0))
	defer r.Close()
	for _, want := range []int{8, 0} {
		assert.Len(t, readAll(r), want)
		require.Len(t, r.Problems(), 2, "%v", r.Problems())
		assert.ErrorContains(t, r.Problems()[0], "a.journal: not a journal file but a named pipe")
		assert.ErrorContains(t, r.Problems()[1], "c.journal: not a journal file but a device")
		r.lastScan = r.lastScan.Add(-scanInterval)
	}
}

// A pipe that took the place of a file since the directory was listed is not waited for.
func TestPipeInPlaceOfAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.journal")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	r := NewReader(testOptions(filepath.Dir(path)), NewState(0))
	defer r.Close()
	assert.ErrorIs(t, r.admitOne(candidate{found: found{path: path}}, r.lastScan), ErrNotJournal)
}
