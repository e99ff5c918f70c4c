package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

func TestID(t *testing.T) {
	host, container := strings.Repeat("a1", 16), strings.Repeat("b2", 16)
	for name, tc := range map[string]struct {
		files map[string]string
		want  string
	}{
		"that of the host comes first":         {map[string]string{"host/etc/machine-id": host + "\n", "own/etc/machine-id": container + "\n"}, host},
		"the host's cannot be read":            {map[string]string{"own/etc/machine-id": container + "\n"}, container},
		"the host has D-Bus and no systemd":    {map[string]string{"host/var/lib/dbus/machine-id": host + "\n", "own/etc/machine-id": container}, host},
		"the host boots for the first time":    {map[string]string{"host/etc/machine-id": "uninitialized\n", "own/etc/machine-id": container}, container},
		"the image was built without one":      {map[string]string{"own/etc/machine-id": ""}, ""},
		"no file":                              {nil, ""},
		"a file that is something else":        {map[string]string{"host/etc/machine-id": host + host}, ""},
		"a directory in the place of the file": {map[string]string{"host/etc/machine-id/x": host}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for path, text := range tc.files {
				path = filepath.Join(dir, path)
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			}
			assert.Equal(t, tc.want, firstID("", filepath.Join(dir, "host"), filepath.Join(dir, "own")))
		})
	}
}

func TestRead(t *testing.T) {
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "etc"), 0o755))
	id := strings.Repeat("c3", 16)
	require.NoError(t, os.WriteFile(filepath.Join(root, "etc", "machine-id"), []byte(id+"\n"), 0o600))
	info, err := Read("node-7", root)
	require.NoError(t, err)
	assert.Equal(t, Info{Name: "node-7", ID: id}, info)
	attrs := pcommon.NewMap()
	info.Describe(attrs)
	assert.Equal(t, map[string]any{"host.name": "node-7", "host.id": id}, attrs.AsRaw())

	info, err = Read("", root)
	require.NoError(t, err)
	name, err := os.Hostname()
	require.NoError(t, err)
	assert.Equal(t, name, info.Name)

	attrs = pcommon.NewMap()
	Info{Name: "node-7"}.Describe(attrs)
	assert.Equal(t, map[string]any{"host.name": "node-7"}, attrs.AsRaw(), "no id is no attribute")
}
