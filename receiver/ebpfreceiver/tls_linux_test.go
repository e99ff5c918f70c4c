//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/yairfalse/tapio/internal/event"
)

func enableTLS(c *Config) {
	enableHTTP(c)
	c.Programs.TLS.Enabled = true
}

// tlsFile is a file with a key and a certificate of 127.0.0.1, and what trusts it.
func tlsFile(t testing.TB) (string, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(text))
	name := filepath.Join(t.TempDir(), "tls.pem")
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	require.NoError(t, os.WriteFile(name, text, 0o600))
	return name, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// startTLSServer starts a server that serves over TLS.
func startTLSServer(t *testing.T, cmd *exec.Cmd) *httpServer {
	t.Helper()
	file, trust := tlsFile(t)
	cmd.Env = append(cmd.Environ(), "TLS_FILE="+file)
	s := startHTTPServer(t, cmd)
	s.tls = trust
	return s
}

// opensslOf is OpenSSL's library in a process that has loaded it.
func opensslOf(t *testing.T, pid int) string {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	require.NoError(t, err)
	libraries := mappedLibraries(maps)
	require.NotEmpty(t, libraries, "this Python has no OpenSSL in a library of its own")
	return libraries[0].path
}

func TestTraceOverTLS(t *testing.T) {
	requireKernel(t)
	python := requireProgram(t, "python3")
	for _, tc := range []struct {
		name            string
		version         uint16
		isReceiverFirst bool
	}{
		{"TLS 1.3", tls.VersionTLS13, true},
		{"TLS 1.2, of before the receiver", tls.VersionTLS12, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r *rig
			if tc.isReceiverFirst {
				r = startRig(t, enableTLS)
			}
			s := startTLSServer(t, exec.Command(python, "testdata/http/server.py"))
			s.tls.MaxVersion = tc.version
			if r == nil {
				r = startRig(t, enableTLS)
			}
			r.warmUp(s)
			r.namesTraces(s, "sleep", event.AssociationThread)
		})
	}
}

// TestTraceOverTLSOfNode: Node.js hands OpenSSL the bytes itself, so that the socket is not
// known. OpenSSL is in its executable.
func TestTraceOverTLSOfNode(t *testing.T) {
	requireKernel(t)
	node := requireProgram(t, "node")
	r := startRig(t, enableTLS)
	s := startTLSServer(t, exec.Command(node, "testdata/http/server.js"))
	r.warmUp(s)
	right, wrong, none := r.associations(s, s.send("same-tick", 500, httpConcurrent), event.AssociationThread)
	assert.Equal(t, []int{0, 0, 500}, []int{right, wrong, none})
}

// TestTLSOffSeesNothing: the group http alone does not look into what is encrypted.
func TestTLSOffSeesNothing(t *testing.T) {
	requireKernel(t)
	python := requireProgram(t, "python3")
	r := startRig(t, enableHTTP)
	s := startTLSServer(t, exec.Command(python, "testdata/http/server.py"))
	r.warmUp(s)
	right, wrong, none := r.associations(s, s.send("", 100, 10), event.AssociationThread)
	assert.Equal(t, []int{0, 0, 100}, []int{right, wrong, none})
}

// TestSpansOverTLS: of a server and what it asks of another one, each once.
func TestSpansOverTLS(t *testing.T) {
	requireKernel(t)
	python := requireProgram(t, "python3")
	r := startSpanRig(t, enableTLS)
	file, trust := tlsFile(t)
	start := func() *httpServer {
		cmd := exec.Command(python, "testdata/http/server.py")
		cmd.Env = append(os.Environ(), "TLS_FILE="+file)
		s := startHTTPServer(t, cmd)
		s.tls = trust
		r.warmUp(s)
		return s
	}
	callee, s := start(), start()
	trace := randomHex(t, 16)
	header := "00-" + trace + "-0102030405060708-01"
	s.get("call="+callee.address, header)
	server, client := byKind(t, r.await(trace, 2))
	assert.Equal(t, "0102030405060708", server.Parent)
	assert.Equal(t, int64(200), server.Attributes["http.response.status_code"])
	assert.Equal(t, s.address, fmt.Sprintf("%s:%d", server.Attributes["server.address"], server.Attributes["server.port"]))
	assert.Equal(t, server.ID, client.Parent)
	assert.Equal(t, int64(404), client.Attributes["http.response.status_code"])
	assert.Equal(t, callee.address, fmt.Sprintf("%s:%d", client.Attributes["server.address"], client.Attributes["server.port"]))

	sent := s.send("sleep", 200, 20)
	for _, traceparent := range sent {
		spans := r.await(traceparent[3:35], 1)
		require.Len(t, spans, 1)
		assert.Equal(t, traceparent[36:52], spans[0].Parent)
		assert.Equal(t, ptrace.SpanKindServer, spans[0].Kind)
	}
}

// TestTraceOverTLSOfStaticOpenSSL: a server of C with OpenSSL in its executable, which reads
// ahead: what comes with the end of the handshake it gets without any system call.
func TestTraceOverTLSOfStaticOpenSSL(t *testing.T) {
	requireKernel(t)
	server := buildTLSServer(t)
	for _, tc := range []struct {
		name             string
		once, isStripped bool
	}{{"connections that are kept", false, false}, {"a connection for each request", true, false}, {"stripped", false, true}} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.isStripped {
				out, err := exec.Command(requireProgram(t, "strip"), server).CombinedOutput()
				require.NoError(t, err, "%s", out)
			}
			r := startRig(t, enableTLS)
			s := startTLSServer(t, exec.Command(server))
			s.once = tc.once
			r.warmUp(s)
			right, wrong, none := r.associations(s, s.send("", httpRequests, httpConcurrent), event.AssociationThread)
			t.Logf("%d right, %d wrong, %d none", right, wrong, none)
			assert.Zero(t, wrong)
			if tc.isStripped {
				assert.Zero(t, right, "nothing says where its functions are")
				return
			}
			assert.GreaterOrEqual(t, right*1000, httpRequests*999)
		})
	}
}

// TestOpenSSLThatIsLoadedLater: a process had none when it began to serve.
func TestOpenSSLThatIsLoadedLater(t *testing.T) {
	requireKernel(t)
	python := requireProgram(t, "python3")
	programs := startRig(t, enableTLS).receiver.source.(*kernel).tracer.tls
	p := newTLSProbes("/proc", zap.NewNop())
	p.call, p.ret, p.free = programs.call, programs.ret, programs.free
	t.Cleanup(func() { assert.NoError(t, p.probes.close()) })
	cmd := exec.Command(python, "-c", `import sys
print(flush=True)
sys.stdin.readline()
import ssl
print(flush=True)
sys.stdin.readline()`)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	require.True(t, lines.Scan())
	who := processInfo{pid: uint32(cmd.Process.Pid), executable: python}
	runs := func(processInfo) bool { return true }
	probed := func() int64 {
		files, failed := p.probes.counts()
		require.Zero(t, failed)
		return files
	}
	p.follow(who)
	p.lookAgain(runs)
	require.Zero(t, probed())
	_, err = io.WriteString(stdin, "\n")
	require.NoError(t, err)
	require.True(t, lines.Scan())
	p.lookAgain(runs)
	assert.Equal(t, int64(1), probed())
	assert.Empty(t, p.waiting)
	p.lookAgain(func(processInfo) bool { return false })
	assert.Zero(t, probed())
}

// buildTLSServer compiles the server of C of testdata, with OpenSSL in it.
func buildTLSServer(t testing.TB) string {
	t.Helper()
	server := filepath.Join(t.TempDir(), "server")
	out, err := exec.Command("gcc", "-O1", "-x", "c", "-o", server, filepath.Join("testdata", "http", "server_tls.c.txt"),
		"-x", "none", "-l:libssl.a", "-l:libcrypto.a", "-lpthread", "-ldl").CombinedOutput()
	if err != nil && os.Getenv("CI") != "true" {
		t.Skipf("this test links OpenSSL (libssl-dev): %v: %s", err, out)
	}
	require.NoError(t, err, "%s", out)
	return server
}

// TestTLSProbesByFile: a copy of the library is a file of its own, also one that only the
// process itself sees, as in a container. The probes go when nobody runs it any more.
func TestTLSProbesByFile(t *testing.T) {
	requireKernel(t)
	python, unshare := requireProgram(t, "python3"), requireProgram(t, "unshare")
	commands := []*exec.Cmd{exec.Command(python, "testdata/http/server.py")}
	plain := startTLSServer(t, commands[0])
	library := opensslOf(t, plain.pid)
	script := fmt.Sprintf(`mount -t tmpfs tmpfs %[1]s && cp %[2]s %[1]s/ && LD_LIBRARY_PATH=%[1]s exec %[3]s testdata/http/server.py`, t.TempDir(), library, python)
	commands = append(commands, exec.Command(unshare, "--mount", "sh", "-c", script))
	own := startTLSServer(t, commands[1])
	require.NotEqual(t, library, opensslOf(t, own.pid))

	r := startRig(t, enableTLS)
	probes := r.receiver.source.(*kernel).tracer.tls.probes
	r.warmUp(plain)
	r.warmUp(own)
	for _, s := range []*httpServer{plain, own} {
		right, wrong, none := r.associations(s, s.send("", 100, 10), event.AssociationThread)
		assert.Equal(t, []int{100, 0, 0}, []int{right, wrong, none})
	}
	files := func() int {
		probes.mu.Lock()
		defer probes.mu.Unlock()
		n := 0
		for _, f := range probes.files { // others on this machine may serve over TLS too
			for who := range f.users {
				if int(who.pid) == plain.pid || int(who.pid) == own.pid {
					n++
				}
			}
		}
		return n
	}
	require.Equal(t, 2, files())
	for _, cmd := range commands {
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait() // how it ended is known
	}
	require.Eventually(t, func() bool { return files() == 0 }, 3*sweepInterval, 50*time.Millisecond)
}

// TestLibraryWithoutSymbols: the log says that TLS is not seen, and why.
func TestLibraryWithoutSymbols(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	name := filepath.Join(folder, "libssl.so.3")
	require.NoError(t, os.WriteFile(name, []byte("no library"), 0o600))
	core, logs := observer.New(zap.WarnLevel)
	p := newTLSProbes("/proc", zap.New(core))
	for range 2 {
		f, err := os.Open(name)
		require.NoError(t, err)
		p.probe(processInfo{pid: 7, executable: "/bin/server"}, f, name)
		require.NoError(t, f.Close())
	}
	require.Equal(t, 1, logs.Len(), "once for each file")
	assert.Equal(t, "TLS of this program is not seen", logs.All()[0].Message)
	_, failed := p.probes.counts()
	assert.Equal(t, int64(1), failed)
}

func TestMappedLibraries(t *testing.T) {
	t.Parallel()
	const line = "7f51cbda7000-7f51cbe00000 r-xp 00020000 fe:00 1234                       "
	for path, want := range map[string]bool{
		"/usr/lib/x86_64-linux-gnu/libssl.so.3":          true,
		"/usr/lib/libssl.so.1.1":                         true,
		"/venv/lib/psycopg2.libs/libssl-3e69114b.so.1.1": true,
		"/a directory/libssl.so.3":                       true,
		"/usr/lib/libssl.so.3 (deleted)":                 true,
		"/usr/lib/x86_64-linux-gnu/libssl3.so":           false,
		"/usr/lib/x86_64-linux-gnu/libcrypto.so.3":       false,
		"/libssl.so.3/other.so":                          false,
		"[vdso]":                                         false,
		"":                                               false,
	} {
		found := mappedLibraries([]byte(line + path + "\n"))
		assert.Equal(t, want, len(found) == 1, path)
		if want {
			assert.Equal(t, mapping{"7f51cbda7000-7f51cbe00000", path}, found[0])
		}
	}
	assert.Empty(t, mappedLibraries([]byte(strings.Replace(line, "r-xp", "r--p", 1)+"/usr/lib/libssl.so.3\n")))
}

func FuzzMappedLibraries(f *testing.F) {
	f.Add([]byte("7f51cbda7000-7f51cbe00000 r-xp 00020000 fe:00 1234    /usr/lib/libssl.so.3\n"))
	f.Add([]byte("\n  \n a b"))
	f.Fuzz(func(_ *testing.T, maps []byte) { mappedLibraries(maps) })
}

func FuzzReadTLSFunctions(f *testing.F) {
	if self, err := os.Open("/proc/self/exe"); err == nil {
		start := make([]byte, 4096)
		_, _ = io.ReadFull(self, start)
		f.Add(start)
		_ = self.Close()
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		at, err := readTLSFunctions(strings.NewReader(string(file)))
		if err == nil && !hasTLSFunctions(at) {
			t.Fatal("no error, and no functions")
		}
	})
}

// BenchmarkTLSRead: what the probes add to a call of SSL_read, which returns 16 bytes of a
// record that is there already.
func BenchmarkTLSRead(b *testing.B) {
	server := buildTLSServer(b)
	for _, enabled := range []bool{false, true, false, true} {
		b.Run(fmt.Sprintf("tls=%v", enabled), func(b *testing.B) {
			cfg := createDefaultConfig().(*Config)
			cfg.Programs = ProgramsConfig{HTTP: HTTPConfig{Enabled: true}, TLS: ProgramConfig{Enabled: enabled}}
			r := newBenchmarkRig(b, cfg)
			file, trust := tlsFile(b)
			cmd := exec.Command(server, "benchmark")
			cmd.Env = append(os.Environ(), "TLS_FILE="+file)
			stdin, err := cmd.StdinPipe()
			require.NoError(b, err)
			stdout, err := cmd.StdoutPipe()
			require.NoError(b, err)
			require.NoError(b, cmd.Start())
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			lines := bufio.NewScanner(stdout)
			require.True(b, lines.Scan())
			address := lines.Text()
			require.Eventually(b, func() bool { return r.tracer.knows(cmd.Process.Pid) }, 10*time.Second, time.Millisecond)
			c, err := tls.Dial("tcp", address, trust)
			require.NoError(b, err)
			defer c.Close()
			go func() { _, _ = io.Copy(c, c) }()
			sum, n := 0.0, 0
			for b.Loop() {
				_, err = io.WriteString(stdin, "\n")
				require.NoError(b, err)
				require.True(b, lines.Scan())
				ns, err := strconv.ParseFloat(lines.Text(), 64)
				require.NoError(b, err)
				sum, n = sum+ns, n+1
			}
			b.ReportMetric(sum/float64(n), "ns/SSL_read")
		})
	}
}

// newBenchmarkRig runs the kernel programs of a configuration, and reads what they tell.
func newBenchmarkRig(b *testing.B, cfg *Config) *kernel {
	b.Helper()
	k := openKernel(cfg, programs(cfg), zap.NewNop())
	if len(k.failures) > 0 {
		b.Skip(k.failures)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			if _, err := k.read(); err != nil {
				return
			}
		}
	})
	b.Cleanup(func() {
		require.NoError(b, k.stop())
		reading.Wait()
		require.NoError(b, k.close())
	})
	return k
}
