package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
)

// firstTime is the time of the first entry that export writes, in µs.
const firstTime = 1_790_000_000_000_000

// export returns n entries in systemd's export format, a millisecond apart, as a
// machine would log them that runs some services. Every 50th has a long field,
// every 97th a binary one.
func export(from, n int, machine byte) []byte {
	var b bytes.Buffer
	units := []string{"nginx", "sshd", "kubelet", "containerd", "cron"}
	for i := from; i < from+n; i++ {
		unit := units[i%len(units)]
		at := firstTime + i*1000
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

// remote writes entries in export format with systemd-journal-remote.
func remote(t testing.TB, to string, compact, compress bool, entries []byte) {
	t.Helper()
	program := needs(t, "systemd-journal-remote")
	in := filepath.Join(t.TempDir(), "in.export")
	require.NoError(t, os.WriteFile(in, entries, 0o600))
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
	cmd := exec.Command(program, fmt.Sprintf("--compress=%t", compress), "--output="+to, in)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SYSTEMD_JOURNAL_COMPACT=%t", compact))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

// recompress compresses every long field of an uncompressed journal file, in
// place, as journald does with that algorithm, and returns how many. Which
// algorithm journald writes was chosen when it was compiled.
func recompress(t testing.TB, path string, flag uint8, compress func([]byte) []byte) (count int) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	h, err := parseHeader(b)
	require.NoError(t, err)
	le := binary.LittleEndian
	start := h.payload()
	for at := h.headerSize; at <= h.tailObject; {
		o := parseObject(b[at:])
		require.NotZero(t, o.size)
		if o.kind == objectData && o.size-start >= 512 {
			small := compress(b[at+start : at+o.size])
			require.Less(t, uint64(len(small)), o.size-start)
			copy(b[at+start:], small)
			b[at+1] = flag
			le.PutUint64(b[at+8:], start+uint64(len(small)))
			count++
		}
		at += (o.size + 7) &^ 7
	}
	// The flags of a file have zstd as 8, as 4 stands for the keyed hash.
	le.PutUint32(b[12:], le.Uint32(b[12:])|map[uint8]uint32{compressedXZ: 1, compressedLZ4: 2, compressedZSTD: 8}[flag])
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return count
}

func compressLZ4(b []byte) []byte {
	out := make([]byte, 8+lz4.CompressBlockBound(len(b)))
	binary.LittleEndian.PutUint64(out, uint64(len(b)))
	n, err := lz4.CompressBlock(b, out[8:], nil)
	if err != nil || n == 0 {
		panic(fmt.Sprintf("lz4: %d, %v", n, err))
	}
	return out[:8+n]
}

func compressXZ(b []byte) []byte {
	var out bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 20, NoCheckSum: true}.NewWriter(&out)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	return out.Bytes()
}

func compressZSTD(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}
