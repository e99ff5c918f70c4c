package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/test/internal/rig"
)

// TestDatabaseRunsOutOfSpace: ledger keeps its entries in Redis, a unit as its package
// leaves it, which writes each entry to disk. The disk is full, Redis ends, is started again
// and ends at the next entry, until systemd gives it up.
func TestDatabaseRunsOutOfSpace(t *testing.T) {
	requireKernel(t)
	if _, err := exec.LookPath("redis-server"); err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	programs := t.TempDir()
	require.NoError(t, os.Chmod(programs, 0o755))
	rig.Build(t, filepath.Join(programs, "books"), "books")
	n := bootNode(t, withKernel, withAccounting, func(m *machine) {
		m.binds = append(m.binds, "--bind-ro="+programs+":/opt/books")
	}, withUnits(map[string]string{
		"redis-server.service.d/durable.conf": "[Service]\nExecStart=\n" +
			"ExecStart=/usr/bin/redis-server /etc/redis/redis.conf --supervised systemd --daemonize no --appendonly yes --appendfsync always --save ''\n",
		"ledger.service.d/books.conf": "[Unit]\nAfter=redis-server.service\n[Service]\nExecStartPre=\nExecStart=\nExecStart=/opt/books/books\n" +
			"Environment=OTEL_SERVICE_NAME=ledger\n",
	}))
	disk := []string{"mount", "-t", "tmpfs", "-o", "size=1M,mode=777", "tmpfs", "/var/lib/redis"}
	require.NoError(t, n.command(disk...).Run())
	n.systemctl("start", "redis-server", "ledger", "payment", "storefront")
	rig.WaitListening(t, n.netns, "127.0.0.1:6379", "127.0.0.1:8082", "127.0.0.1:8081")
	n.startLoad(t)
	_ = n.command("dd", "if=/dev/zero", "of=/var/lib/redis/core", "bs=4k").Run()
	n.load.WaitFailed(t, 30)
	n.collector.Record(t, "tapio.systemd.unit.start_limit_hit", "redis-server.service")
	f := n.only(t, "unit-out-of-space", nil)
	assert.Equal(t, "redis-server.service", f.RootCause.Entity.Name)
	assert.Equal(t, "unit", f.RootCause.Entity.Kind)
	assert.Equal(t, finding.LinkedByOwner, rig.Link(t, f, "tapio.systemd.unit.failed", "redis-server.service").LinkedBy)
	call := rig.Link(t, f, "tapio.call.failed", "ledger")
	assert.Equal(t, finding.LinkedByAddress, call.LinkedBy)
	assert.Contains(t, call.LinkedOn, "127.0.0.1:6379")
	rig.Link(t, f, "tapio.request.failed", "storefront")
}
