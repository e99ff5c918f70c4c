package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	root := filepath.Join("testdata", "repo")
	components, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join("testdata", "want.md"))
	if err != nil {
		t.Fatal(err)
	}
	if got := render(components); got != string(want) {
		t.Errorf("page differs from testdata/want.md; got:\n%s", got)
	}
	if want, err = os.ReadFile(filepath.Join("testdata", "want_telemetry.md")); err != nil {
		t.Fatal(err)
	}
	if got := renderTelemetry(components); got != string(want) {
		t.Errorf("page differs from testdata/want_telemetry.md; got:\n%s", got)
	}
}

// The pages in the repository are what its components declare now.
func TestPagesAreCurrent(t *testing.T) {
	root := filepath.Join("..", "..")
	components, err := load(root)
	if err != nil {
		t.Fatal(err)
	}
	for page, text := range pages {
		got, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != text(components) {
			t.Errorf("%s is stale: run make generate and commit it", page)
		}
	}
}

func TestUndeclaredAttribute(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "receiver", "x")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	yaml := "type: x\nattributes: {a: {description: A, type: string}}\nevents: {e: {enabled: true, description: E, attributes: [a, b]}}\n"
	if err := os.WriteFile(filepath.Join(dir, "metadata.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := load(root)
	if err == nil || !strings.Contains(err.Error(), `events::e::attributes: "b"`) {
		t.Errorf("got %v, want an error that names the event and b", err)
	}
}

func TestNoYAML(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "receiver", "x")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "metadata.yaml"), []byte("type: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(root); err == nil || !strings.Contains(err.Error(), "metadata.yaml") {
		t.Errorf("got %v, want an error that names the file", err)
	}
}

func TestArguments(t *testing.T) {
	if err := run(nil); err == nil {
		t.Error("no argument was accepted")
	}
}
