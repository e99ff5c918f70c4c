package ebpfreceiver

import (
	"context"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"

	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

// NewFactory makes the factory of the receiver tapio_ebpf, which emits logs and
// traces. What one collector makes for the same component id is one receiver.
func NewFactory() receiver.Factory {
	rs := &receivers{byConfig: map[*Config]*ebpfReceiver{}}
	return receiver.NewFactory(
		metadata.Type,
		createDefaultConfig,
		receiver.WithLogs(rs.createLogs, metadata.LogsStability),
		receiver.WithTraces(rs.createTraces, metadata.TracesStability),
	)
}

// receivers finds the receiver of a configuration: the collector hands the same
// pointer to the logs and the traces pipeline.
type receivers struct {
	mu       sync.Mutex
	byConfig map[*Config]*ebpfReceiver
}

func (rs *receivers) createLogs(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs) (receiver.Logs, error) {
	r, err := rs.get(cfg.(*Config), set)
	if err != nil {
		return nil, err
	}
	r.next = next
	return r, nil
}

func (rs *receivers) createTraces(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Traces) (receiver.Traces, error) {
	r, err := rs.get(cfg.(*Config), set)
	if err != nil {
		return nil, err
	}
	r.nextTraces = next
	return r, nil
}

func (rs *receivers) get(cfg *Config, set receiver.Settings) (*ebpfReceiver, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if r, ok := rs.byConfig[cfg]; ok {
		return r, nil
	}
	r, err := newReceiver(cfg, set, nil, openSource)
	if err != nil {
		return nil, err
	}
	r.openMessages = openMessages
	r.forget = func() {
		rs.mu.Lock()
		defer rs.mu.Unlock()
		delete(rs.byConfig, cfg)
	}
	rs.byConfig[cfg] = r
	return r, nil
}
