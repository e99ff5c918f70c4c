package systemdreceiver

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receiverhelper"

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

// A refusal that may pass (memory_limiter, a full queue) is tried again, so long
// that a short one costs nothing, so short that signals do not pile up for ever.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = time.Second
	retryFor   = 10 * time.Second
)

func newOutput(set receiver.Settings) (*output, error) {
	obs, err := receiverhelper.NewObsReport(receiverhelper.ObsReportSettings{
		ReceiverID: set.ID, Transport: "systemd", ReceiverCreateSettings: set,
	})
	return &output{obs: obs}, err
}

// sendLogs hands logs on. It returns an error when the pipeline refused them
// for good, or for as long as retryFor; that is counted by the collector's
// otelcol_receiver_refused_log_records.
func (o *output) sendLogs(ctx context.Context, logs plog.Logs) error {
	count := logs.LogRecordCount()
	if count == 0 || o.logs == nil {
		return nil
	}
	op := o.obs.StartLogsOp(ctx)
	err := retry(ctx, func() error { return o.logs.ConsumeLogs(op, logs) })
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
	err := retry(ctx, func() error { return o.traces.ConsumeTraces(op, traces) })
	o.obs.EndTracesOp(op, metadata.Type.String(), count, err)
	return err
}

// retry calls f until it succeeds, fails for good, ctx ends or retryFor is over.
func retry(ctx context.Context, f func() error) error {
	deadline := time.Now().Add(retryFor)
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := f()
		if err == nil || consumererror.IsPermanent(err) || time.Now().Add(wait).After(deadline) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%w (gave up: %w)", err, ctx.Err())
		}
	}
}
