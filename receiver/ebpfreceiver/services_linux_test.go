//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
)

// One process began before the receiver and one after it; both have ended when
// the record of their end is made.
func TestServiceNameOfRealProcesses(t *testing.T) {
	requireKernel(t)
	start := func(variable string) (end func() int) {
		cmd := role("exit-later")
		cmd.Env = append(cmd.Env, variable)
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		return func() int {
			_, err := stdin.Write([]byte{1})
			require.NoError(t, err)
			require.Error(t, cmd.Wait())
			return cmd.Process.Pid
		}
	}
	old := start("OTEL_SERVICE_NAME=old")
	r := startRig(t, nil)
	young := start("OTEL_RESOURCE_ATTRIBUTES=service.name=young,service.namespace=shop")
	none := start("OTEL_SERVICE_NAME=")

	assert.Equal(t, "old", r.await(of(event.ProcessExit, old())).Resource[event.KeyServiceName])
	rec := r.await(of(event.ProcessExit, young()))
	assert.Equal(t, "young", rec.Resource[event.KeyServiceName])
	assert.Equal(t, "shop", rec.Resource[event.KeyServiceNamespace])
	assert.NotContains(t, r.await(of(event.ProcessExit, none())).Resource, event.KeyServiceName)
}
