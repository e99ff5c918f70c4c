package slo

import (
	"errors"
	"fmt"
	"time"
)

// Objective is what a service promises.
type Objective struct {
	// Service is the service.name, Namespace the service.namespace; an empty
	// namespace is any. An empty service is every service without an objective of
	// its own.
	Service   string `mapstructure:"service"`
	Namespace string `mapstructure:"namespace"`
	// Operation is a span name, empty for all server spans of the service.
	Operation string `mapstructure:"operation"`
	// Target is the share of requests that must be good, such as 0.999.
	Target float64 `mapstructure:"target"`
	// Latency is the time within which a request must be answered to be good; 0 means
	// that only failures count.
	Latency time.Duration `mapstructure:"latency"`
	// Window is the time over which the target must be met; 0 is DefaultWindow.
	Window time.Duration `mapstructure:"window"`
}

const day = 24 * time.Hour

// The bounds of the window of an objective.
const (
	DefaultWindow = 30 * day
	MinWindow     = day
	MaxWindow     = 90 * day
)

// Validate says what is wrong with an objective.
func (o *Objective) Validate() error {
	var errs []error
	if !(o.Target > 0 && o.Target < 1) {
		errs = append(errs, fmt.Errorf("target: %v: must be between 0 and 1, both excluded: 0.999 allows one failure in a thousand", o.Target))
	}
	if o.Latency < 0 {
		errs = append(errs, fmt.Errorf("latency: %v: must not be negative", o.Latency))
	}
	if o.Window != 0 && (o.Window < MinWindow || o.Window > MaxWindow) {
		errs = append(errs, fmt.Errorf("window: %v: must be 0 (%v) or between %v and %v", o.Window, DefaultWindow, MinWindow, MaxWindow))
	}
	if o.Service == "" && (o.Namespace != "" || o.Operation != "") {
		errs = append(errs, errors.New("service: must be set where namespace or operation is"))
	}
	return errors.Join(errs...)
}

// window returns the window, the default where none is set.
func (o *Objective) window() time.Duration {
	if o.Window == 0 {
		return DefaultWindow
	}
	return o.Window
}

// Validate says what is wrong with a list of objectives.
func Validate(objectives []Objective) error {
	var errs []error
	for i := range objectives {
		if err := objectives[i].Validate(); err != nil {
			errs = append(errs, fmt.Errorf("objectives[%d] (service %q): %w", i, objectives[i].Service, err))
		}
	}
	return errors.Join(append(errs, Distinct(objectives))...)
}

// Distinct says which objectives are of the same requests.
func Distinct(objectives []Objective) error {
	var errs []error
	seen := map[Objective]int{}
	for i := range objectives {
		o := objectives[i]
		what := Objective{Service: o.Service, Namespace: o.Namespace, Operation: o.Operation}
		if first, ok := seen[what]; ok {
			errs = append(errs, fmt.Errorf("objectives[%d]: the same service, namespace and operation as objectives[%d]", i, first))
			continue
		}
		seen[what] = i
	}
	return errors.Join(errs...)
}
