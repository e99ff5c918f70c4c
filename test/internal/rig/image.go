package rig

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// PauseImage is the name of the only image of containerd here: nothing is pulled.
const PauseImage = "tapio.test/pause:1"

// WritePauseImage builds the program pause and packs it into an OCI image layout.
func WritePauseImage(t *testing.T, path string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "pause")
	Build(t, program, "pause")
	text, err := os.ReadFile(program)
	require.NoError(t, err)

	layer := archive(t, file{"pause", 0o755, text})
	config := fmt.Appendf(nil, `{"architecture":%q,"os":"linux","config":{"Entrypoint":["/pause"]},"rootfs":{"type":"layers","diff_ids":[%q]}}`,
		runtime.GOARCH, digest(layer))
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[%s]}`,
		descriptor("application/vnd.oci.image.config.v1+json", config), descriptor("application/vnd.oci.image.layer.v1.tar", layer))
	index := fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d,"annotations":{"io.containerd.image.name":%q}}]}`,
		digest(manifest), len(manifest), PauseImage)
	files := []file{{"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", 0o644, index}}
	for _, blob := range [][]byte{layer, config, manifest} {
		files = append(files, file{"blobs/sha256/" + digest(blob)[len("sha256:"):], 0o644, blob})
	}
	require.NoError(t, os.WriteFile(path, archive(t, files...), 0o600))
}

// Build builds a program of this package, such as pause, without cgo.
func Build(t *testing.T, path, name string) {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/yairfalse/tapio/test/internal/rig/"+name) //nolint:gosec // nothing of it comes from outside
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

type file struct {
	name string
	mode int64
	text []byte
}

func archive(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.text))}))
		_, err := w.Write(f.text)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func digest(blob []byte) string {
	sum := sha256.Sum256(blob)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func descriptor(mediaType string, blob []byte) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digest(blob), len(blob))
}
