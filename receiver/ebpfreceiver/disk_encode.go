package ebpfreceiver

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

func (e *encoder) recordBlockError(at pcommon.Timestamp, ev blockErrorEvent) (plog.SeverityNumber, string) {
	e.builder.RecordTapioBlockIoErrorEvent(context.Background(), at, ev.status.reason,
		metadata.WithTapioBlockDeviceEventAttribute(ev.device),
		metadata.WithTapioBlockSectorEventAttribute(int64(ev.sector)),
		metadata.WithTapioBlockOperationEventAttribute(ev.operation),
		metadata.WithTapioBlockErrnoEventAttribute(ev.status.errno),
		metadata.WithTapioBlockBytesEventAttribute(int64(ev.bytes)))
	by := ""
	if ev.who.cgroup != "" {
		by = " for cgroup " + ev.who.cgroup
	}
	return plog.SeverityNumberError, fmt.Sprintf("%s error of block device %s: %s of %s at sector %d failed%s",
		ev.status.reason, ev.device, ev.operation, bytesText(uint64(ev.bytes)), ev.sector, by)
}

func (e *encoder) recordBlockLatency(at pcommon.Timestamp, ev blockLatencyEvent) (plog.SeverityNumber, string) {
	h := &ev.took
	e.builder.RecordTapioBlockIoLatencyEvent(context.Background(), at, int64(h.count),
		h.mean().Seconds(), h.quantile(0.5).Seconds(), h.quantile(0.9).Seconds(), h.quantile(0.99).Seconds(), ev.interval.Seconds(),
		metadata.WithTapioBlockDeviceEventAttribute(ev.device),
		metadata.WithTapioBlockOperationEventAttribute(ev.operation),
		metadata.WithTapioBlockBytesEventAttribute(int64(ev.bytes)))
	who := "the kernel"
	if ev.who.cgroup != "" {
		who = "cgroup " + ev.who.cgroup
	}
	return plog.SeverityNumberDebug, fmt.Sprintf("%s of %s on block device %s: %d requests in %v, mean %s, 99th percentile about %s",
		ev.operation, who, ev.device, h.count, ev.interval, durationText(h.mean()), durationText(h.quantile(0.99)))
}

func (e *encoder) recordBlockSlow(at pcommon.Timestamp, ev blockSlowEvent) (plog.SeverityNumber, string) {
	h := &ev.took
	options := []metadata.EventAttributeOption{
		metadata.WithTapioBlockDeviceEventAttribute(ev.device),
		metadata.WithTapioBlockOperationEventAttribute(ev.operation),
	}
	if ev.busiest != "" {
		options = append(options, metadata.WithTapioBlockBusiestCgroupEventAttribute(ev.busiest),
			metadata.WithTapioBlockBusiestShareEventAttribute(ev.share))
	}
	e.builder.RecordTapioBlockIoSlowEvent(context.Background(), at, int64(h.count), ev.usualRequests,
		h.quantile(0.5).Seconds(), h.quantile(0.9).Seconds(), ev.usual.Seconds(), ev.interval.Seconds(), options...)
	by := ""
	if ev.who.cgroup != "" {
		by = " of cgroup " + ev.who.cgroup
	}
	return plog.SeverityNumberWarn, fmt.Sprintf("Block device %s is slow: 90 %% of %d requests%s (%s) took up to %s, usual for the device are %s and %.0f requests",
		ev.device, h.count, by, ev.operation, durationText(h.quantile(0.9)), durationText(ev.usual), ev.usualRequests)
}

// durationText writes a duration for people, to three digits or so.
func durationText(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.Round(time.Microsecond).String()
	}
}
