package ebpfreceiver

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/receiver"

	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

// NewFactory makes the factory of the receiver tapio_ebpf, which emits logs.
func NewFactory() receiver.Factory {
	return receiver.NewFactory(
		metadata.Type,
		createDefaultConfig,
		receiver.WithLogs(createLogs, metadata.LogsStability),
	)
}

func createLogs(_ context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs) (receiver.Logs, error) {
	r, err := newReceiver(cfg.(*Config), set, next, openSource)
	if err != nil {
		return nil, err
	}
	r.openMessages = openMessages
	return r, nil
}
