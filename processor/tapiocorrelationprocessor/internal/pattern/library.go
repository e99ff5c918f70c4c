package pattern

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"sync"
)

//go:embed library/*.yaml
var library embed.FS

// Library returns the patterns that are built in, in the order of their files.
// Patterns do not change once they are read: all callers share them.
func Library() ([]*Pattern, error) {
	patterns, err := readLibrary()
	return slices.Clone(patterns), err
}

var readLibrary = sync.OnceValues(func() ([]*Pattern, error) { return Load(library, "library") })

// LoadAll returns the library with the patterns of a directory added, "" for none. A
// pattern with the id of one of the library takes its place.
func LoadAll(dir string) ([]*Pattern, error) {
	patterns, err := Library()
	if err != nil || dir == "" {
		return patterns, err
	}
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("want a directory of patterns: %w", err)
	}
	own, err := Load(os.DirFS(dir), ".")
	if err != nil {
		return nil, Within(dir, err)
	}
	for _, p := range own {
		p.File = filepath.Join(dir, p.File)
		same := func(x *Pattern) bool { return x.ID == p.ID }
		if i := slices.IndexFunc(patterns, same); i >= 0 {
			patterns[i] = p
		} else {
			patterns = append(patterns, p)
		}
	}
	return patterns, nil
}

// Load reads every *.yaml file of a folder, one pattern a file. The error names
// the file and the key.
func Load(files fs.FS, dir string) ([]*Pattern, error) {
	names, err := fs.Glob(files, path.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	sort.Strings(names)
	var patterns []*Pattern
	seen := map[string]string{}
	for _, name := range names {
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		p, err := Parse(b)
		if err != nil {
			return nil, Within(path.Base(name), err)
		}
		if other, ok := seen[p.ID]; ok {
			return nil, fmt.Errorf("%s: id: %q is already the id of %s", path.Base(name), p.ID, other)
		}
		seen[p.ID] = path.Base(name)
		p.File = name
		patterns = append(patterns, p)
	}
	if len(patterns) == 0 {
		return nil, errors.New("no *.yaml file")
	}
	return patterns, nil
}

// Within says of each of several errors, which are lines of their own, where it is.
func Within(where string, err error) error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s: %w", where, err)
	}
	var errs []error
	for _, e := range many.Unwrap() {
		errs = append(errs, Within(where, e))
	}
	return errors.Join(errs...)
}

// Parse reads one pattern. Unknown keys are errors.
func Parse(b []byte) (*Pattern, error) {
	p := &Pattern{}
	if err := Decode(b, p); err != nil {
		return nil, err
	}
	return p, errors.Join(p.validateID(), p.validate(), p.compile())
}
