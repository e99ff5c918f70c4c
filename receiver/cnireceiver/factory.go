package cnireceiver

import (
	"context"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/metadata"
)

// NewFactory makes the factory of the receiver tapio_cni, which emits logs and
// traces. One receiver serves both signals of one configuration.
func NewFactory() receiver.Factory {
	f := &instances{byConfig: make(map[*Config]*cniReceiver)}
	return receiver.NewFactory(
		metadata.Type,
		createDefaultConfig,
		receiver.WithLogs(f.createLogs, metadata.LogsStability),
		receiver.WithTraces(f.createTraces, metadata.TracesStability),
	)
}

// instances are the receivers that were created and not shut down.
type instances struct {
	mu       sync.Mutex
	byConfig map[*Config]*cniReceiver
}

func (f *instances) createLogs(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs) (receiver.Logs, error) {
	r, err := f.get(set, cfg.(*Config))
	if err != nil {
		return nil, err
	}
	r.logs = next
	return r, nil
}

func (f *instances) createTraces(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Traces) (receiver.Traces, error) {
	r, err := f.get(set, cfg.(*Config))
	if err != nil {
		return nil, err
	}
	r.traces = next
	return r, nil
}

// get returns the receiver of cfg, and makes it for the first signal.
func (f *instances) get(set receiver.Settings, cfg *Config) (*cniReceiver, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r, ok := f.byConfig[cfg]; ok {
		return r, nil
	}
	r, err := newReceiver(cfg, set)
	if err != nil {
		return nil, err
	}
	r.forget = func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.byConfig, cfg)
	}
	f.byConfig[cfg] = r
	return r, nil
}
