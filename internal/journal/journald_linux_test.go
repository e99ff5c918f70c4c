package journal

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/journal/journaltest"
)

// journald is a real systemd-journald of our own, in a mount namespace of its own.
type journald struct {
	t    testing.TB
	cmd  *exec.Cmd
	dir  string // of the journal files
	conn net.Conn
	log  bytes.Buffer
}

// startJournald starts journald with these lines in its configuration.
func startJournald(t testing.TB, compact bool, config ...string) *journald {
	t.Helper()
	program := journaltest.Needs(t, "systemd-journald")
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI must be root for a journald of its own")
		}
		t.Skip("needs root for a journald of its own")
	}
	base := t.TempDir()
	run, log, conf := filepath.Join(base, "run"), filepath.Join(base, "log"), filepath.Join(base, "journald.conf")
	for _, d := range []string{run, log} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	text := "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nReadKMsg=no\nForwardToSyslog=no\nForwardToWall=no\nAudit=no\nSplitMode=none\n"
	require.NoError(t, os.WriteFile(conf, []byte(text+strings.Join(config, "\n")+"\n"), 0o644))
	j := &journald{t: t, dir: log}
	script := fmt.Sprintf(`set -e
mkdir -p /run/systemd/journal /run/log/journal
mount --bind %s /run/systemd/journal
mount --bind %s /run/log/journal
mount --bind %s /etc/systemd/journald.conf
exec %s`, run, log, conf, program)
	j.cmd = exec.Command("unshare", "--mount", "sh", "-c", script)
	j.cmd.Env = append(os.Environ(), fmt.Sprintf("SYSTEMD_JOURNAL_COMPACT=%t", compact))
	j.cmd.Stderr, j.cmd.Stdout = &j.log, &j.log
	require.NoError(t, j.cmd.Start())
	t.Cleanup(j.stop)
	require.Eventually(t, func() bool {
		var err error
		j.conn, err = net.Dial("unixgram", filepath.Join(run, "socket"))
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, "journald does not come up: %s", &j.log)
	return j
}

func (j *journald) stop() {
	if j.conn != nil {
		_ = j.conn.Close()
		j.conn = nil
	}
	if j.cmd.ProcessState == nil {
		_ = j.cmd.Process.Signal(syscall.SIGTERM)
		_ = j.cmd.Wait()
	}
}

// send logs one entry by journald's native protocol.
func (j *journald) send(fields ...string) {
	j.t.Helper()
	_, err := j.conn.Write([]byte(strings.Join(fields, "\n") + "\n"))
	require.NoError(j.t, err)
}

// rotate makes journald begin a new file, and waits for it.
func (j *journald) rotate() {
	j.t.Helper()
	before := j.archives()
	require.NoError(j.t, j.cmd.Process.Signal(syscall.SIGUSR2))
	require.Eventually(j.t, func() bool { return j.archives() != before }, 10*time.Second, time.Millisecond)
}

// archives returns the newest archive, "" for none.
func (j *journald) archives() string {
	names, err := filepath.Glob(filepath.Join(j.dir, "*", "system@*.journal"))
	require.NoError(j.t, err)
	newest := ""
	for _, n := range names {
		newest = max(newest, n)
	}
	return newest
}

// While journald writes and rotates 50 times, and the reader is made anew every
// now and then, nothing is lost, doubled or out of order.
func TestFollowsJournald(t *testing.T) {
	for name, compact := range map[string]bool{"regular": false, "compact": true} {
		t.Run(name, func(t *testing.T) {
			j := startJournald(t, compact, "RuntimeMaxFiles=1000")
			const rotations, each = 50, 40
			written := make(chan struct{})
			go func() {
				defer close(written)
				for r := range rotations {
					for i := range each {
						j.send(fmt.Sprintf("MESSAGE=entry %d of rotation %d", i, r), "PRIORITY=5", "CODE_LINE=7", "BIG="+strings.Repeat("x", i*40))
					}
					j.rotate()
				}
			}()
			r := NewReader(testOptions(j.dir), NewState(0))
			defer func() { _ = r.Close() }()
			var got []string
			restarts := 0
			for running := true; running; {
				select {
				case <-written:
					running = false
				case <-time.After(5 * time.Millisecond):
				}
				got = append(got, readAll(r)...)
				if len(got) >= (restarts+1)*150 {
					restarts++
					r = restarted(t, r)
				}
			}
			j.send("MESSAGE=the end")
			require.Eventually(t, func() bool {
				got = append(got, readAll(r)...)
				return strings.Contains(got[len(got)-1], `MESSAGE="the end"`)
			}, 10*time.Second, 50*time.Millisecond)

			equalLines(t, askJournalctl(t, "-D", j.dir), got)
			assert.GreaterOrEqual(t, restarts, 5)
			// One that was just restarted closes them when it looks at the folder again.
			assert.Eventually(t, func() bool { return len(readAll(r)) == 0 && r.Stats().Open <= 3 }, 10*time.Second, 50*time.Millisecond, "files that were read are closed")
			stats := r.Stats()
			assert.Zero(t, stats.LostCorrupt+stats.LostDeleted+stats.BadFields)
		})
	}
}

// restarted closes a reader and makes another from what would have been saved.
func restarted(t *testing.T, r *Reader) *Reader {
	t.Helper()
	state := r.State()
	b, err := state.Encode()
	require.NoError(t, err)
	state.DoneNotSaved()
	done := state.EncodeDone()
	require.NoError(t, r.Close())
	state, err = DecodeState(b, done)
	require.NoError(t, err)
	return NewReader(r.options, state)
}

// What journald deletes while it is open is read to its end where journald
// leaves the content, and counted as lost where it frees it.
func TestVacuum(t *testing.T) {
	j := startJournald(t, true, "RuntimeMaxFiles=2")
	r := NewReader(testOptions(j.dir), NewState(0))
	defer r.Close()
	const files, each = 8, 50
	for f := range files {
		for i := range each {
			j.send(fmt.Sprintf("MESSAGE=entry %d of file %d", i, f))
		}
		require.Eventually(t, func() bool {
			return strings.Contains(strings.Join(askJournalctl(t, "-D", j.dir), ""), fmt.Sprintf("entry %d of file %d", each-1, f))
		},
			10*time.Second, 20*time.Millisecond)
		r.lastScan = time.Time{}
		r.Refresh() // opens the file, and reads no more than its first entry
		j.rotate()
	}
	var got int
	for range 3 {
		r.options.Now = func() time.Time { return time.Now().Add(time.Duration(got+1) * patience) }
		r.lastScan = time.Time{}
		got += len(readAll(r))
	}
	stats := r.Stats()
	t.Logf("%d entries read, %d lost", got, stats.LostDeleted)
	assert.GreaterOrEqual(t, uint64(got)+stats.LostDeleted, uint64(files*each), "read or counted")
	assert.Zero(t, stats.LostCorrupt)
	assert.GreaterOrEqual(t, got, each, "the newest file is still there")
}
