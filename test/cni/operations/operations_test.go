package operations

import (
	"debug/elf"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/event"
)

// startWarm starts a receiver as it is by default: that looks at what plugins
// write only once it has seen one.
func startWarm(t *testing.T, h *host) *watch {
	t.Helper()
	w := startReceiver(t, h, nil)
	netns := h.namespace("warm")
	out, err := h.cnitool("add", netns)
	require.NoError(t, err, out)
	out, err = h.cnitool("del", netns)
	require.NoError(t, err, out)
	return w
}

const (
	waitLimit = 6 * time.Second
	waitStep  = 20 * time.Millisecond
)

// chain is a second plugin, which does nothing here.
const chain = `{"type":"portmap","capabilities":{"portMappings":true}}`

func TestAddCheckDel(t *testing.T) {
	requireParts(t)
	h := newHost(t)
	network := h.network("10.197.1.0/24", chain)
	w := startWarm(t, h)
	netns := h.namespace("pod")
	for _, command := range []string{"add", "check", "del"} {
		out, err := h.cnitool(command, netns)
		require.NoError(t, err, out)
	}
	w.eventually(is(event.KeyCNINetns, netns), `cni ADD ok
  bridge ADD ok
    host-local ADD ok
  portmap ADD ok
cni CHECK ok
  bridge CHECK ok
    host-local CHECK ok
  portmap CHECK ok
cni DEL ok
  portmap DEL ok
  bridge DEL ok
    host-local DEL ok
`)
	for _, s := range w.spans(is(event.KeyCNINetns, netns)) {
		assert.Equal(t, "eth0", text(s.Attributes(), event.KeyInterfaceName))
		assert.Equal(t, network, text(s.Attributes(), event.KeyCNINetwork), s.Name())
		assert.Equal(t, h.name+"-pod", text(s.Attributes(), event.KeyPodName))
		assert.Equal(t, "shop", text(s.Attributes(), event.KeyNamespaceName))
		assert.Equal(t, "uid-1", text(s.Attributes(), event.KeyPodUID))
		assert.NotEmpty(t, text(s.Attributes(), event.KeyContainerID))
		assert.Less(t, s.StartTimestamp(), s.EndTimestamp())
		if s.ParentSpanID().IsEmpty() {
			continue
		}
		assert.Equal(t, "0", text(s.Attributes(), event.KeyProcessExitCode))
		assert.Equal(t, pluginDir+"/"+text(s.Attributes(), event.KeyCNIPlugin), text(s.Attributes(), event.KeyProcessExecutablePath))
	}
	assert.Empty(t, w.failures(event.KeyCNINetns, netns))
}

func TestExhaustedRange(t *testing.T) {
	requireParts(t)
	h := newHost(t)
	network := h.network("10.197.2.0/30") // one address beside the gateway's
	w := startWarm(t, h)
	first, second := h.namespace("first"), h.namespace("second")
	out, err := h.cnitool("add", first)
	require.NoError(t, err, out)
	defer func() { _, _ = h.cnitool("del", first) }()
	_, err = h.cnitool("add", second)
	require.Error(t, err)
	defer func() { _, _ = h.cnitool("del", second) }()

	w.eventually(is(event.KeyCNINetns, second), `cni ADD address_pool_exhausted
  bridge ADD address_pool_exhausted
    host-local ADD address_pool_exhausted
`)
	require.Eventually(t, func() bool { return len(w.failures(event.KeyCNINetns, second)) == 1 }, waitLimit, waitStep)
	record := w.failures(event.KeyCNINetns, second)[0]
	assert.Equal(t, "host-local", text(record.Attributes(), event.KeyCNIPlugin))
	assert.Equal(t, network, text(record.Attributes(), event.KeyCNINetwork))
	assert.Equal(t, "999", text(record.Attributes(), event.KeyCNIErrorCode))
	const message = "failed to allocate for range 0: no IP addresses available in range set: 10.197.2.1-10.197.2.2"
	assert.Equal(t, message, text(record.Attributes(), event.KeyCNIErrorMessage))
	assert.Equal(t, "1", text(record.Attributes(), event.KeyProcessExitCode))
	assert.Equal(t, "Pod shop/"+h.name+"-second: CNI ADD of eth0 in network "+network+" failed: host-local: "+message, record.Body().Str())
	spans := w.spans(func(s ptrace.Span) bool { return s.SpanID() == record.SpanID() })
	require.Len(t, spans, 1)
	assert.Equal(t, "host-local ADD", spans[0].Name())
	assert.Equal(t, message, spans[0].Status().Message())
}

// TestUnknownPlugin: a delegate that is not there is the failure of who wanted it.
// One that the runtime does not find is never executed; the receiver tells of its
// configuration instead (tapio.cni.plugin.missing).
func TestUnknownPlugin(t *testing.T) {
	requireParts(t)
	h := newHost(t)
	h.network("10.197.3.0/24")
	w := startWarm(t, h)
	h.networkOf(`{"type":"bridge","bridge":"br0","ipam":{"type":"nosuch"}}`)
	netns := h.namespace("pod")
	_, err := h.cnitool("add", netns)
	require.Error(t, err)
	w.eventually(is(event.KeyCNINetns, netns), "cni ADD plugin_missing\n  bridge ADD plugin_missing\n")
	require.Eventually(t, func() bool { return len(w.failures(event.KeyCNINetns, netns)) == 1 }, waitLimit, waitStep)
	assert.Contains(t, text(w.failures(event.KeyCNINetns, netns)[0].Attributes(), event.KeyCNIErrorMessage), `failed to find plugin "nosuch" in path [`+pluginDir)

	h.networkOf(`{"type":"nosuch"}`)
	other := h.namespace("other")
	_, err = h.cnitool("add", other)
	require.Error(t, err)
	w.stop()
	assert.Empty(t, w.spans(is(event.KeyCNINetns, other)))
}

// TestForeignPlugin: a plugin for another processor is there, and the kernel does not run
// it: both halves say so, the one from its file, the other in the words of who called it.
func TestForeignPlugin(t *testing.T) {
	requireParts(t)
	h := newHost(t)
	h.ownPlugins("bridge", "host-local")
	h.network("10.197.22.0/24")
	foreign := h.path("plugins", "host-local")
	content, err := os.ReadFile(foreign)
	require.NoError(t, err)
	const machineAt = 18 // e_machine in the header of an ELF file
	content[machineAt], content[machineAt+1] = byte(elf.EM_PPC64), 0
	require.NoError(t, os.WriteFile(foreign, content, 0o755))
	w := startReceiver(t, h, map[string]any{"operations": map[string]any{"output": "always"}, "plugin_dirs": []any{h.plugins}})
	netns := h.namespace("pod")
	out, err := h.cnitoolWith(h.plugins, "add", netns)
	require.Error(t, err)
	assert.Contains(t, out, "exec format error", "the kernel's own word")
	w.eventually(is(event.KeyCNINetns, netns), "cni ADD plugin_not_executable\n  bridge ADD plugin_not_executable\n")
	require.Eventually(t, func() bool { return len(w.named(event.CNIPluginMissing)) == 1 }, waitLimit, waitStep)
	reason := text(w.named(event.CNIPluginMissing)[0].Attributes(), event.KeyCNIReason)
	assert.Contains(t, reason, foreign+": it is a program for another processor (ppc64, not ")
}

// TestRelativePathsAndLinks: plugins are the same however they are called: by a path
// that begins in the working directory, through a directory that is a link, through a
// link to the plugin.
func TestRelativePathsAndLinks(t *testing.T) {
	requireParts(t)
	h := newHost(t)
	network := h.network("10.197.21.0/24")
	config, err := os.ReadFile(h.path("net.d", "10-test.conflist"))
	require.NoError(t, err)
	var list struct {
		Plugins []json.RawMessage `json:"plugins"`
	}
	require.NoError(t, json.Unmarshal(config, &list))
	stdin := `{"cniVersion":"1.0.0","name":"` + network + `",` + string(list.Plugins[0][1:])
	require.NoError(t, os.Symlink(pluginDir, h.path("link")))
	require.NoError(t, os.Mkdir(h.path("bin"), 0o755))
	require.NoError(t, os.Symlink(pluginDir+"/bridge", h.path("bin", "br")))
	w := startReceiver(t, h, map[string]any{"operations": map[string]any{"output": "always"}})
	for name, call := range map[string]struct{ dir, path, search, plugin, executable string }{
		"absolute":           {"/", pluginDir + "/bridge", pluginDir, "bridge", pluginDir + "/bridge"},
		"relative":           {pluginDir, "./bridge", pluginDir, "bridge", pluginDir + "/bridge"},
		"relative CNI_PATH":  {filepath.Dir(pluginDir), filepath.Base(pluginDir) + "/bridge", filepath.Base(pluginDir), "bridge", pluginDir + "/bridge"},
		"linked directory":   {"/", h.path("link", "bridge"), pluginDir, "bridge", h.path("link", "bridge")},
		"CNI_PATH is a link": {"/", pluginDir + "/bridge", h.path("link"), "bridge", pluginDir + "/bridge"},
		"linked plugin":      {h.path("bin"), "./br", pluginDir, "bridge", pluginDir + "/bridge"},
	} {
		netns := h.namespace(strings.ReplaceAll(name, " ", "-"))
		for _, command := range []string{"ADD", "DEL"} {
			cmd := h.command("sh", "-c", "cd "+call.dir+" && exec "+call.path)
			cmd.Stdin = strings.NewReader(stdin)
			cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+h.name, "CNI_NETNS="+netns, "CNI_IFNAME=eth0", "CNI_PATH="+call.search)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s", name, out)
		}
		w.eventually(is(event.KeyCNINetns, netns), "cni ADD ok\n  bridge ADD ok\n    host-local ADD ok\ncni DEL ok\n  bridge DEL ok\n    host-local DEL ok\n")
		for _, s := range w.spans(is(event.KeyCNINetns, netns)) {
			if strings.HasPrefix(s.Name(), "bridge ") {
				assert.Equal(t, call.executable, text(s.Attributes(), event.KeyProcessExecutablePath), name)
			}
		}
	}
}

func TestDoubledAdd(t *testing.T) {
	requireParts(t)
	h := newHost(t)
	h.network("10.197.4.0/24")
	w := startWarm(t, h)
	netns := h.namespace("pod")
	out, err := h.cnitool("add", netns)
	require.NoError(t, err, out)
	defer func() { _, _ = h.cnitool("del", netns) }()
	_, err = h.cnitool("add", netns)
	require.Error(t, err)
	w.eventually(is(event.KeyCNINetns, netns), `cni ADD ok
  bridge ADD ok
    host-local ADD ok
cni ADD interface_exists
  bridge ADD interface_exists
`)
	require.Eventually(t, func() bool { return len(w.failures(event.KeyCNINetns, netns)) == 1 }, waitLimit, waitStep)
	assert.Contains(t, text(w.failures(event.KeyCNINetns, netns)[0].Attributes(), event.KeyCNIErrorMessage), `container veth name provided (eth0) already exists`)
}

func TestMissingNetns(t *testing.T) {
	requireParts(t)
	h := newHost(t)
	h.network("10.197.5.0/24")
	w := startWarm(t, h)
	netns := "/run/netns/" + h.name + "-gone"
	require.NoFileExists(t, netns)
	_, err := h.cnitool("add", netns)
	require.Error(t, err)
	w.eventually(is(event.KeyCNINetns, netns), "cni ADD netns_missing\n  bridge ADD netns_missing\n")
	require.Eventually(t, func() bool { return len(w.failures(event.KeyCNINetns, netns)) == 1 }, waitLimit, waitStep)
}

// TestOutputNever: the operations are there, what plugins read and write is not.
func TestOutputNever(t *testing.T) {
	requireParts(t)
	h := newHost(t)
	h.network("10.197.6.0/24")
	w := startReceiver(t, h, map[string]any{"operations": map[string]any{"output": "never"}})
	netns := "/run/netns/" + h.name + "-gone"
	_, err := h.cnitool("add", netns)
	require.Error(t, err)
	w.eventually(is(event.KeyCNINetns, netns), "cni ADD plugin_failed\n  bridge ADD plugin_failed\n")
	for _, s := range w.spans(is(event.KeyCNINetns, netns)) {
		assert.Equal(t, "exit code 1", s.Status().Message())
		assert.Empty(t, text(s.Attributes(), event.KeyCNINetwork))
	}
}

// TestOperationsOff: nothing is watched, while another receiver sees what happens.
func TestOperationsOff(t *testing.T) {
	requireParts(t)
	h := newHost(t)
	h.network("10.197.7.0/24")
	off := startReceiver(t, h, map[string]any{"operations": map[string]any{"enabled": false}})
	on := startReceiver(t, h, map[string]any{"operations": map[string]any{"enabled": true}})
	netns := h.namespace("pod")
	_, err := h.cnitool("add", netns)
	require.NoError(t, err)
	_, err = h.cnitool("del", netns)
	require.NoError(t, err)
	off.stop()
	on.stop()
	assert.NotEmpty(t, on.spans(is(event.KeyCNINetns, netns)))
	assert.Empty(t, off.spans(func(ptrace.Span) bool { return true }))
}
