package snapshot

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is said to be no program, the kernel does not run either.
func TestExecutableProblem(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	whole, err := os.ReadFile(self)
	require.NoError(t, err)
	foreign := bytes.Clone(whole)
	foreign[18], foreign[19] = byte(elf.EM_PPC64), 0 // e_machine
	own := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if own == "" {
		t.Skip("the programs of this processor are not known")
	}
	for name, tc := range map[string]struct {
		content []byte
		want    string
	}{
		"foreign":       {foreign, "it is a program for another processor (ppc64, not " + own + ")"},
		"whole":         {whole, ""},
		"script":        {[]byte("#!/bin/sh\nexit 0\n"), ""},
		"half":          {whole[:len(whole)/4], "it is cut short"},
		"header only":   {whole[:64], "it is cut short"},
		"half a header": {whole[:20], "it is cut short"},
		"zeros":         {make([]byte, 4096), "it is neither a program (ELF) nor a script (#!)"},
		"text":          {[]byte("exit 0\n"), "it is neither a program (ELF) nor a script (#!)"},
		"one byte":      {[]byte("#"), "it is neither a program (ELF) nor a script (#!)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tc.want, executableProblem(bytes.NewReader(tc.content), int64(len(tc.content)), false))
			path := filepath.Join(t.TempDir(), "plugin")
			require.NoError(t, os.WriteFile(path, tc.content, 0o755))
			var err error = syscall.ETXTBSY // while a process that another test has just forked has the file open
			for errors.Is(err, syscall.ETXTBSY) {
				err = exec.Command(path, "-test.list=^none$").Run()
			}
			assert.Equal(t, tc.want == "", err == nil, "%v", err)
		})
	}
}

// Where an interpreter is registered, the kernel may run what is for another processor.
func TestForeignProgramsWithAnInterpreter(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	require.NoError(t, err)
	program, err := os.ReadFile(self)
	require.NoError(t, err)
	program[18], program[19] = byte(elf.EM_PPC64), 0
	assert.Empty(t, executableProblem(bytes.NewReader(program), int64(len(program)), true))

	root := t.TempDir()
	r := NewReader(Options{Root: root})
	assert.False(t, r.interpreters())
	require.NoError(t, os.MkdirAll(filepath.Join(root, binfmt), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(root, binfmt, "status"), []byte("enabled"), 0o600))
	assert.False(t, r.interpreters())
	require.NoError(t, os.WriteFile(filepath.Join(root, binfmt, "qemu-ppc64"), []byte("enabled"), 0o600))
	assert.True(t, r.interpreters())
}

func FuzzExecutableProblem(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Add([]byte("#!/bin/sh\n"))
	self, err := os.Executable()
	require.NoError(f, err)
	program, err := os.ReadFile(self)
	require.NoError(f, err)
	f.Add(program[:2048])
	f.Fuzz(func(_ *testing.T, content []byte) {
		_ = executableProblem(bytes.NewReader(content), int64(len(content)), false)
	})
}
