//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestGoOffsets: what the table says of this version of Go is what the compiler
// wrote down.
func TestGoOffsets(t *testing.T) {
	t.Parallel()
	name := buildGoServer(t)
	build, err := buildinfo.ReadFile(name)
	require.NoError(t, err)
	file, err := elf.Open(name)
	require.NoError(t, err)
	defer file.Close()
	goid, curg := offsetsOf(file, "devel go1.99-0123456789") // not in the table
	assert.NotZero(t, goid)
	assert.NotZero(t, curg)
	m := releasedGo.FindStringSubmatch(build.GoVersion)
	require.NotNil(t, m, build.GoVersion)
	minor, err := strconv.Atoi(m[1])
	require.NoError(t, err)
	if fromTable, curgFromTable := offsetsOfVersion(minor); fromTable != 0 {
		assert.Equal(t, goid, fromTable)
		assert.Equal(t, curg, curgFromTable)
	}
}

func TestGoOffsetsOfVersions(t *testing.T) {
	t.Parallel()
	file, err := elf.Open(buildGoServer(t, "-ldflags=-s -w"))
	require.NoError(t, err)
	defer file.Close()
	for version, want := range map[string][2]uint32{
		"go1.16.15": {}, "go1.17": {152, 192}, "go1.22.0": {152, 192}, "go1.23.4": {160, 192}, "go1.24rc1": {160, 192},
		"go1.25.0": {152, 184}, "go1.26.8": {152, 184},
		"go1.99.0": {}, "go1.26.8 X:noswissmap": {}, "devel": {}, "": {},
	} {
		goid, curg := offsetsOf(file, version)
		assert.Equal(t, want, [2]uint32{goid, curg}, version)
	}
}

func TestProcessesThatHaveAnSDK(t *testing.T) {
	t.Parallel()
	for environ, want := range map[string]bool{
		"":                       false,
		"PATH=/bin":              false,
		"NOTEL_A=b":              false,
		"OTEL_SERVICE_NAME=cart": true,
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4317":                         true,
		"OTEL_SERVICE_NAME=cart\x00OTEL_SDK_DISABLED=true":                          false,
		"OTEL_TRACES_EXPORTER=none\x00OTEL_SERVICE_NAME=cart":                       false,
		"NODE_OPTIONS=--require @opentelemetry/auto-instrumentations-node/register": true,
		"JAVA_TOOL_OPTIONS=-javaagent:/otel/opentelemetry-javaagent.jar":            true,
		"DD_TRACE_ENABLED=true": true,
	} {
		assert.Equal(t, want, environNamesSDK([]byte(environ)), environ)
	}
	assert.True(t, mapsNameSDK([]byte("7f00-7f01 r--p 0 00:01 9 /memfd:OTEL_CTX (deleted)\n")))
	assert.True(t, mapsNameSDK([]byte("7f00-7f01 r--s 0 00:01 9 /otel/OpenTelemetry-javaagent.jar\n")))
	assert.False(t, mapsNameSDK([]byte("7f00-7f01 r--s 0 00:01 9 /usr/lib/libc.so.6\n")))
	for module, want := range map[string]bool{
		"go.opentelemetry.io/otel/sdk": true, "go.opentelemetry.io/otel": false, "go.opentelemetry.io/otel/sdk/metric": true,
		"gopkg.in/DataDog/dd-trace-go.v1": true, "go.opentelemetry.io/autoexport": false, "github.com/spf13/cobra": false,
	} {
		assert.Equal(t, want, modulesHaveSDK(&buildinfo.BuildInfo{Deps: []*debug.Module{{Path: module}}}), module)
	}
}

func TestInspectOwnProcess(t *testing.T) {
	t.Parallel()
	e := newExecutables("/proc")
	info, err := e.inspect(uint32(os.Getpid()))
	require.NoError(t, err)
	assert.Equal(t, runtimeGo, info.runtime)
	assert.NotZero(t, info.goidOffset)
	again, err := e.inspect(uint32(os.Getpid()))
	require.NoError(t, err)
	assert.Equal(t, info, again)
	assert.Len(t, e.known, 1)
}

func TestInspectWhatIsNoProgram(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	folder := filepath.Join(proc, "7")
	require.NoError(t, os.Mkdir(folder, 0o700))
	e := newExecutables(proc)
	_, err := e.inspect(7)
	require.ErrorIs(t, err, os.ErrNotExist)
	for name, content := range map[string]string{"exe": "#!/bin/sh", "environ": "OTEL_SERVICE_NAME=a", "maps": "7f00 /usr/lib/libnode.so.115\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600))
	}
	info, err := e.inspect(7)
	require.NoError(t, err)
	assert.Equal(t, traceeInfo{runtime: runtimeNode, hasSDK: true}, info)
}

// FuzzExecutable: whatever a file holds that somebody runs, it is read to its end.
func FuzzExecutable(f *testing.F) {
	self, err := os.ReadFile("/bin/true")
	require.NoError(f, err)
	f.Add(self)
	f.Add(self[:len(self)/2])
	f.Add([]byte("\x7fELF" + strings.Repeat("\xff", 60)))
	f.Fuzz(func(t *testing.T, content []byte) {
		if readExecutable(bytes.NewReader(content)).runtime == 0 {
			t.Error("no runtime")
		}
		if start, err := readGoroutineStart(bytes.NewReader(content)); err == nil && len(start.returns) == 0 {
			t.Error("no probe and no error")
		}
	})
}
