package perturb

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Options say what to change. The zero value changes nothing.
type Options struct {
	// Thin is the share of traces that is kept, with all that belongs to them.
	Thin float64
	// Drop is the share of spans, log records and data points that is lost, each by
	// itself.
	Drop float64
	// Late is how long exporters collect what they send, Retry the share of what they send
	// that arrives a minute later still: see Late. They take effect in delivery.
	Late  time.Duration
	Retry float64
	// Skew is how far the clock of a service is off, at most, either way.
	Skew time.Duration
	// Jitter is the standard deviation of the logarithm of the factor by which the
	// duration of each span is multiplied.
	Jitter float64
	// Head and Tail are cut off each case.
	Head, Tail time.Duration
	// Baseline is which fault-free recording is kept, from 1; 0 keeps all. It is counted
	// among those that have a past in common with the cases.
	Baseline int
	// Names replaces the names of services, pods, containers, nodes and other objects by
	// random words, wherever they appear. Words does so with all other words of log
	// records and span names that are not of a common vocabulary.
	Names, Words bool
	// Permute gives every service and workload, with its pods, the name of another, and every
	// node that of another.
	Permute bool
	// Seed is what all that is random is drawn from.
	Seed uint64
}

// Parse reads options such as "thin=0.5,skew=500ms,names,seed=2".
func Parse(text string) (Options, error) {
	o := Options{Thin: 1, Seed: 1}
	for _, pair := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		key, value, _ := strings.Cut(pair, "=")
		if err := o.set(key, value); err != nil {
			return o, fmt.Errorf("%s: %q: %w", key, value, err)
		}
	}
	return o, o.validate()
}

func (o *Options) set(key, value string) (err error) {
	switch key {
	case "thin":
		o.Thin, err = strconv.ParseFloat(value, 64)
	case "drop":
		o.Drop, err = strconv.ParseFloat(value, 64)
	case "jitter":
		o.Jitter, err = strconv.ParseFloat(value, 64)
	case "retry":
		o.Retry, err = strconv.ParseFloat(value, 64)
	case "late":
		o.Late, err = time.ParseDuration(value)
	case "skew":
		o.Skew, err = time.ParseDuration(value)
	case "head":
		o.Head, err = time.ParseDuration(value)
	case "tail":
		o.Tail, err = time.ParseDuration(value)
	case "baseline":
		o.Baseline, err = strconv.Atoi(value)
	case "seed":
		o.Seed, err = strconv.ParseUint(value, 10, 64)
	case "names":
		o.Names = true
	case "permute":
		o.Permute = true
	case "words":
		o.Names, o.Words = true, true
	default:
		err = errors.New("want some of thin, drop, late, retry, jitter, skew, head, tail, baseline, names, permute, words or seed")
	}
	return err
}

func (o *Options) validate() error {
	const longest = 10 * time.Minute
	switch {
	case o.Permute && o.Names:
		return errors.New("permute: want it without names and words: a name cannot be replaced twice")
	case !(o.Thin > 0 && o.Thin <= 1):
		return fmt.Errorf("thin: %v: want above 0, to 1", o.Thin)
	case !(o.Drop >= 0 && o.Drop < 1):
		return fmt.Errorf("drop: %v: want 0 to below 1", o.Drop)
	case !(o.Retry >= 0 && o.Retry < 1):
		return fmt.Errorf("retry: %v: want 0 to below 1", o.Retry)
	case o.Late < 0 || o.Late > longest:
		return fmt.Errorf("late: %v: want 0 to %v", o.Late, longest)
	case !(o.Jitter >= 0 && o.Jitter <= 2):
		return fmt.Errorf("jitter: %v: want 0 to 2", o.Jitter)
	case o.Skew < 0 || o.Skew > longest:
		return fmt.Errorf("skew: %v: want 0 to %v", o.Skew, longest)
	case o.Head < 0 || o.Head > longest:
		return fmt.Errorf("head: %v: want 0 to %v", o.Head, longest)
	case o.Tail < 0 || o.Tail > longest:
		return fmt.Errorf("tail: %v: want 0 to %v", o.Tail, longest)
	case o.Baseline < 0:
		return fmt.Errorf("baseline: %d: want 0 or more", o.Baseline)
	}
	return nil
}
