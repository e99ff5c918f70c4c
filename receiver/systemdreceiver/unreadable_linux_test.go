package systemdreceiver

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/journal/journaltest"
)

// asNobody runs f as a user without rights to files; root may read all.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	const nobody = 65534
	if os.Geteuid() == 0 {
		runtime.LockOSThread() // the rights to files are those of a thread
		defer runtime.UnlockOSThread()
		require.NoError(t, unix.Setfsuid(nobody))
		defer func() { assert.NoError(t, unix.Setfsuid(0)) }()
	}
	f()
}

// What the collector may not read of the journal is said when systemd is seen.
func TestJournalThatMayNotBeRead(t *testing.T) {
	base, err := os.MkdirTemp("", "tapio-journal-")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(base)) })
	require.NoError(t, os.Chmod(base, 0o755))
	open, shut := filepath.Join(base, "open"), filepath.Join(base, "shut")
	for _, dir := range []string{open, shut} {
		journaltest.Remote(t, filepath.Join(dir, "system.journal"), true, true, journaltest.Export(0, 10, 1))
		require.NoError(t, os.Chmod(dir, 0o755))
		require.NoError(t, os.Chmod(filepath.Join(dir, "system.journal"), 0o644))
	}
	u := newTestUnits(t, new(consumertest.LogsSink), nil)
	u.r.cfg.Journal.Enabled, u.r.cfg.Journal.Directories = true, []string{open, shut}
	count := len(u.unseen())
	for _, path := range []string{filepath.Join(shut, "system.journal"), shut} {
		require.NoError(t, os.Chmod(path, 0))
		asNobody(t, func() {
			unseen := u.unseen()
			require.Len(t, unseen, count+1, path)
			assert.Contains(t, unseen[count], "the journal: ")
			assert.Contains(t, unseen[count], path+": permission denied (give the collector's user the group systemd-journal)")
		})
		require.NoError(t, os.Chmod(path, 0o755))
	}
}
