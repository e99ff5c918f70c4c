package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// journald is a real systemd-journald in a mount namespace of its own.
type journald struct {
	t    *testing.T
	cmd  *exec.Cmd
	conn net.Conn
	// dir is where its files are.
	dir string
	out bytes.Buffer
}

const journaldConfig = `[Journal]
Storage=volatile
RateLimitIntervalSec=0
ReadKMsg=no
ForwardToSyslog=no
ForwardToWall=no
Audit=no
RuntimeMaxFiles=1000
`

// required skips, or fails in CI, for want of something.
func required(t *testing.T, ok bool, what string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

func startJournald(t *testing.T) *journald {
	t.Helper()
	const program = "/lib/systemd/systemd-journald"
	_, err := os.Stat(program)
	required(t, err == nil, program+" is not installed: apt-get install systemd")
	_, err = exec.LookPath("journalctl")
	required(t, err == nil, "journalctl is not installed: apt-get install systemd")
	required(t, os.Geteuid() == 0, "a journald of its own needs root")
	base := t.TempDir()
	run, config := filepath.Join(base, "run"), filepath.Join(base, "journald.conf")
	j := &journald{t: t, dir: filepath.Join(base, "log")}
	for _, d := range []string{run, j.dir} {
		require.NoError(t, os.Mkdir(d, 0o755))
	}
	require.NoError(t, os.WriteFile(config, []byte(journaldConfig), 0o644))
	script := fmt.Sprintf(`set -e
mkdir -p /run/systemd/journal /run/log/journal
mount --bind %s /run/systemd/journal
mount --bind %s /run/log/journal
mount --bind %s /etc/systemd/journald.conf
exec %s`, run, j.dir, config, program)
	j.cmd = exec.Command("unshare", "--mount", "sh", "-c", script)
	j.cmd.Stdout, j.cmd.Stderr = &j.out, &j.out
	require.NoError(t, j.cmd.Start())
	t.Cleanup(func() {
		if j.conn != nil {
			_ = j.conn.Close()
		}
		_ = j.cmd.Process.Signal(syscall.SIGTERM)
		_ = j.cmd.Wait()
	})
	require.Eventually(t, func() bool {
		j.conn, err = net.Dial("unixgram", filepath.Join(run, "socket"))
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, "journald does not come up: %s", &j.out)
	return j
}

// send logs an entry by journald's own protocol.
func (j *journald) send(fields ...string) error {
	_, err := j.conn.Write([]byte(strings.Join(fields, "\n") + "\n"))
	return err
}

// rotate makes journald begin a new file, and waits until it did.
func (j *journald) rotate() error {
	before := j.files()
	if err := j.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		return err
	}
	for range 10_000 {
		if j.files() > before {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("journald did not rotate within 10 s")
}

func (j *journald) files() int {
	names, _ := filepath.Glob(filepath.Join(j.dir, "*", "system@*.journal"))
	return len(names)
}

// entries asks journalctl for all entries: fields by cursor, and the cursors in
// their order.
func (j *journald) entries() (byCursor map[string]map[string]string, order []string) {
	j.t.Helper()
	out, err := exec.Command("journalctl", "-D", j.dir, "--quiet", "--no-pager", "--all", "--output=export").Output()
	require.NoError(j.t, err)
	byCursor = map[string]map[string]string{}
	entry := map[string]string{}
	for len(out) > 0 {
		line, rest, _ := bytes.Cut(out, []byte("\n"))
		out = rest
		if len(line) == 0 {
			cursor := entry["__CURSOR"]
			order = append(order, cursor)
			byCursor[cursor] = entry
			entry = map[string]string{}
			continue
		}
		name, value, ok := bytes.Cut(line, []byte("="))
		if !ok { // binary: the size in 8 bytes, the value, a newline
			size := binary.LittleEndian.Uint64(out)
			value, out = out[8:8+size], out[8+size+1:]
		}
		entry[string(name)] = string(value)
	}
	return byCursor, order
}
