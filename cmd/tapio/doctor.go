package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/yairfalse/tapio/receiver/ebpfreceiver"
)

// diagnosis is what this host supports of Tapio, as tapio doctor -o json prints it.
type diagnosis struct {
	// Host are facts about the machine and its kernel.
	Host []fact `json:"host"`
	// Capabilities are those of this process.
	Capabilities []fact `json:"capabilities"`
	// Groups are the programs of the receiver tapio_ebpf.
	Groups []ebpfreceiver.GroupSupport `json:"groups"`
	// Sources are what the other receivers of this host read.
	Sources []fact `json:"sources"`
}

// fact is one thing that is there or is not.
type fact struct {
	Name string `json:"name"`
	// Has is yes, no or unknown.
	Has string `json:"has"`
	// Found is what was seen, or why it is unknown.
	Found string `json:"found,omitempty"`
	// For is what needs it.
	For string `json:"for,omitempty"`
}

const (
	isThere   = ebpfreceiver.NeedIsThere
	isMissing = ebpfreceiver.NeedIsMissing
	isUnknown = ebpfreceiver.NeedIsUnknown
)

// lackingError says that something that is on by default does not run here.
type lackingError string

func (e lackingError) Error() string { return string(e) }

func (a *app) doctorCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host supports: kernel, capabilities, programs, systemd, CNI",
		Long: "Say what this host supports. The programs of the receiver tapio_ebpf are really loaded and attached, with the rights of\n" +
			"this process, and detached again. Without root it runs too, and says what it cannot know.\n\n" +
			"The exit code is 0 when all programs that are on by default run here, and 1 when one does not or could not be tried.",
		Example: "  sudo tapio doctor\n  tapio doctor -o json",
		Args:    usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := oneOf(output, outputText, outputJSON); err != nil {
				return err
			}
			d := examine("/")
			if output == outputJSON {
				if err := printJSON(a.out, d); err != nil {
					return err
				}
			} else if _, err := fmt.Fprint(a.out, renderDiagnosis(d, a.out.style())); err != nil {
				return err
			}
			return d.lacking()
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", outputText, "text or json")
	return cmd
}

// examine looks at the machine whose root directory is given, and tries the
// programs.
func examine(root string) *diagnosis {
	d := readHost(root)
	d.Groups = ebpfreceiver.Support()
	return d
}

// lacking is an error when a program that is on by default does not run.
func (d *diagnosis) lacking() error {
	var fail, denied []string
	for _, g := range d.Groups {
		for _, p := range g.Programs {
			switch {
			case !g.Default || p.Runs:
			case p.Denied:
				denied = append(denied, p.Name)
			default:
				fail = append(fail, p.Name)
			}
		}
	}
	var parts []string
	if len(fail) > 0 {
		parts = append(parts, "do not run here: "+strings.Join(fail, ", "))
	}
	if len(denied) > 0 {
		parts = append(parts, "could not be tried by this process: "+strings.Join(denied, ", "))
	}
	if parts == nil {
		return nil
	}
	return lackingError("programs that are on by default " + strings.Join(parts, "; "))
}
