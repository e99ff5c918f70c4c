package docscheck

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	link = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	// A target stands in backticks, or at the start of an indented line of code.
	command = regexp.MustCompile("(?m)(?:`|^    )make((?: [a-z][a-z0-9-]*)+)")
	target  = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):.*## `)
)

// Links to other sites are not followed: a test needs no network.
func TestLinksLeadSomewhere(t *testing.T) {
	for page, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			to, _, _ := strings.Cut(m[1], "#")
			if to == "" || strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			if _, err := os.Stat(fromRoot(path.Join(path.Dir(page), to))); err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
			}
		}
	}
}

func TestMakeTargetsExist(t *testing.T) {
	targets := make(map[string]bool)
	for _, m := range target.FindAllStringSubmatch(string(readFile(t, "Makefile")), -1) {
		targets[m[1]] = true
	}
	named := 0
	for page, text := range pages(t) {
		for _, m := range command.FindAllStringSubmatch(text, -1) {
			for _, name := range strings.Fields(m[1]) {
				named++
				if !targets[name] {
					t.Errorf("%s: make %s: the Makefile has no such target", page, name)
				}
			}
		}
	}
	if named == 0 {
		t.Error("no page names a make target: the expression that finds them is wrong")
	}
}

// pages returns the text of every Markdown page, by its path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := fs.WalkDir(os.DirFS(fromRoot(".")), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || name != "." && strings.HasPrefix(entry.Name(), ".") || name == "bin"):
			return fs.SkipDir
		case filepath.Ext(name) == ".md":
			found[name] = string(readFile(t, name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found["README.md"] == "" {
		t.Fatal("README.md was not found")
	}
	return found
}
