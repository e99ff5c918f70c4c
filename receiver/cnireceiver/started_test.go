package cnireceiver

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// TestStartedWarnsWhenNoPluginIsThere: the node has none, or plugin_dirs is wrong.
func TestStartedWarnsWhenNoPluginIsThere(t *testing.T) {
	t.Parallel()
	cfg := createDefaultConfig().(*Config)
	at := func(plugins map[string]*state.PluginFile) state.Event {
		return started(cfg, &state.Picture{Plugins: plugins}, nil, nil)
	}
	none := at(map[string]*state.PluginFile{"bridge": nil, "host-local": nil})
	assert.Equal(t, plog.SeverityNumberWarn, none.Severity)
	assert.Contains(t, none.Body, "plugin_dirs")
	assert.Equal(t, plog.SeverityNumberInfo, at(map[string]*state.PluginFile{"bridge": {Path: "/opt/cni/bin/bridge"}, "host-local": nil}).Severity)
	assert.Equal(t, plog.SeverityNumberInfo, at(nil).Severity, "there is no configuration either")
	assert.Equal(t, event.CNIStarted, none.Name)
}
