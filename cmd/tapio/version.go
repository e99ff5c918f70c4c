package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Set by the linker: -X main.version=1.2.3 -X main.commit=0123abc. The version is that of
// the collector that was built with this program.
var version, commit string

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.out, "tapio %s\n", versionText())
			return err
		},
	}
}

// versionText is the version with what it was built from, by and for.
func versionText() string {
	v, from := buildVersion(debug.ReadBuildInfo())
	return fmt.Sprintf("%s (commit %s, %s, %s/%s)", v, from, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// buildVersion prefers what the linker was told over what the toolchain stamped.
func buildVersion(info *debug.BuildInfo, ok bool) (v, from string) {
	v, from = "development", "unknown"
	if ok {
		if info.Main.Version != "" && info.Main.Version != "(devel)" {
			v = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				from = s.Value[:min(12, len(s.Value))]
			}
		}
	}
	if version != "" {
		v = version
	}
	if commit != "" {
		from = commit
	}
	return v, from
}
