package cni

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension/extensiontest"

	"github.com/yairfalse/tapio/extension/tapioextension"
)

// storageHost is a collector with the extension tapio, whose database is in a file.
type storageHost struct{ extension component.Component }

var storageID = component.MustNewID("tapio")

func (h storageHost) GetExtensions() map[component.ID]component.Component {
	return map[component.ID]component.Component{storageID: h.extension}
}

// watchWithStorage starts a receiver that keeps what is wrong in a database of the node.
func (n *node) watchWithStorage() *watch {
	n.t.Helper()
	factory := tapioextension.NewFactory()
	cfg := factory.CreateDefaultConfig().(*tapioextension.Config)
	cfg.Path, cfg.HTTP.NetAddr.Endpoint = n.path("tapio.db"), "127.0.0.1:0"
	extension, err := factory.Create(context.Background(), extensiontest.NewNopSettings(factory.Type()), cfg)
	require.NoError(n.t, err)
	require.NoError(n.t, extension.Start(context.Background(), componenttest.NewNopHost()))
	w := n.watchOn(storageHost{extension}, map[string]any{"storage": storageID.String()})
	stop := w.stop
	stopped := false
	w.stop = func() {
		if !stopped {
			stopped = true
			stop()
			assert.NoError(n.t, extension.Shutdown(context.Background()))
		}
	}
	n.t.Cleanup(w.stop)
	return w
}

// What is broken before the receiver stops, mended or broken anew while it is away, and
// left as it is.
func TestOverARestart(t *testing.T) {
	n := newNode(t)
	n.configure("10.96.30.0/29") // five addresses
	w := n.watchWithStorage()
	one, two, dead := n.newPod("one"), n.newPod("two"), n.newPod("dead")
	for _, p := range []*pod{one, two, dead} {
		_, err := p.add()
		require.NoError(t, err)
	}
	w.expect("tapio.cni.interface", map[string]any{"container.id": "dead"})

	stands := map[string]map[string]any{
		"tapio.cni.address.leaked": {"tapio.cni.address": "10.96.30.4"},
		"tapio.cni.config.invalid": {"file.path": n.path("config", "99-broken.conflist")},
	}
	mended := map[string]map[string]any{
		"tapio.cni.namespace.leaked": {"tapio.cni.netns": dead.netns},
		"tapio.cni.route.missing":    {"container.id": "one"},
		"tapio.cni.interface.down":   {"container.id": "two"},
	}
	dead.kill()
	n.writeConfig("99-broken.conflist", `{"name": "broken",}`)
	one.run("ip", "route", "del", "default")
	two.run("ip", "link", "set", "eth0", "down")
	times := map[string]time.Time{}
	for _, all := range []map[string]map[string]any{stands, mended} {
		for name, want := range all {
			times[name] = w.expect(name, want).Timestamp().AsTime()
		}
	}
	w.stop()

	n.removeNamespace(dead.netns)
	one.run("ip", "route", "add", "default", "via", "10.96.30.1")
	two.run("ip", "link", "set", "eth0", "up")
	two.run("ip", "route", "add", "default", "via", "10.96.30.1")
	require.NoError(t, os.Remove(n.path("plugins", "host-local")))
	away := time.Now()

	w = n.watchWithStorage()
	for name, want := range stands {
		assert.Equal(t, times[name], w.expect(name, want).Timestamp().AsTime(), name)
	}
	for name, want := range mended {
		w.expectOver(name, want)
		assert.Empty(t, w.records(name), name)
	}
	for _, over := range w.records("tapio.cni.recovered") {
		assert.Contains(t, over.Body().Str(), "Over when the collector looked again after its start, at ")
		assert.False(t, over.Timestamp().AsTime().Before(away.Truncate(time.Microsecond)))
	}
	fresh := w.expect("tapio.cni.plugin.missing", map[string]any{"tapio.cni.plugin": "host-local"})
	assert.False(t, fresh.Timestamp().AsTime().Before(away.Truncate(time.Microsecond)))
	w.stop()

	w = n.watchWithStorage()
	w.expect("tapio.cni.plugin.missing", map[string]any{"tapio.cni.plugin": "host-local"})
	w.expect("tapio.cni.address.leaked", stands["tapio.cni.address.leaked"])
	w.stop()
	assert.Empty(t, w.records("tapio.cni.recovered"), "their end was told")
}
