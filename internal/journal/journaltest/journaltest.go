// Package journaltest writes real journal files for tests, with the programs of
// systemd that do so.
package journaltest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Needs skips a test, or fails it in CI, where a program is missing.
func Needs(t testing.TB, program string) string {
	t.Helper()
	for _, path := range []string{program, "/lib/systemd/" + program, "/usr/lib/systemd/" + program} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI must have %s: apt-get install systemd systemd-journal-remote", program)
	}
	t.Skipf("%s is not installed", program)
	return ""
}

// FirstTime is the time of the first entry that export writes, in µs.
const FirstTime = 1_790_000_000_000_000

// Export returns n entries in systemd's export format, a millisecond apart, as a
// machine would log them that runs some services. Every 50th has a long field,
// every 97th a binary one.
func Export(from, n int, machine byte) []byte {
	var b bytes.Buffer
	units := []string{"nginx", "sshd", "kubelet", "containerd", "cron"}
	for i := from; i < from+n; i++ {
		unit := units[i%len(units)]
		at := FirstTime + i*1000
		for _, f := range [][2]string{
			{"__REALTIME_TIMESTAMP", fmt.Sprint(at)},
			{"__MONOTONIC_TIMESTAMP", fmt.Sprint(1_000_000 + i*1000)},
			{"_BOOT_ID", fmt.Sprintf("a1b2c3d4e5f60718293a4b5c6d7e8f%02x", machine)},
			{"_MACHINE_ID", fmt.Sprintf("0123456789abcdef0123456789abcd%02x", machine)},
			{"_HOSTNAME", fmt.Sprintf("web-%d", machine)},
			{"_TRANSPORT", "journal"},
			{"_SYSTEMD_UNIT", unit + ".service"},
			{"_SYSTEMD_CGROUP", "/system.slice/" + unit + ".service"},
			{"_SYSTEMD_SLICE", "system.slice"},
			{"_SYSTEMD_INVOCATION_ID", fmt.Sprintf("00112233445566778899aabbccddee%02x", i%len(units))},
			{"_PID", fmt.Sprint(100 + i%len(units))},
			{"_UID", "0"},
			{"_GID", "0"},
			{"_COMM", unit},
			{"_EXE", "/usr/bin/" + unit},
			{"_CMDLINE", "/usr/bin/" + unit + " --flag"},
			{"_CAP_EFFECTIVE", "1ffffffffff"},
			{"_SELINUX_CONTEXT", "unconfined"},
			{"SYSLOG_IDENTIFIER", unit},
			{"SYSLOG_FACILITY", "3"},
			{"PRIORITY", fmt.Sprint(i % 8)},
			{"_SOURCE_REALTIME_TIMESTAMP", fmt.Sprint(at - 7)},
			{"MESSAGE", fmt.Sprintf("request %d of client 10.0.%d.%d took %d ms", i, i%256, i%199, i*7919%1000)},
		} {
			fmt.Fprintf(&b, "%s=%s\n", f[0], f[1])
		}
		if i%50 == 0 {
			fmt.Fprintf(&b, "LONG=%s\n", bytes.Repeat(fmt.Appendf(nil, "long text %d ", i), 200))
		}
		if i%97 == 0 {
			value := fmt.Appendf(nil, "two\nlines\x00\xff %d", i)
			b.WriteString("BINARY\n")
			b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
			b.Write(append(value, '\n'))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// Remote writes entries in export format with systemd-journal-remote.
func Remote(t testing.TB, to string, compact, compress bool, entries []byte) {
	t.Helper()
	require.NoError(t, <-StartRemote(t, to, compact, compress, entries))
}

// StartRemote is Remote that does not wait: the channel has how the writing ended, nil for
// well, as soon as it has.
func StartRemote(t testing.TB, to string, compact, compress bool, entries []byte) <-chan error {
	t.Helper()
	program := Needs(t, "systemd-journal-remote")
	in := filepath.Join(t.TempDir(), "in.export")
	require.NoError(t, os.WriteFile(in, entries, 0o600))
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o750))
	cmd := exec.CommandContext(t.Context(), program, fmt.Sprintf("--compress=%t", compress), "--output="+to, in) //nolint:gosec // a test starts the program that it tests against
	cmd.Env = append(os.Environ(), fmt.Sprintf("SYSTEMD_JOURNAL_COMPACT=%t", compact))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", program, err, out.String())
		}
		ended <- err
	}()
	return ended
}
