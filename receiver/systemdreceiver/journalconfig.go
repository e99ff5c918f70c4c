package systemdreceiver

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/kmsg"
)

// JournalConfig says which journals to read, and what of them to hand on.
type JournalConfig struct {
	// Enabled reads the journal.
	Enabled bool `mapstructure:"enabled"`
	// Directories hold journal files, or a folder of them for each machine.
	Directories []string `mapstructure:"directories"`
	// StartAt is where to begin in what is there at the very first start: "end"
	// or "beginning". Later starts go on where the last one ended.
	StartAt StartAt `mapstructure:"start_at"`
	// EventsOnly hands on only what is an event, no other entries.
	EventsOnly bool `mapstructure:"events_only"`
	// Priority is the least important one to hand on, emerg to debug.
	Priority Priority `mapstructure:"priority"`
	// Units and Identifiers are globs of which one must match; empty for all.
	Units       []string `mapstructure:"units"`
	Identifiers []string `mapstructure:"identifiers"`
	// ExcludeUnits are globs of units to leave out, whatever else matches.
	ExcludeUnits []string `mapstructure:"exclude_units"`
	// Matches are fields with their values: all of one must be equal, and one of
	// the list must match. Empty for all entries.
	Matches []map[string]string `mapstructure:"matches"`
	// Fields are globs of further fields to keep, as tapio.journal.field.NAME.
	Fields []string `mapstructure:"fields"`
	// CommandLine keeps the command line. It may hold secrets.
	CommandLine bool `mapstructure:"command_line"`
	// KernelRules is a file with rules for messages of the kernel, which are
	// tried before the built-in ones; empty for none.
	KernelRules string `mapstructure:"kernel_rules"`
	// PollInterval is how often to look for new entries.
	PollInterval time.Duration `mapstructure:"poll_interval"`
	// MaxBatchSize is the largest number of records handed on at once.
	MaxBatchSize int `mapstructure:"max_batch_size"`
	// MaxFieldSize is the largest value in bytes; the rest is cut off.
	MaxFieldSize int `mapstructure:"max_field_size"`
	// MaxOpenFiles is how many files may be open at once.
	MaxOpenFiles int `mapstructure:"max_open_files"`
}

// Priority is the name of one of syslog's.
type Priority string

// Allowed implements section.Choice.
func (Priority) Allowed() []string { return priorities }

// StartAt is end or beginning.
type StartAt string

// Allowed implements section.Choice.
func (StartAt) Allowed() []string { return []string{startAtEnd, startAtBeginning} }

// Values of start_at.
const (
	startAtEnd       = "end"
	startAtBeginning = "beginning"
)

// priorities are syslog's, by their number.
var priorities = []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}

// Bounds of the configuration.
const (
	minPollInterval = 10 * time.Millisecond
	maxPollInterval = time.Minute
	maxJournalBatch = 1 << 16
	minFieldSize    = 256
	maxFieldSize    = 16 << 20
	maxOpenJournals = 4096
)

func defaultJournalConfig() JournalConfig {
	return JournalConfig{
		Enabled:      true,
		Directories:  []string{"/var/log/journal", "/run/log/journal"},
		StartAt:      startAtEnd,
		Priority:     "info",
		PollInterval: 250 * time.Millisecond,
		MaxBatchSize: 1000,
		MaxFieldSize: 64 << 10,
		MaxOpenFiles: 256,
	}
}

func (c *JournalConfig) units() globList { return globList{"journal::units", c.Units, true} }

// validate returns one error for each key that is wrong.
func (c *JournalConfig) validate() []error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("journal::"+key+": "+format, args...))
	}
	if len(c.Directories) == 0 {
		bad("directories", "[] is no directory; the default is /var/log/journal and /run/log/journal")
	}
	for i, d := range c.Directories {
		if !path.IsAbs(d) {
			bad(fmt.Sprintf("directories[%d]", i), "%q is not an absolute path", d)
		}
	}
	if c.StartAt != startAtEnd && c.StartAt != startAtBeginning {
		bad("start_at", "%q is not end or beginning", c.StartAt)
	}
	if !slices.Contains(priorities, string(c.Priority)) {
		bad("priority", "%q is not one of %s", c.Priority, strings.Join(priorities, ", "))
	}
	for _, list := range []globList{
		c.units(), {"journal::identifiers", c.Identifiers, false}, {"journal::exclude_units", c.ExcludeUnits, true}, {"journal::fields", c.Fields, false},
	} {
		errs = append(errs, list.validate()...)
	}
	for i, match := range c.Matches {
		at := fmt.Sprintf("matches[%d]", i)
		if len(match) == 0 {
			bad(at, "{} names no field")
		}
		for name := range match {
			if name == "" || strings.ToUpper(name) != name {
				bad(at, "%q is not the name of a field, such as _SYSTEMD_UNIT", name)
			}
		}
	}
	if _, err := c.rules(); err != nil {
		bad("kernel_rules", "%w", err)
	}
	return append(errs, c.validateSizes()...)
}

func (c *JournalConfig) validateSizes() []error {
	var errs []error
	if d := c.PollInterval; d < minPollInterval || d > maxPollInterval {
		errs = append(errs, fmt.Errorf("journal::poll_interval: %s is not in %s to %s", d, minPollInterval, maxPollInterval))
	}
	for _, n := range []struct {
		key                    string
		value, least, greatest int
	}{
		{"max_batch_size", c.MaxBatchSize, 1, maxJournalBatch},
		{"max_field_size", c.MaxFieldSize, minFieldSize, maxFieldSize},
		{"max_open_files", c.MaxOpenFiles, 1, maxOpenJournals},
	} {
		if n.value < n.least || n.value > n.greatest {
			errs = append(errs, fmt.Errorf("journal::%s: %d is not in %d to %d", n.key, n.value, n.least, n.greatest))
		}
	}
	return errs
}

// rules returns the rules for messages of the kernel, the user's own first.
func (c *JournalConfig) rules() (kmsg.Rules, error) {
	builtIn := kmsg.BuiltIn()
	if c.KernelRules == "" {
		return builtIn, nil
	}
	text, err := os.ReadFile(c.KernelRules)
	if err != nil {
		return nil, err
	}
	own, err := kmsg.ParseRules(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.KernelRules, err)
	}
	return append(own, builtIn...), nil
}
