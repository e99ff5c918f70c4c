package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The layers that can be missing.
const (
	LayerTraces     = "traces"
	LayerLogs       = "logs"
	LayerMetrics    = "metrics"
	LayerKernel     = "kernel" // and units and the network of containers: what the agents of nodes say
	LayerKubernetes = "kubernetes"
)

// Layers are all layers that can be missing.
var Layers = []string{LayerTraces, LayerLogs, LayerMetrics, LayerKernel, LayerKubernetes}

// Options say what to generate.
type Options struct {
	// Services is how many there are, 10 to 1000.
	Services int
	// Cases is how many failures of each kind.
	Cases int
	// Seed chooses the system and everything that is random.
	Seed uint64
	// Noise is 0 for hardly any, 1 for what is usual, 2 for twice that, up to 4.
	Noise float64
	// Missing are layers without telemetry.
	Missing []string
	// Skew is how far the clock of a node is off, at most, either way.
	Skew time.Duration
	// Loss is the share of spans, log records and data points that never arrive.
	Loss float64
	// Faults are which kinds of failures there are: FaultsCore or FaultsAll.
	Faults string
	// Minutes of each fault-free recording, of which there are three.
	Minutes int
}

// The values of Options.Faults: those of which each works in its own way, and with
// them those that differ only in who says what.
const (
	FaultsCore = "core"
	FaultsAll  = "all"
)

// DefaultOptions are what a text leaves out.
func DefaultOptions() Options {
	return Options{Services: 30, Cases: 1, Seed: 1, Noise: 1, Minutes: 10, Faults: FaultsCore}
}

// Parse reads options such as "services=100,noise=2,missing=logs+kernel,skew=500ms".
func Parse(text string) (Options, error) {
	o := DefaultOptions()
	for _, pair := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		key, value, _ := strings.Cut(pair, "=")
		if err := o.set(key, value); err != nil {
			return o, fmt.Errorf("%s: %q: %w", key, value, err)
		}
	}
	return o, o.Validate()
}

func (o *Options) set(key, value string) (err error) {
	switch key {
	case "services":
		o.Services, err = strconv.Atoi(value)
	case "cases":
		o.Cases, err = strconv.Atoi(value)
	case "minutes":
		o.Minutes, err = strconv.Atoi(value)
	case "seed":
		o.Seed, err = strconv.ParseUint(value, 10, 64)
	case "noise":
		o.Noise, err = strconv.ParseFloat(value, 64)
	case "loss":
		o.Loss, err = strconv.ParseFloat(value, 64)
	case "skew":
		o.Skew, err = time.ParseDuration(value)
	case "faults":
		o.Faults = value
	case "missing":
		o.Missing = strings.Split(value, "+")
	default:
		err = errors.New("unknown: want services, cases, seed, noise, missing, skew, loss, faults or minutes")
	}
	return err
}

// Validate says which option is wrong.
func (o *Options) Validate() error {
	switch {
	case o.Services < 10 || o.Services > 1000:
		return fmt.Errorf("services: %d: want 10 to 1000", o.Services)
	case o.Cases < 1 || o.Cases > 100:
		return fmt.Errorf("cases: %d: want 1 to 100", o.Cases)
	case o.Minutes < 5 || o.Minutes > 120:
		return fmt.Errorf("minutes: %d: want 5 to 120", o.Minutes)
	case !(o.Noise >= 0 && o.Noise <= 4):
		return fmt.Errorf("noise: %v: want 0 to 4", o.Noise)
	case !(o.Loss >= 0 && o.Loss < 1):
		return fmt.Errorf("loss: %v: want 0 to below 1", o.Loss)
	case o.Skew < 0 || o.Skew > time.Minute:
		return fmt.Errorf("skew: %v: want 0 to 1m", o.Skew)
	}
	if o.Faults != FaultsCore && o.Faults != FaultsAll {
		return fmt.Errorf("faults: %q: want %s or %s", o.Faults, FaultsCore, FaultsAll)
	}
	for _, l := range o.Missing {
		if !slices.Contains(Layers, l) {
			return fmt.Errorf("missing: %q: want some of %s, joined by +", l, strings.Join(Layers, ", "))
		}
	}
	return nil
}

// kinds are the failures that there are.
func (o *Options) kinds() []kind {
	if o.Faults == FaultsAll {
		return slices.Concat(kinds, told, variants, agents)
	}
	return kinds
}

func (o *Options) has(layer string) bool { return !slices.Contains(o.Missing, layer) }
