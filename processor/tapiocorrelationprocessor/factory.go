package tapiocorrelationprocessor

import (
	"context"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processorhelper"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/metadata"
)

// NewFactory returns the factory of the tapiocorrelation processor. All instances
// that one collector makes for the same component id share one engine.
func NewFactory() processor.Factory {
	engines := newEngines()
	return processor.NewFactory(
		metadata.Type,
		createDefaultConfig,
		processor.WithTraces(engines.createTraces, metadata.TracesStability),
		processor.WithLogs(engines.createLogs, metadata.LogsStability),
		processor.WithMetrics(engines.createMetrics, metadata.MetricsStability),
	)
}

// passThrough: the data is only read.
var passThrough = processorhelper.WithCapabilities(consumer.Capabilities{MutatesData: false})

func (es *engines) createTraces(
	ctx context.Context, set processor.Settings, cfg component.Config, next consumer.Traces,
) (processor.Traces, error) {
	s, err := es.get(set, cfg.(*Config))
	if err != nil {
		return nil, err
	}
	i := s.instance(next, nil)
	return processorhelper.NewTraces(ctx, set, cfg, next, s.processTraces, passThrough,
		processorhelper.WithStart(i.start), processorhelper.WithShutdown(i.shutdown))
}

func (es *engines) createLogs(
	ctx context.Context, set processor.Settings, cfg component.Config, next consumer.Logs,
) (processor.Logs, error) {
	s, err := es.get(set, cfg.(*Config))
	if err != nil {
		return nil, err
	}
	i := s.instance(nil, next)
	return processorhelper.NewLogs(ctx, set, cfg, next, s.processLogs, passThrough,
		processorhelper.WithStart(i.start), processorhelper.WithShutdown(i.shutdown))
}

func (es *engines) createMetrics(
	ctx context.Context, set processor.Settings, cfg component.Config, next consumer.Metrics,
) (processor.Metrics, error) {
	s, err := es.get(set, cfg.(*Config))
	if err != nil {
		return nil, err
	}
	i := s.instance(nil, nil)
	return processorhelper.NewMetrics(ctx, set, cfg, next, s.processMetrics, passThrough,
		processorhelper.WithStart(i.start), processorhelper.WithShutdown(i.shutdown))
}
