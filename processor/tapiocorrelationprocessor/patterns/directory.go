package patterns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/yairfalse/tapio/internal/replay"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
)

// Info is one pattern in a list.
type Info struct {
	ID string `json:"id"`
	// Title is as it is in the file, with its placeholders.
	Title string `json:"title"`
	// Cause is the event that it names as the root.
	Cause       string  `json:"cause"`
	Reliability float64 `json:"reliability"`
	// Source is the file, or "built in".
	Source string `json:"source"`
}

// BuiltIn is the source of a pattern of the library.
const BuiltIn = "built in"

// List returns the library and the patterns of a directory, "" for none, by id.
func List(dir string) ([]Info, error) {
	all, err := pattern.LoadAll(dir)
	if err != nil {
		return nil, err
	}
	own, err := ids(dir)
	if err != nil {
		return nil, err
	}
	out := make([]Info, 0, len(all))
	for _, p := range all {
		source := BuiltIn
		if slices.Contains(own, p.ID) {
			source = p.File
		}
		out = append(out, Info{p.ID, p.Title, p.Cause.Event, p.Cause.Reliability, source})
	}
	slices.SortFunc(out, func(a, b Info) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

// ids returns the ids of the patterns of a directory, none for "".
func ids(dir string) ([]string, error) {
	if dir == "" {
		return nil, nil
	}
	own, err := pattern.Load(os.DirFS(dir), ".")
	if err != nil {
		return nil, pattern.Within(dir, err)
	}
	var out []string
	for _, p := range own {
		out = append(out, p.ID)
	}
	return out, nil
}

// Problem is something wrong with a file.
type Problem struct {
	File string
	// Line is 0 when it is not known.
	Line int
	Err  error
}

// Error says where and what.
func (p Problem) Error() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s:%d: %v", p.File, p.Line, p.Err)
	}
	return fmt.Sprintf("%s: %v", p.File, p.Err)
}

// Unwrap returns the reason.
func (p Problem) Unwrap() error { return p.Err }

// Lint checks every *.yaml file of a directory, its ids and its scenarios, and returns
// how many files it has. The error is that of the directory itself.
func Lint(dir string) (files int, problems []Problem, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return 0, nil, err
	}
	if _, err := os.ReadDir(dir); err != nil {
		return 0, nil, err
	}
	if len(names) == 0 {
		return 0, []Problem{{File: dir, Err: errors.New("no *.yaml file")}}, nil
	}
	seen := map[string]string{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			problems = append(problems, Problem{File: name, Err: err})
			continue
		}
		p, err := pattern.Parse(b)
		if err != nil {
			problems = append(problems, split(name, b, err)...)
			continue
		}
		if other, ok := seen[p.ID]; ok {
			problems = append(problems, Problem{name, lineOf(b, "id"), fmt.Errorf("id: %q is already the id of %s", p.ID, other)})
		}
		seen[p.ID] = name
		if err := pattern.Unknown(p); err != nil {
			problems = append(problems, split(name, b, err)...)
		}
		problems = append(problems, lintScenarios(dir, name, p.ID)...)
	}
	return len(names), problems, nil
}

func lintScenarios(dir, name, id string) (out []Problem) {
	for _, which := range []string{Fires, Nearly} {
		file := filepath.Join(dir, "testdata", id, which+".yaml")
		b, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			out = append(out, Problem{File: name, Err: fmt.Errorf("no scenario %s", file)})
			continue
		}
		if err == nil {
			_, err = ReadScenario(b)
		}
		if err != nil {
			out = append(out, split(file, b, err)...)
		}
	}
	return out
}

// split splits what was joined, and finds the lines.
func split(file string, b []byte, err error) (out []Problem) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			out = append(out, split(file, b, e)...)
		}
		return out
	}
	line := 0
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ = strconv.Atoi(m[1])
		err = errors.New(strings.TrimPrefix(err.Error(), m[0]))
	} else if m := keyPath.FindStringSubmatch(err.Error()); m != nil {
		line = lineOf(b, m[0])
	}
	return []Problem{{file, line, err}}
}

var (
	yamlLine = regexp.MustCompile(`^line (\d+): `)
	keyPath  = regexp.MustCompile(`^[a-z_]+(\[\d+\])?(\.[a-z_]+(\[\d+\])?)*`)
)

// TestDirectory plays the scenarios of all patterns of a directory, with the library
// beside them.
func TestDirectory(ctx context.Context, dir string) ([]Result, error) {
	own, err := ids(dir)
	if err != nil {
		return nil, err
	}
	results := Test(ctx, os.DirFS(dir), own, func() (*tapiocorrelationprocessor.Config, error) {
		cfg, err := replay.LoadConfig("")
		if err == nil {
			cfg.Patterns.Directory = dir
		}
		return cfg, err
	})
	for i := range results {
		if err := results[i].Err; err != nil { // it begins with the name of the file within dir
			results[i].Err = fmt.Errorf("%s/%w", filepath.Clean(dir), err)
		}
	}
	return results, nil
}
