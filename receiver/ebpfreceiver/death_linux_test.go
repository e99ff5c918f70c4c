//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
)

// The tests in this file let a server die of a request. It is this binary in the role
// below, so that they run where there is no compiler, in the guests of make
// kernel-matrix.

// serveUntilDeath serves HTTP with a goroutine for each connection, in which nothing
// catches a panic. It writes "+" when it has read a request.
func serveUntilDeath() {
	_, _ = os.Stdin.Read(make([]byte, 1)) // it is in its cgroup
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(10)
	}
	fmt.Println(listener.Addr())
	for {
		c, err := listener.Accept()
		if err != nil {
			os.Exit(11)
		}
		go serveConnection(c)
	}
}

func serveConnection(c net.Conn) {
	for in := bufio.NewReader(c); ; {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = os.Stdout.WriteString("+")
		switch r.URL.Path {
		case "/answer":
			_, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		case "/hold":
		case "/exit":
			os.Exit(7)
		case "/panic":
			panic("a request that nobody survives")
		case "/eat":
			eat()
		}
	}
}

// mortal is a server that has not died yet.
type mortal struct {
	t       *testing.T
	cmd     *exec.Cmd
	address string
	told    *bufio.Reader
}

// startMortal starts one, in a memory cgroup when its folder is given.
func (r *rig) startMortal(folder string) *mortal {
	t := r.t
	t.Helper()
	cmd := role("mortal")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if folder != "" {
		require.NoError(t, os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600))
	}
	_, err = stdin.Write([]byte{1})
	require.NoError(t, err)
	m := &mortal{t: t, cmd: cmd, told: bufio.NewReader(stdout)}
	line, err := m.told.ReadString('\n')
	require.NoError(t, err)
	m.address = line[:len(line)-1]
	r.warmUp(&httpServer{t: t, pid: cmd.Process.Pid, address: m.address})
	return m
}

// ask sends a request on a connection of its own and returns its trace and span when
// the server has read it, which it may not survive.
func (m *mortal) ask(path string) string {
	m.t.Helper()
	c, err := net.Dial("tcp", m.address)
	require.NoError(m.t, err)
	m.t.Cleanup(func() { _ = c.Close() })
	trace, span := randomHex(m.t, 16), randomHex(m.t, 8)
	_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\ntraceparent: 00-%s-%s-01\r\n\r\n", path, trace, span)
	require.NoError(m.t, err)
	if b, err := m.told.ReadByte(); err != nil || b != '+' {
		require.ErrorIs(m.t, err, io.EOF)
	}
	if path == "/answer" {
		_, err := bufio.NewReader(c).ReadString('\n')
		require.NoError(m.t, err)
	}
	return trace + span
}

// exitOf waits for the end of the server and returns the event of it.
func (r *rig) exitOf(m *mortal) seenRecord {
	r.t.Helper()
	var status *exec.ExitError
	if err := m.cmd.Wait(); !errors.As(err, &status) {
		require.NoError(r.t, err)
	}
	return r.await(of(event.ProcessExit, m.cmd.Process.Pid))
}

// TestTraceOfExit: of requests that are served at once, the end of the process names
// the one that ended it; when none did it names the only one there is, and else none.
func TestTraceOfExit(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	// Before 6.16 the kernel tells of the end when the memory of the goroutine is gone.
	knowsGoroutine := r.receiver.source.(*kernel).features.exitHasGroupDead
	for _, tc := range []struct {
		name   string
		before []string
		last   string // "": it is killed
		which  int    // request of before and last that is named, -1 for none
		how    string
	}{
		{"exits", []string{"/hold", "/hold", "/hold"}, "/exit", 3, event.AssociationGoroutine},
		{"panics", []string{"/hold", "/hold", "/hold"}, "/panic", 3, event.AssociationGoroutine},
		{"alone", []string{"/answer"}, "/exit", 1, event.AssociationGoroutine},
		{"killed, one unanswered", []string{"/answer", "/hold", "/answer"}, "", 1, event.AssociationSocket},
		{"killed, two unanswered", []string{"/hold", "/hold"}, "", -1, ""},
		{"killed, all answered", []string{"/answer", "/answer"}, "", -1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := r.startMortal("")
			var ids []string
			for _, path := range tc.before {
				ids = append(ids, m.ask(path))
			}
			if tc.last != "" {
				ids = append(ids, m.ask(tc.last))
			} else {
				require.NoError(t, m.cmd.Process.Kill())
			}
			rec := r.exitOf(m)
			if tc.how == event.AssociationGoroutine && !knowsGoroutine {
				tc.how = event.AssociationSocket
				if len(tc.before) > 1 {
					tc.which = -1
				}
			}
			if tc.which < 0 {
				assert.Empty(t, rec.Trace+rec.Span)
				assert.NotContains(t, rec.Attributes, event.KeyTraceAssociation)
				return
			}
			assert.Equal(t, ids[tc.which], rec.Trace+rec.Span)
			assert.Equal(t, tc.how, rec.Attributes[event.KeyTraceAssociation])
		})
	}
}

// TestTraceOfOOMKill: the request that wanted the memory is named, by the kill and by
// the end. Now and then the page that is too much is touched by a thread of Go's
// runtime that works for no request: then none is.
func TestTraceOfOOMKill(t *testing.T) {
	requireKernel(t)
	_, folder := memoryCgroup(t, 64<<20)
	r := startRig(t, enableHTTP)
	for range 10 {
		m := r.startMortal(folder)
		m.ask("/answer")
		for range 3 {
			m.ask("/hold")
		}
		eats := m.ask("/eat")
		exit := r.exitOf(m)
		kills := r.records(of(event.OOMKill, m.cmd.Process.Pid))
		require.Len(t, kills, 1, "it is killed once")
		if kills[0].Trace == "" {
			assert.Contains(t, []string{"", eats}, exit.Trace+exit.Span)
			continue
		}
		assert.Equal(t, eats, kills[0].Trace+kills[0].Span)
		assert.Equal(t, event.AssociationGoroutine, kills[0].Attributes[event.KeyTraceAssociation])
		assert.Equal(t, eats, exit.Trace+exit.Span)
		return
	}
	t.Error("not one kill named the request")
}
