package dataset

import (
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// BaselineFolder holds the fault-free recordings of a data set.
const BaselineFolder = "baseline"

// Folders returns the folders that hold the file marker, in dir or in the folders
// of one system below it, split into cases and those in a folder baseline. They
// are sorted by name.
func Folders(dir, marker string) (cases, baselines []string, err error) {
	for _, depth := range []string{"*", "*/*", "*/*/*"} {
		found, err := filepath.Glob(filepath.Join(globEscape(dir), depth, marker))
		if err != nil {
			return nil, nil, err
		}
		for _, f := range found {
			folder := filepath.Dir(f)
			switch {
			case filepath.Base(filepath.Dir(folder)) == BaselineFolder:
				baselines = append(baselines, folder)
			case depth != "*/*/*":
				cases = append(cases, folder)
			}
		}
	}
	byName := func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) }
	slices.SortStableFunc(cases, byName)
	slices.SortStableFunc(baselines, byName)
	return cases, baselines, nil
}

// globEscape makes filepath.Match take s literally.
func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// Labels reads labels.json in dir or in the folders below it: an array of objects,
// each with the name of its case under "case". Both may be missing.
func Labels[T any](dir string) (map[string]T, error) {
	files := []string{filepath.Join(dir, "labels.json")}
	below, err := filepath.Glob(filepath.Join(globEscape(dir), "*", "labels.json"))
	if err != nil {
		return nil, err
	}
	out := map[string]T{}
	for _, f := range append(files, below...) {
		b, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var raw []json.RawMessage
		if err := json.Unmarshal(b, &raw); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		for i, r := range raw {
			var id struct {
				Case string `json:"case"`
			}
			var label T
			if err := errors.Join(json.Unmarshal(r, &id), json.Unmarshal(r, &label)); err != nil {
				return nil, fmt.Errorf("%s: element %d: %w", f, i, err)
			}
			if id.Case == "" {
				return nil, fmt.Errorf("%s: element %d: case: missing, want the name of a folder", f, i)
			}
			out[id.Case] = label
		}
	}
	return out, nil
}

// Gzip opens a file that gzip compressed.
func Gzip(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Join(err, f.Close()))
	}
	return &gzipFile{z, f}, nil
}

type gzipFile struct {
	*gzip.Reader
	file *os.File
}

// Close implements io.Closer.
func (g *gzipFile) Close() error { return errors.Join(g.Reader.Close(), g.file.Close()) }

// Row is one line of a table: a value by the name of its column.
type Row struct {
	index  map[string]int
	values []string
}

// Get returns the value of a column, "" when the table has no such column.
func (r Row) Get(column string) string {
	if i, ok := r.index[column]; ok {
		return r.values[i]
	}
	return ""
}

// Columns returns the names of the columns, in their order.
func (r Row) Columns() []string {
	out := make([]string, len(r.index))
	for name, i := range r.index {
		out[i] = name
	}
	return out
}

// Table calls row with each line of a gzip compressed CSV file, whose first line
// names the columns. It returns fs.ErrNotExist for a file that is not there, and
// an error that names the file and the column when one of want is missing.
func Table(path string, want []string, row func(Row) error) (err error) {
	f, err := Gzip(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := csv.NewReader(f)
	header, err := r.Read()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	index := make(map[string]int, len(header))
	for i, name := range header {
		index[name] = i
	}
	for _, name := range want {
		if _, ok := index[name]; !ok {
			return fmt.Errorf("%s: column %s is missing", path, name)
		}
	}
	for {
		values, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := row(Row{index, values}); err != nil {
			line, _ := r.FieldPos(0)
			return fmt.Errorf("%s: line %d: %w", path, line, err)
		}
	}
}
