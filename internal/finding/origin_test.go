package finding_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/internal/finding/findingtest"
)

func TestOwnIsWhatThisProcessWrote(t *testing.T) {
	_, r := overTheWire(t, findingtest.Full())
	assert.True(t, finding.Own(r))
	r.Attributes().PutStr("added.by.a.processor", "x")
	r.Attributes().PutStr(finding.KeyTitle, "changed by a processor")
	assert.True(t, finding.Own(r))
}

func TestOwnRefusesForgeries(t *testing.T) {
	_, other := overTheWire(t, findingtest.Minimal(2))
	otherOrigin, _ := other.Attributes().Get(finding.KeyOrigin)
	for name, forge := range map[string]func(plog.LogRecord){
		"no origin":        func(r plog.LogRecord) { r.Attributes().Remove(finding.KeyOrigin) },
		"empty origin":     func(r plog.LogRecord) { r.Attributes().PutStr(finding.KeyOrigin, "") },
		"invented origin":  func(r plog.LogRecord) { r.Attributes().PutStr(finding.KeyOrigin, strings.Repeat("0", 64)) },
		"of another":       func(r plog.LogRecord) { r.Attributes().PutStr(finding.KeyOrigin, otherOrigin.Str()) },
		"higher revision":  func(r plog.LogRecord) { r.Attributes().PutInt(finding.KeyRevision, 1<<40) },
		"without revision": func(r plog.LogRecord) { r.Attributes().Remove(finding.KeyRevision) },
		"other id":         func(r plog.LogRecord) { r.Attributes().PutStr(finding.KeyID, findingtest.Minimal(2).ID.String()) },
		"without id":       func(r plog.LogRecord) { r.Attributes().Remove(finding.KeyID) },
	} {
		t.Run(name, func(t *testing.T) {
			_, r := overTheWire(t, findingtest.Full())
			require.True(t, finding.Own(r))
			forge(r)
			assert.False(t, finding.Own(r))
		})
	}
	assert.False(t, finding.Own(plog.NewLogRecord()))
}

// originOutput makes this test's child process print an origin.
const originOutput = "TAPIO_TEST_PRINT_ORIGIN"

func TestOriginDiffersBetweenProcesses(t *testing.T) {
	_, r := overTheWire(t, findingtest.Full())
	here, ok := r.Attributes().Get(finding.KeyOrigin)
	require.True(t, ok)
	if os.Getenv(originOutput) != "" {
		_, err := os.Stdout.WriteString("origin=" + here.Str() + "\n")
		require.NoError(t, err)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^"+t.Name()+"$") // #nosec G204 -- this test itself
	cmd.Env = append(os.Environ(), originOutput+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	_, there, ok := strings.Cut(string(out), "origin=")
	require.True(t, ok, string(out))
	there, _, _ = strings.Cut(there, "\n")
	require.Len(t, there, 64)
	r.Attributes().PutStr(finding.KeyOrigin, there)
	assert.False(t, finding.Own(r))
}
