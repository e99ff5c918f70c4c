package systemdreceiver

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/receiver"

	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadata"
)

// systemdReceiver is started and stopped once for each pipeline that it is in;
// the first start and the first shutdown count.
type systemdReceiver struct {
	cfg       *Config
	set       receiver.Settings
	telemetry *metadata.TelemetryBuilder
	out       *output
	// forget lets the factory make a new receiver for the same configuration.
	forget func()

	startOnce, stopOnce sync.Once
	startErr            error
	parts               []part
}

func newReceiver(cfg *Config, set receiver.Settings, forget func()) (*systemdReceiver, error) {
	telemetry, err := metadata.NewTelemetryBuilder(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	out, err := newOutput(set)
	if err != nil {
		return nil, err
	}
	return &systemdReceiver{cfg: cfg, set: set, telemetry: telemetry, out: out, forget: forget}, nil
}

// Start starts the parts that the configuration enables. When one fails the
// others are stopped again.
func (r *systemdReceiver) Start(ctx context.Context, host component.Host) error {
	r.startOnce.Do(func() { r.startErr = r.startParts(ctx, host) })
	return r.startErr
}

func (r *systemdReceiver) startParts(ctx context.Context, host component.Host) error {
	info, err := readHost(r.cfg.HostName)
	if err != nil {
		return fmt.Errorf("host_name is not set and the system has none: %w", err)
	}
	for _, p := range r.enabled(info) {
		if err := p.start(ctx, host); err != nil {
			return errors.Join(err, r.stopParts(ctx))
		}
		r.parts = append(r.parts, p)
	}
	return nil
}

// enabled makes the parts that the configuration enables.
func (r *systemdReceiver) enabled(info *hostInfo) []part {
	var parts []part
	var seen *sight
	if r.cfg.Units.Enabled {
		u := newUnits(r, info)
		seen = u.sight
		parts = append(parts, u)
	}
	if r.cfg.Journal.Enabled && r.out.logs != nil {
		parts = append(parts, newJournalPart(r, info, seen))
	}
	return parts
}

// Shutdown stops all parts; they send what they hold for as long as ctx lasts.
func (r *systemdReceiver) Shutdown(ctx context.Context) error {
	var err error
	r.stopOnce.Do(func() {
		err = r.stopParts(ctx)
		r.telemetry.Shutdown()
		r.forget()
	})
	return err
}

func (r *systemdReceiver) stopParts(ctx context.Context) error {
	var errs []error
	for _, p := range r.parts {
		errs = append(errs, p.shutdown(ctx))
	}
	r.parts = nil
	return errors.Join(errs...)
}
