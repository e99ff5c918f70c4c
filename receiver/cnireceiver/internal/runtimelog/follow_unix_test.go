//go:build unix

package runtimelog

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFollowPipe: a named pipe in the place of a log is told, and not waited for.
func TestFollowPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "syslog")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	f := Follow(path)
	defer f.Close()
	require.ErrorContains(t, f.Read(func(string) {}), path+" is not a regular file")
}
