package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// archiveFolder, when set, makes this program a server that keeps every order in a file there.
const archiveFolder = "E2E_ARCHIVE_FOLDER"

func TestMain(m *testing.M) {
	if folder := os.Getenv(archiveFolder); folder != "" {
		fmt.Fprintln(os.Stderr, serveArchive(folder))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serveArchive serves until it is killed. It has no SDK: no span and no log says what
// happens in it, and its answer does not either.
func serveArchive(folder string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		order, err := io.ReadAll(r.Body)
		if err == nil {
			err = appendTo(filepath.Join(folder, "orders"), append(order, make([]byte, 4096)...))
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})}
	return server.Serve(listener)
}

func appendTo(name string, order []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(order)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// startArchive starts that server on a file system of its own, with room for some orders.
func startArchive(t *testing.T) (pid int, address string) {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, unix.Mount("tmpfs", folder, "tmpfs", 0, "size=128k"))
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(folder, unix.MNT_DETACH)) })
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), self)
	cmd.Env, cmd.Stderr = environ(archiveFolder+"="+folder), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	return cmd.Process.Pid, strings.TrimSpace(line)
}

// TestCauseByTraceAlone: storefront, which has an SDK, calls a server that has none. The
// kernel refuses that space, and nothing but the trace ids that the kernel programs read
// from the requests says that these calls failed for it: the group that knows who has
// which address is off.
func TestCauseByTraceAlone(t *testing.T) {
	requireKernel(t)
	a := freeAddresses(t, 7)
	dir := t.TempDir()
	api := "http://" + a[2]
	restartCollector(t, a, filepath.Join(dir, "findings.db"),
		"yaml:receivers::tapio_ebpf::programs::http::enabled: true",
		"yaml:receivers::tapio_ebpf::programs::network::enabled: false")
	pid, archive := startArchive(t)
	service := func(args ...string) *program {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), bin(t, checkoutName), args...)
		cmd.Env = environ("OTEL_EXPORTER_OTLP_ENDPOINT=http://" + a[0])
		return start(t, cmd)
	}
	service("storefront", "--listen", a[6], "--payment-url", "http://"+archive).waitHealthy(t, a[6]+"/healthz")
	load := service("load", "--url", "http://"+a[6], "--duration", "0", "--report", filepath.Join(dir, "report.json"))
	sent := func() (r report) {
		if b, err := os.ReadFile(filepath.Join(dir, "report.json")); err == nil {
			_ = json.Unmarshal(b, &r) // it is written again and again: the next read sees it whole
		}
		return r
	}
	poll(t, time.Minute, "20 orders that fail", func() bool { return sent().Failed >= 20 })
	load.signal(t, syscall.SIGTERM)
	require.Zero(t, load.wait(t, 30*time.Second))
	r := sent()
	require.True(t, r.Complete)
	require.Positive(t, r.OK, "there was room for some")

	var f *finding.Finding
	defer func() {
		if t.Failed() && f != nil {
			t.Logf("revision %d, %s: %d failed orders of %d", f.Revision, f.State, f.Impact.FailedRequests, r.Failed)
		}
	}()
	poll(t, time.Minute, "finding that counts all failed orders", func() bool {
		f = ofPayment(t, api)
		return f != nil && f.Impact.FailedRequests == r.Failed
	})
	assert.Equal(t, "request-out-of-space", f.Pattern, f.Summary)
	assert.Equal(t, event.SyscallFailed, f.RootCause.Event)
	assert.Equal(t, "ENOSPC", f.RootCause.Evidence[event.KeyErrorType])
	assert.Equal(t, "write", f.RootCause.Evidence[event.KeySyscall])
	assert.Equal(t, event.AssociationGoroutine, f.RootCause.Evidence[event.KeyTraceAssociation])
	assert.EqualValues(t, pid, f.RootCause.Entity.Attributes[event.KeyProcessPID])
	for _, h := range f.HurtTraces {
		assert.Contains(t, r.FailedTraceIDs, h.TraceID)
	}
	out, code := run(t, environ("TAPIO_ENDPOINT="+api), bin(t, tapioName), "correlate", "--trace-id", r.FailedTraceIDs[0])
	assert.Zero(t, code, out)
	assert.Contains(t, out, f.ID.String())
	assert.Contains(t, out, "ENOSPC")
}
