package operations

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
	"github.com/yairfalse/tapio/test/internal/rig"
)

// mended waits until a finding says that its cause is over, and returns it.
func (c *cluster) mended(t *testing.T, id finding.ID) *finding.Finding {
	t.Helper()
	var all []*finding.Finding
	mended := func(f *finding.Finding) bool { return f.ID == id && f.State == finding.StateMended }
	require.Eventually(t, func() bool {
		all = c.collector.Findings(t)
		return slices.ContainsFunc(all, mended)
	}, 30*time.Second, 200*time.Millisecond, "%s mends no finding", event.CNIRecovered)
	f := all[slices.IndexFunc(all, mended)]
	require.NotNil(t, f.MendedAt)
	assert.Contains(t, f.Actions.Immediate[0], "Nothing to do at once: the cause is over since ")
	assert.Contains(t, f.RootCause.Description, "; over since ")
	return f
}

// TestMendedConfiguration: a configuration is broken in one way, in another, and mended: the
// finding says at each time what is so then, and the pods that catch up are no second one.
func TestMendedConfiguration(t *testing.T) {
	c := startCluster(t, "10.197.9.0/24")
	c.rollOut(t)
	file := c.path("net.d", "10-test.conflist")
	good, err := os.ReadFile(file)
	require.NoError(t, err)
	mend := func() { // what is left can be deleted only with a network
		assert.NoError(t, os.WriteFile(file, good, 0o600))
		c.waitReady()
	}
	t.Cleanup(mend)
	require.NoError(t, os.WriteFile(file, []byte("{\n  \"cniVersion\": \"1.0.0\",,\n"), 0o600))
	c.waitFor(t, event.CNIConfigInvalid, "line 2")
	require.Error(t, c.createPayment(t))
	f := c.only(t, "cni-config-broken")
	require.Equal(t, finding.StateOpen, f.State)
	assert.Contains(t, f.Actions.Immediate[0], "line 2")
	assert.Nil(t, f.MendedAt)

	require.NoError(t, os.Remove(file))
	c.waitFor(t, event.CNIConfigMissing)
	gone := c.collector.Only(t, "cni-config-broken", func(f *finding.Finding) bool { return f.RootCause.Event == event.CNIConfigMissing })
	assert.Equal(t, f.ID, gone.ID)
	assert.Equal(t, finding.StateOpen, gone.State)
	assert.Contains(t, gone.RootCause.Description, "No network configuration in "+c.path("net.d"))
	assert.Contains(t, gone.Actions.Immediate[0], "Restore the configuration in "+c.path("net.d"))

	before := time.Now()
	mend()
	f = c.mended(t, f.ID)
	assert.WithinRange(t, *f.MendedAt, before, time.Now())
	_, err = c.runSandbox("payment-3")
	require.NoError(t, err)
	c.collector.TellNotCreated(t, rig.Pod{Namespace: c.host.name, Name: "payment-4", Deployment: "payment", Node: c.name}, fmt.Errorf("told late"))
	rig.Link(t, c.collector.Only(t, "cni-config-broken", func(f *finding.Finding) bool {
		return slices.ContainsFunc(f.Chain, func(l finding.Link) bool { return l.Entity.Name == "payment-4" })
	}), event.K8sEvent, "payment-4")
}

// TestMendedPool: a used-up pool is over when an address is free again.
func TestMendedPool(t *testing.T) {
	c := startCluster(t, "10.197.9.0/29") // five addresses
	c.rollOut(t)
	var pods []string
	for i := range 5 {
		id, err := c.runSandbox(fmt.Sprintf("batch-%d", i))
		require.NoError(t, err)
		pods = append(pods, id)
	}
	require.ErrorContains(t, c.createPayment(t), "no IP addresses available in range set")
	f := c.only(t, "address-pool-exhausted")
	require.Equal(t, finding.StateOpen, f.State)
	require.NoError(t, c.removeSandbox(pods[0]))
	c.mended(t, f.ID)
	_, err := c.runSandbox("payment-3")
	require.NoError(t, err)
}
