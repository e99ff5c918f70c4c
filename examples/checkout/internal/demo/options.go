// Package demo breaks the shop and asks Tapio why: it starts the collector and
// the shop as processes, makes payment fail, waits for the finding, compares it
// with what the load generator counted, prints it, and stops all that it started.
package demo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/yairfalse/tapio/examples/checkout/internal/memlimit"
	"github.com/yairfalse/tapio/examples/checkout/internal/shop"
)

// Fault is what is done to payment.
type Fault string

// The faults.
const (
	// FaultLeak runs the release that leaks memory until its limit ends it.
	FaultLeak Fault = "leak"
	// FaultSIGKILL kills a healthy payment with SIGKILL.
	FaultSIGKILL Fault = "sigkill"
	// FaultStop asks a healthy payment to stop, with SIGTERM.
	FaultStop Fault = "stop"
	// FaultHang freezes a healthy payment with SIGSTOP: it is there and does nothing.
	FaultHang Fault = "hang"
	// FaultNone leaves a healthy payment alone.
	FaultNone Fault = "none"
)

// Faults are all that Options.Fault may be.
var Faults = []Fault{FaultLeak, FaultSIGKILL, FaultStop, FaultHang, FaultNone}

// HealthyVersion is a release of payment without a defect.
const HealthyVersion = "v2.0.4"

// minMemory is less than what payment needs to start and serve, with a margin.
const minMemory = 32 << 20

// Options are the flags of the command run.
type Options struct {
	// Collector and Tapio are the programs.
	Collector, Tapio string
	// Config is the collector's configuration: files, or what else its --config
	// takes (yaml:...). Later ones add to earlier ones.
	Config []string
	Fault  Fault
	// After is when, counted from the first order, a fault other than the leak
	// is made.
	After time.Duration
	// MemoryLimit is payment's.
	MemoryLimit memlimit.Bytes
	// Leak is what the leaking release keeps of every order.
	Leak memlimit.Bytes
	// Rate is orders per second, Users the number of customers.
	Rate  float64
	Users int
	// Duration is how long orders are sent at most.
	Duration time.Duration
	// KeepRunning leaves collector and shop up, after the finding, until the
	// context ends.
	KeepRunning bool
	// OutputDir keeps the files of the run; empty means a temporary directory
	// that is removed.
	OutputDir string
}

// Validate says which flag is wrong and what is allowed.
func (o Options) Validate() error {
	switch {
	case !slices.Contains(Faults, o.Fault):
		return fmt.Errorf("--fault %q: want one of %v", o.Fault, Faults)
	case o.Duration <= 0:
		return fmt.Errorf("--duration %s: want more than 0", o.Duration)
	case o.After <= 0 || (o.injects() && o.After >= o.Duration):
		return fmt.Errorf("--after %s: want more than 0 and less than --duration (%s)", o.After, o.Duration)
	case o.MemoryLimit < minMemory:
		return fmt.Errorf("--memory-limit %s: want at least %s, payment needs them to start", o.MemoryLimit, memlimit.Bytes(minMemory))
	case o.Fault == FaultLeak && o.Leak <= 0:
		return fmt.Errorf("--leak %s: want more than 0 with --fault leak", o.Leak)
	case !(o.Rate > 0 && o.Rate <= 1000):
		return fmt.Errorf("--rate %v: want more than 0 and at most 1000 orders per second", o.Rate)
	case o.Users < 1 || o.Users > 1_000_000:
		return fmt.Errorf("--users %d: want 1 to 1000000", o.Users)
	}
	return o.checkFiles()
}

// injects reports whether the orchestrator makes the fault itself.
func (o Options) injects() bool {
	return slices.Contains([]Fault{FaultSIGKILL, FaultStop, FaultHang}, o.Fault)
}

// checkFiles fails early, by name: a demo that stops half way explains less.
func (o Options) checkFiles() error {
	for _, f := range []struct{ flag, path string }{{"--collector", o.Collector}, {"--tapio", o.Tapio}} {
		if _, err := exec.LookPath(f.path); err != nil {
			return fmt.Errorf("%s %q: %w (make build compiles it)", f.flag, f.path, err)
		}
	}
	if len(o.Config) == 0 {
		return errors.New("--config: missing")
	}
	for _, c := range o.Config {
		if hasScheme(c) {
			continue
		}
		if _, err := os.Stat(c); err != nil {
			return fmt.Errorf("--config: %w", err)
		}
	}
	return nil
}

// hasScheme tells "yaml:..." and "env:..." from the path of a file, as the
// collector does.
func hasScheme(config string) bool {
	scheme, _, ok := strings.Cut(config, ":")
	return ok && len(scheme) > 1 && !strings.ContainsAny(scheme, "./")
}

// paymentVersion is the release that the fault needs.
func (o Options) paymentVersion() string {
	if o.Fault == FaultLeak {
		return shop.LeakyVersion
	}
	return HealthyVersion
}

// makeDir returns the directory for the files of the run, and whether it is
// temporary. A directory that holds files already is refused: an older run's
// findings would pass for this one's.
func (o Options) makeDir() (dir string, temporary bool, err error) {
	if o.OutputDir == "" {
		dir, err = os.MkdirTemp("", "tapio-checkout-")
		return dir, true, err
	}
	if err := os.MkdirAll(o.OutputDir, 0o750); err != nil {
		return "", false, fmt.Errorf("--output-dir: %w", err)
	}
	entries, err := os.ReadDir(o.OutputDir)
	if err != nil {
		return "", false, fmt.Errorf("--output-dir: %w", err)
	}
	if len(entries) > 0 {
		names := make([]string, 0, len(entries))
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return "", false, fmt.Errorf("--output-dir %s: want a new or empty directory, it holds %s", o.OutputDir, strings.Join(names, ", "))
	}
	dir, err = filepath.Abs(o.OutputDir)
	return dir, false, err
}
