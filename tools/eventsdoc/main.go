// Command eventsdoc writes docs/events.md: the events that Tapio's components
// emit, with their attributes, from the events that each declares in its
// metadata.yaml. Its argument is the root of the repository.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// page is what is written, below the root of the repository.
var page = filepath.Join("docs", "events.md")

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "eventsdoc:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("got %d arguments, want one: the root of the repository", len(args))
	}
	components, err := load(args[0])
	if err != nil {
		return err
	}
	//nolint:gosec // documentation is for everybody to read
	return os.WriteFile(filepath.Join(args[0], page), []byte(render(components)), 0o644)
}
