//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"golang.org/x/arch/x86/x86asm"

	"github.com/yairfalse/tapio/internal/event"
)

func enableChildren(c *Config) {
	enableHTTP(c)
	c.Programs.HTTP.GoroutineChildren = true
}

// TestTraceOfGoroutineChildren: goroutines that handlers start dial for them.
func TestTraceOfGoroutineChildren(t *testing.T) {
	requireKernel(t)
	for _, tc := range []struct {
		name, query, how string
		flags            []string
	}{
		{"child", "child&sleep", event.AssociationGoroutineChild, nil},
		{"stripped", "child&sleep", event.AssociationGoroutineChild, []string{"-ldflags=-s -w"}},
		{"grandchild", "child&grandchild&sleep", event.AssociationGoroutineChild, nil},
		{"client of net/http", "client&sleep", event.AssociationGoroutineChild, nil},
		{"the handler itself", "sleep", event.AssociationGoroutine, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := startRig(t, enableChildren) // with token buckets that are full
			s := startHTTPServer(t, exec.Command(buildGoServer(t, tc.flags...)))
			r.warmUp(s)
			before := r.receiver.source.stats()
			right, wrong, none := r.associations(s, s.send(tc.query, httpRequests, httpConcurrent), tc.how)
			after := r.receiver.source.stats()
			t.Logf("%d right, %d wrong, %d none, %d goroutines", right, wrong, none, after.goroutines-before.goroutines)
			assert.Zero(t, wrong)
			assert.GreaterOrEqual(t, right*1000, httpRequests*999)
			assert.GreaterOrEqual(t, after.probedFiles, int64(1))
			if tc.how == event.AssociationGoroutineChild {
				assert.GreaterOrEqual(t, after.goroutines-before.goroutines, int64(httpRequests))
			}
		})
	}
}

// TestTraceOfLateChildren: a goroutine that nobody waits for may dial when its
// handler is at another request.
func TestTraceOfLateChildren(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableChildren)
	s := startHTTPServer(t, exec.Command(buildGoServer(t)))
	r.warmUp(s)
	right, wrong, none := r.associations(s, s.send("late&sleep", httpRequests, httpConcurrent), event.AssociationGoroutineChild)
	t.Logf("%d right, %d wrong, %d none", right, wrong, none)
	assert.Zero(t, wrong)
	assert.Positive(t, right, "some dial before the response")
	assert.Positive(t, none, "some dial after it")
}

// TestChildrenAreNotFollowedUnasked: they have no trace then, rather than a wrong one.
func TestChildrenAreNotFollowedUnasked(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableHTTP)
	s := startHTTPServer(t, exec.Command(buildGoServer(t)))
	r.warmUp(s)
	right, wrong, none := r.associations(s, s.send("child&sleep", httpRequests, httpConcurrent), event.AssociationGoroutineChild)
	assert.Equal(t, []int{0, 0, httpRequests}, []int{right, wrong, none})
	assert.Zero(t, r.receiver.source.stats().probedFiles)
}

// TestProbesGoWithTheirProcesses: they are taken out when the last process that runs
// the file has ended.
func TestProbesGoWithTheirProcesses(t *testing.T) {
	requireKernel(t)
	r := startRig(t, enableChildren)
	server := buildGoServer(t)
	key := func() executableKey {
		f, err := os.Open(server)
		require.NoError(t, err)
		defer f.Close()
		key, err := keyOfFile(f)
		require.NoError(t, err)
		return key
	}()
	tracer := r.receiver.source.(*kernel).tracer
	users := func() int {
		tracer.probes.mu.Lock()
		defer tracer.probes.mu.Unlock()
		if file := tracer.probes.files[key]; file != nil {
			assert.NotEmpty(t, file.links)
			return len(file.users)
		}
		return 0
	}
	var cmds []*exec.Cmd
	for n := range 2 {
		cmds = append(cmds, exec.Command(server))
		r.warmUp(startHTTPServer(t, cmds[n]))
		assert.Equal(t, n+1, users())
	}
	for n := range cmds {
		require.NoError(t, cmds[n].Process.Kill())
		_, err := cmds[n].Process.Wait()
		require.NoError(t, err)
		tracer.probes.sweep(func(who processInfo) bool { return tracer.isStill(who) == nil })
		assert.Equal(t, 1-n, users())
	}
}

// buildGoProgram compiles a program that starts a goroutine, and has nothing else.
func buildGoProgram(t *testing.T, args ...string) string {
	t.Helper()
	return buildGo(t, []byte("package main\n\nfunc main() {\n\tgo println()\n}\n"), args...)
}

// TestGoroutineStart: it is found the same in an executable with symbols as in the
// table that a stripped one keeps.
func TestGoroutineStart(t *testing.T) {
	t.Parallel()
	for _, flags := range [][]string{nil, {"-buildmode=pie"}} {
		whole, stripped := buildGoProgram(t, flags...), buildGoProgram(t, append(flags, "-ldflags=-s -w")...)
		bySymbol, err := elf.Open(whole)
		require.NoError(t, err)
		defer bySymbol.Close()
		begin, end, err := functionOf(bySymbol, newproc1)
		require.NoError(t, err)
		fromTable, endOfTable, err := functionOfTable(bySymbol, newproc1)
		require.NoError(t, err)
		assert.Equal(t, begin, fromTable)
		assert.LessOrEqual(t, end, endOfTable)
		for _, name := range []string{whole, stripped} {
			f, err := os.Open(name)
			require.NoError(t, err)
			defer f.Close()
			start, err := readGoroutineStart(f)
			require.NoError(t, err)
			assert.NotEmpty(t, start.returns)
			for _, at := range start.returns {
				assert.Greater(t, at, start.call)
				assert.Less(t, at, start.call+end-begin)
			}
		}
	}
}

func TestGoroutineStartOfWhatHasNone(t *testing.T) {
	t.Parallel()
	f, err := os.Open(buildGoProgram(t))
	require.NoError(t, err)
	defer f.Close()
	file, err := elf.NewFile(f)
	require.NoError(t, err)
	_, err = findGoroutineStart(file, "go1.17.13")
	require.ErrorIs(t, err, errOldGo)
	_, _, err = functionOf(file, "runtime.newproc1.func99")
	require.ErrorIs(t, err, errNoNewproc1)
	_, err = readGoroutineStart(bytes.NewReader([]byte("#!/bin/sh")))
	require.Error(t, err)
}

// TestProbePoints: nothing is probed in code that is not surely understood.
func TestProbePoints(t *testing.T) {
	t.Parallel()
	begin := []byte{0x49, 0x3b, 0x66, 0x10, 0x76, 0x00} // cmp rsp, [r14+16]; jbe
	code := func(more ...byte) []byte { return append(bytes.Clone(begin), more...) }
	for _, tc := range []struct {
		name string
		code []byte
		want []int
	}{
		{"one", code(0x90, 0xc3), []int{7}},
		{"a byte of an instruction that looks like one", code(0xb8, 0xc3, 0xc3, 0xc3, 0xc3, 0xc3, 0xcc), []int{11}},
		{"two", code(0xc3, 0x90, 0xc3), []int{6, 8}},
		{"none", code(0x90), nil},
		{"cut", code(0xc3, 0xb8, 0), nil},
		{"no instruction", code(0xc3, 0x06), nil},
		{"no branch", []byte{0x49, 0x3b, 0x66, 0x10, 0x90, 0xc3}, nil},
		{"the branch comes late", []byte{0x90, 0x90, 0x90, 0x49, 0x3b, 0x66, 0x10, 0x76, 0x00, 0xc3}, nil},
		{"no function of Go", []byte{0x55, 0x48, 0x89, 0xe5, 0xc3}, nil},
		{"nothing", nil, nil},
	} {
		first, got, err := probePoints(elf.EM_X86_64, tc.code)
		assert.Equal(t, tc.want == nil, err != nil, tc.name)
		if err == nil {
			assert.Equal(t, tc.want, got, tc.name)
			assert.Equal(t, 4, first, tc.name)
		}
	}
	arm := []byte{0x90, 0x0b, 0x40, 0xf9, 0x1f, 0x20, 0x03, 0xd5, 0xc0, 0x03, 0x5f, 0xd6}
	_, got, err := probePoints(elf.EM_AARCH64, arm)
	require.NoError(t, err)
	assert.Equal(t, []int{8}, got)
	_, _, err = probePoints(elf.EM_AARCH64, arm[4:])
	require.Error(t, err)
	_, _, err = probePoints(elf.EM_RISCV, arm)
	require.Error(t, err)
}

// TestGoroutineStartOnARM64: what cannot run here can be read.
func TestGoroutineStartOnARM64(t *testing.T) {
	if runtime.GOARCH == "arm64" {
		t.Skip("TestGoroutineStart has it")
	}
	t.Setenv("GOARCH", "arm64")
	f, err := os.Open(buildGoProgram(t, "-ldflags=-s -w"))
	require.NoError(t, err)
	defer f.Close()
	start, err := readGoroutineStart(f)
	require.NoError(t, err)
	assert.NotEmpty(t, start.returns)
}

// FuzzProbePoints: whatever the code, an offset is that of an instruction that returns.
func FuzzProbePoints(f *testing.F) {
	f.Add([]byte{0x49, 0x3b, 0x66, 0x10, 0x76, 0x00, 0xc3})
	f.Fuzz(func(t *testing.T, code []byte) {
		for _, machine := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64} {
			_, offsets, err := probePoints(machine, code)
			if err == nil && len(offsets) == 0 {
				t.Error("no offsets and no error")
			}
			for _, at := range offsets {
				ins, err := x86asm.Decode(code[at:], 64)
				if machine == elf.EM_X86_64 && (err != nil || ins.Op != x86asm.RET) {
					t.Error(ins, err)
				}
			}
		}
	})
}

// BenchmarkGoroutineStart: reading where an executable starts goroutines, once for
// each file.
func BenchmarkGoroutineStart(b *testing.B) {
	f, err := os.Open("/proc/self/exe")
	require.NoError(b, err)
	defer f.Close()
	for b.Loop() {
		if _, err := readGoroutineStart(f); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStartGoroutine: what it costs to start a goroutine with the probes in its
// program, which is this one, and without.
func BenchmarkStartGoroutine(b *testing.B) {
	cfg := createDefaultConfig().(*Config)
	cfg.Programs = ProgramsConfig{HTTP: HTTPConfig{Enabled: true, GoroutineChildren: true}}
	k := openKernel(cfg, programs(cfg), zap.NewNop())
	defer k.close()
	if len(k.failures) > 0 {
		b.Skip(k.failures)
	}
	for _, probed := range []bool{false, true} {
		b.Run(fmt.Sprintf("probed=%v", probed), func(b *testing.B) {
			if probed {
				offset, _ := offsetsOf(nil, runtime.Version())
				require.NoError(b, k.tracer.followGoroutines(processInfo{pid: uint32(os.Getpid())}, offset))
				defer k.tracer.probes.sweep(func(processInfo) bool { return false })
			}
			done := make(chan struct{})
			for b.Loop() {
				go func() { done <- struct{}{} }()
				<-done
			}
		})
	}
}
