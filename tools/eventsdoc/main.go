// Command eventsdoc writes docs/events.md, the events that Tapio's components emit, with
// their attributes, and docs/telemetry.md, the metrics that they count of themselves, from
// what each declares in its metadata.yaml. Its argument is the root of the repository.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// pages are what is written, by name below the root of the repository.
var pages = map[string]func([]metadata) string{
	filepath.Join("docs", "events.md"):                            render,
	filepath.Join("docs", "telemetry.md"):                         renderTelemetry,
	filepath.Join("internal", "event", "generated_documented.go"): renderNames,
}

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
	for page, text := range pages {
		//nolint:gosec // documentation is for everybody to read
		if err := os.WriteFile(filepath.Join(args[0], page), []byte(text(components)), 0o644); err != nil {
			return err
		}
	}
	return nil
}
