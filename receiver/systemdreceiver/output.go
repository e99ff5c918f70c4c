package systemdreceiver

import (
	"context"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"

	"github.com/yairfalse/tapio/internal/retry"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadata"
)

// output hands records to the pipelines. It is safe for concurrent use.
type output struct {
	obs *receiverhelper.ObsReport
	// logs and traces are nil when the receiver is in no such pipeline. They are
	// set before Start.
	logs   consumer.Logs
	traces consumer.Traces
}

func newOutput(set receiver.Settings) (*output, error) {
	obs, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID: set.ID, Transport: "systemd", ReceiverCreateSettings: set,
	})
	return &output{obs: obs}, err
}

// sendLogs hands logs on. It returns an error when the pipeline refused them
// for good, or for as long as retry.Limit; that is counted by the collector's
// otelcol_receiver_refused_log_records.
func (o *output) sendLogs(ctx context.Context, logs plog.Logs) error {
	count := logs.LogRecordCount()
	if count == 0 || o.logs == nil {
		return nil
	}
	op := o.obs.StartLogsOp(ctx)
	err := retry.Do(ctx, func() error { return o.logs.ConsumeLogs(op, logs) })
	o.obs.EndLogsOp(op, metadata.Type.String(), count, err)
	return err
}

// sendTraces is sendLogs for spans.
func (o *output) sendTraces(ctx context.Context, traces ptrace.Traces) error {
	count := traces.SpanCount()
	if count == 0 || o.traces == nil {
		return nil
	}
	op := o.obs.StartTracesOp(ctx)
	err := retry.Do(ctx, func() error { return o.traces.ConsumeTraces(op, traces) })
	o.obs.EndTracesOp(op, metadata.Type.String(), count, err)
	return err
}
