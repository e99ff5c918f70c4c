package findingsexporter

import (
	"context"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"

	"github.com/yairfalse/tapio/exporter/findingsexporter/internal/metadata"
)

const (
	// defaultTimeout is above the 5 s that the store waits for another process to
	// release the database, so that its own error arrives.
	defaultTimeout = 10 * time.Second
	// defaultConsumers is one because the database has one writer; it also keeps
	// the revisions of a finding in order.
	defaultConsumers = 1
)

// NewFactory returns the factory of the tapio_findings exporter.
func NewFactory() exporter.Factory {
	return exporter.NewFactory(metadata.Type, createDefaultConfig, exporter.WithLogs(createLogs, metadata.LogsStability))
}

func createDefaultConfig() component.Config {
	queue := exporterhelper.NewDefaultQueueConfig()
	queue.NumConsumers = defaultConsumers
	retry := configretry.NewDefaultBackOffConfig()
	// The queue is bounded, so nothing is gained by giving up before it is full.
	retry.MaxElapsedTime = 0
	return &Config{
		Extension:     component.MustNewID("tapio"),
		TimeoutConfig: exporterhelper.TimeoutConfig{Timeout: defaultTimeout},
		Retry:         retry,
		Queue:         configoptional.Some(queue),
	}
}

func createLogs(ctx context.Context, set exporter.Settings, cfg component.Config) (exporter.Logs, error) {
	return newExporter(ctx, set, cfg.(*Config))
}
