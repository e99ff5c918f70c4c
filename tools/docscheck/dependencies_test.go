package docscheck

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"gopkg.in/yaml.v3"
)

const ours = "github.com/yairfalse/tapio"

func TestDependenciesPage(t *testing.T) {
	listed := sections(string(readFile(t, "docs/dependencies.md")))
	for section, required := range map[string][]string{
		"Ours: go.mod": append(direct(t, "go.mod"), directIfThere(t, "test/go.mod")...),
		"In the distribution: builder-config.yaml": manifest(t),
		"Tools: tools/go.mod":                      append(direct(t, "tools/go.mod"), tools(t)...),
	} {
		entries := listed[section]
		if len(entries) == 0 || len(required) == 0 {
			t.Fatalf("%s: %d entries on the page, %d required: one of them was not read", section, len(entries), len(required))
		}
		for _, module := range required {
			if !matchesAny(entries, module) {
				t.Errorf("docs/dependencies.md, %q: %s is missing", section, module)
			}
		}
		for _, entry := range entries {
			if !usedBy(entry, required) {
				t.Errorf("docs/dependencies.md, %q: nothing requires %s", section, entry)
			}
		}
	}
}

// sections returns the first column of the tables of a page, by heading.
func sections(page string) map[string][]string {
	row := regexp.MustCompile("^\\| `([^`]+)` \\|")
	found := make(map[string][]string)
	heading := ""
	for line := range strings.Lines(page) {
		if h, ok := strings.CutPrefix(line, "## "); ok {
			heading = strings.TrimSpace(h)
		} else if m := row.FindStringSubmatch(line); m != nil {
			found[heading] = append(found[heading], m[1])
		}
	}
	return found
}

func matchesAny(entries []string, module string) bool {
	for _, entry := range entries {
		if matches(entry, module) {
			return true
		}
	}
	return false
}

func usedBy(entry string, modules []string) bool {
	for _, module := range modules {
		if matches(entry, module) {
			return true
		}
	}
	return false
}

// matches says whether entry, a module or a prefix that ends in "/...", covers
// module.
func matches(entry, module string) bool {
	if prefix, ok := strings.CutSuffix(entry, "/..."); ok {
		return module == prefix || strings.HasPrefix(module, prefix+"/")
	}
	return module == entry
}

func direct(t *testing.T, file string) []string {
	t.Helper()
	var modules []string
	for _, r := range parse(t, file).Require {
		if !r.Indirect && r.Mod.Path != ours {
			modules = append(modules, r.Mod.Path)
		}
	}
	return modules
}

func directIfThere(t *testing.T, file string) []string {
	t.Helper()
	if _, err := os.Stat(fromRoot(file)); err != nil {
		return nil
	}
	return direct(t, file)
}

func tools(t *testing.T) []string {
	t.Helper()
	var packages []string
	for _, tool := range parse(t, "tools/go.mod").Tool {
		packages = append(packages, tool.Path)
	}
	return packages
}

func parse(t *testing.T, file string) *modfile.File {
	t.Helper()
	f, err := modfile.Parse(file, readFile(t, file), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// manifest returns the modules of others in builder-config.yaml.
func manifest(t *testing.T) []string {
	t.Helper()
	var sections map[string]yaml.Node
	if err := yaml.Unmarshal(readFile(t, "builder-config.yaml"), &sections); err != nil {
		t.Fatal(err)
	}
	var modules []string
	for name, node := range sections {
		if name == "dist" || name == "replaces" {
			continue
		}
		var entries []struct {
			GoMod string `yaml:"gomod"`
		}
		if err := node.Decode(&entries); err != nil {
			t.Fatalf("builder-config.yaml: %s: %v", name, err)
		}
		for _, e := range entries {
			if module, _, _ := strings.Cut(e.GoMod, " "); module != ours {
				modules = append(modules, module)
			}
		}
	}
	return modules
}

func fromRoot(file string) string {
	return filepath.Join("..", "..", filepath.FromSlash(file))
}

func readFile(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(fromRoot(file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
