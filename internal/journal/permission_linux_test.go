package journal

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A file that could not be opened is tried again, though chmod changes neither
// its size nor its time.
func TestPermissionGranted(t *testing.T) {
	dir, err := os.MkdirTemp("", "journal")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	require.NoError(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "system@a.journal")
	require.NoError(t, os.WriteFile(path, fixture(t, "compact"), 0o600))
	require.NoError(t, os.Chmod(path, 0))
	if os.Geteuid() == 0 { // nobody, in this thread only
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		_, err = unix.SetfsuidRetUid(65534)
		require.NoError(t, err)
		defer func() { _, _ = unix.SetfsuidRetUid(0) }()
	}
	r := NewReader(testOptions(dir), NewState(0))
	defer r.Close()
	assert.Empty(t, readAll(r))
	assert.Len(t, r.Problems(), 1)
	assert.False(t, r.Empty(), "it is there")
	if os.Geteuid() == 0 {
		_, _ = unix.SetfsuidRetUid(0)
		require.NoError(t, os.Chmod(path, 0o644))
		_, _ = unix.SetfsuidRetUid(65534)
	} else {
		require.NoError(t, os.Chmod(path, 0o600))
	}
	r.lastScan = r.lastScan.Add(-scanInterval)
	assert.Len(t, readAll(r), 8)
	assert.Empty(t, r.Problems())
}
