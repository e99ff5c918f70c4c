package operations

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
)

// TestReceiverEndsBeforePlugin: a plugin that hangs has lasted until then, and its spans
// name it.
func TestReceiverEndsBeforePlugin(t *testing.T) {
	requireParts(t)
	h := newHost(t)
	require.NoError(t, os.Mkdir(h.path("bin"), 0o755))
	require.NoError(t, os.WriteFile(h.path("bin", "hangs"), []byte("#!/bin/sh\nread never\n"), 0o755))
	w := startReceiver(t, h, nil)
	netns := "/run/netns/" + h.name + "-hangs"
	cmd := exec.Command(h.path("bin", "hangs"))
	cmd.Env = append(os.Environ(), "CNI_COMMAND=ADD", "CNI_CONTAINERID="+h.name, "CNI_NETNS="+netns, "CNI_IFNAME=eth0", "CNI_PATH="+h.path("bin"))
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	started := time.Now()
	require.Eventually(t, func() bool { return w.held()["calls"] > 0 }, waitLimit, waitStep)
	lasted := time.Since(started)
	w.stop()
	spans := w.spans(is(event.KeyCNINetns, netns))
	require.Len(t, spans, 2)
	for _, s := range spans {
		assert.Equal(t, "hangs", text(s.Attributes(), event.KeyCNIPlugin), s.Name())
		assert.Equal(t, event.ErrorNotFinished, text(s.Attributes(), event.KeyErrorType), s.Name())
		assert.Equal(t, ptrace.StatusCodeUnset, s.Status().Code(), "the end of the collector is no failure")
		// started is after the exec, which fork and exec of Start wait for.
		assert.GreaterOrEqual(t, s.EndTimestamp().AsTime().Sub(s.StartTimestamp().AsTime()), lasted)
	}
}
