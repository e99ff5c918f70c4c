//go:build linux

package journal

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/journal/journaltest"
)

// threeFiles writes a thousand entries into each of three files.
func threeFiles(t *testing.T) (dir string, paths [3]string) {
	dir = t.TempDir()
	for i := range paths {
		paths[i] = filepath.Join(dir, machineFolder, fmt.Sprintf("system@%d.journal", i))
		journaltest.Remote(t, paths[i], true, true, journaltest.Export(i*1000, 1000, 1))
	}
	return dir, paths
}

// scanAgain reads all that is there when the directories are listed anew.
func scanAgain(r *Reader) int {
	r.lastScan = r.lastScan.Add(-scanInterval)
	return len(readAll(r))
}

// What was not read of files that were deleted while the reader was away is
// counted once, and their positions are forgotten.
func TestVacuumWhileAway(t *testing.T) {
	dir, paths := threeFiles(t)
	r := NewReader(testOptions(dir), NewState(0))
	r.Refresh()
	for range 100 {
		require.NotNil(t, r.Next())
	}
	for _, p := range paths[:2] {
		require.NoError(t, os.Remove(p))
	}
	r = restarted(t, r)
	defer r.Close()
	n := len(readAll(r))
	n += scanAgain(r) + scanAgain(r)
	assert.Equal(t, 1000, n)
	assert.Equal(t, uint64(1900), r.Stats().LostDeleted, "900 and 1000")
	assert.Len(t, r.State().files, 1, "of the file that is there")
}

// So is what was deleted while it waited because too many files were open.
func TestVacuumOfWaitingFiles(t *testing.T) {
	dir, paths := threeFiles(t)
	options := testOptions(dir)
	options.MaxOpenFiles = 1
	r := NewReader(options, NewState(0))
	defer r.Close()
	r.Refresh()
	require.Equal(t, 2, r.Stats().Waiting)
	require.NotNil(t, r.Next())
	require.NoError(t, os.Remove(paths[1]))
	n := 1
	for range 4 {
		n += scanAgain(r)
	}
	assert.Equal(t, 2000, n)
	assert.Equal(t, uint64(1000), r.Stats().LostDeleted)
	assert.Zero(t, r.Stats().Waiting)
}

// And what was added to one that had been read and was closed to make room.
func TestVacuumOfParkedFiles(t *testing.T) {
	dir, paths := threeFiles(t)
	options := testOptions(dir)
	options.MaxOpenFiles = 1
	r := NewReader(options, NewState(0))
	defer r.Close()
	n := 0
	for range 3 {
		n += scanAgain(r)
	}
	require.Equal(t, 3000, n)
	journaltest.Remote(t, paths[0], true, true, journaltest.Export(3000, 10, 1))
	journaltest.Remote(t, paths[1], true, true, journaltest.Export(3000, 20, 1))
	r.lastScan = r.lastScan.Add(-scanInterval)
	r.Refresh() // opens the one that was closed first, and sees the other
	require.Equal(t, 1, r.Stats().Waiting)
	require.NoError(t, os.Remove(paths[1]))
	n = 0
	for range 3 {
		n += scanAgain(r)
	}
	assert.Equal(t, 10, n)
	assert.Equal(t, uint64(20), r.Stats().LostDeleted)
}

// A folder that is not there, as one that is not mounted yet, loses nothing:
// what was read in it is not read again when it comes back.
func TestFolderComesLater(t *testing.T) {
	dir, _ := threeFiles(t)
	r := NewReader(testOptions(dir), NewState(0))
	require.Len(t, readAll(r), 3000)
	away := filepath.Join(t.TempDir(), "away")
	require.NoError(t, os.Rename(filepath.Join(dir, machineFolder), away))
	r = restarted(t, r)
	defer r.Close()
	assert.Zero(t, len(readAll(r))+scanAgain(r)+scanAgain(r))
	require.NoError(t, os.Rename(away, filepath.Join(dir, machineFolder)))
	assert.Zero(t, scanAgain(r))
	assert.Zero(t, r.Stats().LostDeleted)
}

// A number of entries that cannot be is told neither as lost nor as the backlog.
func TestHugeEntryCount(t *testing.T) {
	dir := t.TempDir()
	b := fixture(t, "compact")
	binary.LittleEndian.PutUint64(b[152:], 1<<63+5)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.journal"), b, 0o600))
	clock := &fakeClock{}
	options := testOptions(dir)
	options.Now = clock.now
	r := NewReader(options, NewState(0))
	defer r.Close()
	assert.Len(t, readAll(r), 8)
	assert.Zero(t, r.Stats().Backlog)
	clock.advance(2 * patience)
	assert.Empty(t, readAll(r))
	assert.LessOrEqual(t, r.Stats().LostCorrupt, uint64(4), "the free places of the last array")
}
