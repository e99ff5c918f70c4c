//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/bpf"
	"github.com/yairfalse/tapio/internal/event"
)

// loopDevice makes a block device of a file, and returns its name.
func loopDevice(t testing.TB, file string, flags uint32) string {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	require.NoError(t, err)
	defer control.Close()
	backing, err := os.OpenFile(file, os.O_RDWR, 0)
	require.NoError(t, err)
	defer backing.Close()
	for range 50 { // others may be faster to take a free one
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		require.NoError(t, err)
		name := "loop" + strconv.Itoa(n)
		dev, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
		require.NoError(t, err)
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &unix.LoopConfig{Fd: uint32(backing.Fd()), Size: 4096, Info: unix.LoopInfo64{Flags: flags}})
		if errors.Is(err, unix.EBUSY) {
			_ = dev.Close()
			continue
		}
		require.NoError(t, err)
		t.Cleanup(func() {
			_, err := unix.IoctlRetInt(int(dev.Fd()), unix.LOOP_CLR_FD)
			assert.NoError(t, err)
			_ = dev.Close()
		})
		return name
	}
	t.Fatal("no free loop device")
	return ""
}

// blockCgroup makes a cgroup of the blkio controller (v1), or of the unified
// hierarchy, and returns its path and folder, and what limits its reads of a disk.
func blockCgroup(t *testing.T) (path, folder string, limit func(disk uint64, reads int)) {
	t.Helper()
	path = fmt.Sprintf("/tapio-test-disk-%d", os.Getpid())
	root, file, format := "/sys/fs/cgroup/blkio", "blkio.throttle.read_iops_device", "%d:%d %d"
	if _, err := os.Stat(root); err != nil {
		root, file, format = "/sys/fs/cgroup", "io.max", "%d:%d riops=%d"
		require.NoError(t, handDown(t, root+"/cgroup.subtree_control", "io"))
	}
	folder = root + path
	makeCgroup(t, folder)
	return path, folder, func(disk uint64, reads int) {
		line := fmt.Appendf(nil, format, unix.Major(disk), unix.Minor(disk), reads)
		require.NoError(t, os.WriteFile(filepath.Join(folder, file), line, 0o600))
	}
}

// aligned is a buffer as O_DIRECT wants it.
func aligned(size int) []byte {
	b := make([]byte, size+4096)
	off := 4096 - int(uintptr(unsafe.Pointer(&b[0]))%4096)
	return b[off : off+size]
}

// readDisk is the role "disk": 64 threads read a device at random places, each
// up to five times a second, until it is ended.
func readDisk(device string) {
	_, _ = os.Stdin.Read(make([]byte, 1)) // it is in its cgroup
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		os.Exit(10)
	}
	for range 64 {
		go func() {
			buffer := aligned(4096)
			for {
				if _, err := unix.Pread(fd, buffer, rand.Int64N(1024)*4096); err != nil {
					os.Exit(11)
				}
				time.Sleep(200 * time.Millisecond)
			}
		}()
	}
	select {}
}

// failingDevice makes a device on a file for which there is no more space.
func failingDevice(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	file := filepath.Join(dir, "disk")
	f, err := os.Create(file)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(8<<20))
	require.NoError(t, f.Close())
	// Not a byte: a loop device takes a write that was cut short for one that was done.
	require.Error(t, os.WriteFile(filepath.Join(dir, "full"), make([]byte, 1<<20), 0o600))
	return loopDevice(t, file, 0)
}

// writeInVain writes a MiB to a failing device, from its second on.
func writeInVain(t *testing.T, name string) {
	t.Helper()
	fd, err := unix.Open("/dev/"+name, unix.O_RDWR|unix.O_DIRECT, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	_, err = unix.Pwrite(fd, aligned(1<<20), 1<<20)
	require.Error(t, err)
}

func TestBlockDeviceThatFails(t *testing.T) {
	requireKernel(t)
	name := failingDevice(t)
	r := startRig(t, nil)
	writeInVain(t, name)

	ofDevice := func(s seenRecord) bool {
		return s.Name == event.BlockIOError && s.Attributes[event.KeyBlockDevice] == name
	}
	got := r.await(ofDevice)
	assert.Equal(t, "Error", got.Severity)
	assert.Equal(t, "WRITE", got.Attributes[event.KeyBlockOperation])
	assert.Contains(t, []string{"EIO", "ENOSPC"}, got.Attributes[event.KeyBlockErrno])
	assert.GreaterOrEqual(t, got.Attributes[event.KeyBlockSector], int64(2048))
	assert.Contains(t, got.Body, "error of block device "+name+": WRITE of ")
	time.Sleep(100 * time.Millisecond)
	for _, s := range r.records(ofDevice) {
		assert.Contains(t, s.Attributes, event.KeyBlockErrno, "the kernel's log has it too, and it is told once: %s", s.Body)
	}
}

// TestBlockDeviceThatBecomesSlow: a device on a file of a disk that the cgroup may
// use less from some time on.
func TestBlockDeviceThatBecomesSlow(t *testing.T) {
	requireKernel(t)
	requireSpeed(t)
	file := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(file, make([]byte, 4<<20), 0o600))
	fd, err := os.Open(file)
	require.NoError(t, err)
	require.NoError(t, fd.Sync())
	var st unix.Stat_t
	require.NoError(t, unix.Fstat(int(fd.Fd()), &st))
	require.NoError(t, fd.Close())
	if unix.Major(st.Dev) == 0 && os.Getenv("CI") != "true" {
		t.Skip("temporary files are on no disk here")
	}
	path, folder, limit := blockCgroup(t)
	name := loopDevice(t, file, unix.LO_FLAGS_DIRECT_IO)

	r := startRig(t, func(c *Config) { c.SampleInterval = time.Second })
	t.Setenv("TAPIO_EBPF_TEST_DEVICE", "/dev/"+name)
	startIn(t, folder, "disk", nil)
	of := func(what string) func(seenRecord) bool {
		return func(s seenRecord) bool {
			return s.Name == what && s.Attributes[event.KeyBlockDevice] == name && s.Attributes[event.KeyBlockOperation] == "READ"
		}
	}
	got := r.await(of(event.BlockIOLatency))
	assert.Equal(t, "Debug", got.Severity)
	assert.Equal(t, path, got.Resource[event.KeyProcessCgroup])
	assert.Positive(t, got.Attributes[event.KeyBlockRequests])
	assert.Positive(t, got.Attributes[event.KeyBlockLatencyP50])
	require.Eventually(t, func() bool { return len(r.records(of(event.BlockIOLatency))) > baselineMin }, time.Minute, 10*time.Millisecond)
	assert.Empty(t, r.records(of(event.BlockIOSlow)), "it was not slow yet")

	limit(st.Dev, 30)
	slow := r.awaitFor(time.Minute, of(event.BlockIOSlow))
	assert.Equal(t, "Warn", slow.Severity)
	assert.Greater(t, slow.Attributes[event.KeyBlockLatencyP90], 4*slow.Attributes[event.KeyBlockLatencyUsual].(float64))
	assert.Equal(t, path, slow.Attributes[event.KeyBlockBusiestCgroup])
	assert.InDelta(t, 1, slow.Attributes[event.KeyBlockBusiestShare], 0.01)
	assert.Contains(t, slow.Body, "Block device "+name+" is slow: ")
	hurt := r.await(func(s seenRecord) bool { return of(event.BlockIOSlow)(s) && s.Resource[event.KeyProcessCgroup] == path })
	assert.Contains(t, hurt.Body, "of cgroup "+path)
	t.Log(slow.Body)
}

// programCost runs do with the programs of a configuration alone, and reports what
// each run of one of them took as the kernel counts it, and how many there were.
func programCost(b *testing.B, groups ProgramsConfig, name string, do func()) {
	b.Helper()
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	if err != nil {
		b.Skip(err)
	}
	defer stats.Close()
	cfg := createDefaultConfig().(*Config)
	cfg.Programs = groups
	k := openKernel(cfg, programs(cfg), zap.NewNop())
	defer k.close()
	for b.Loop() {
		do()
	}
	for _, p := range k.running {
		if p.name != name {
			continue
		}
		s, err := p.program.Stats()
		require.NoError(b, err)
		b.ReportMetric(float64(s.Runtime)/float64(max(1, s.RunCount)), "ns/run")
		b.ReportMetric(float64(s.RunCount)/float64(b.N), "runs/op")
	}
}

// BenchmarkBlockRequest is what a read of a device costs more.
func BenchmarkBlockRequest(b *testing.B) {
	dir := b.TempDir()
	require.NoError(b, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"))
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	file := filepath.Join(dir, "disk")
	require.NoError(b, os.WriteFile(file, make([]byte, 4<<20), 0o600))
	fd, err := unix.Open("/dev/"+loopDevice(b, file, 0), unix.O_RDONLY|unix.O_DIRECT, 0)
	require.NoError(b, err)
	defer unix.Close(fd)
	buffer := aligned(4096)
	programCost(b, ProgramsConfig{Disk: ProgramConfig{Enabled: true}}, bpf.DiskProgBlockLatency, func() {
		_, _ = unix.Pread(fd, buffer, rand.Int64N(1024)*4096)
	})
}

func TestBlockStatus(t *testing.T) {
	t.Parallel()
	assert.Equal(t, blockStatus{"I/O", "EIO"}, decodeBlockStatus(10))
	assert.Equal(t, blockStatus{"critical medium", "ENODATA"}, decodeBlockStatus(7))
	assert.Equal(t, blockStatus{"I/O", "EIO"}, decodeBlockStatus(-5), "an errno, of an older kernel")
	assert.Equal(t, blockStatus{"EPERM", "EPERM"}, decodeBlockStatus(-1))
	assert.Equal(t, blockStatus{"status 77", "EIO"}, decodeBlockStatus(77))
	assert.Equal(t, "WRITE", blockOperation(1))
	assert.Equal(t, "OP_35", blockOperation(35))
}
