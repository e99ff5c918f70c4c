package ebpfreceiver

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

func (e *encoder) recordRunQueue(at pcommon.Timestamp, ev runQueueEvent) (plog.SeverityNumber, string) {
	h := &ev.waits
	if ev.isStarved {
		e.builder.RecordTapioCPUStarvedEvent(context.Background(), at, int64(h.count), ev.share(), h.quantile(0.5).Seconds(),
			h.quantile(0.9).Seconds(), ev.usual.Seconds(), ev.interval.Seconds())
		return plog.SeverityNumberWarn, fmt.Sprintf("%.1f tasks of cgroup %s wait for a processor: 90 %% of %d waits took up to %s, usual are %s",
			ev.share(), ev.who.cgroup, h.count, durationText(h.quantile(0.9)), durationText(ev.usual))
	}
	e.builder.RecordTapioCPURunQueueEvent(context.Background(), at, int64(h.count), ev.share(), h.quantile(0.5).Seconds(),
		h.quantile(0.9).Seconds(), h.quantile(0.99).Seconds(), ev.interval.Seconds())
	return plog.SeverityNumberDebug, fmt.Sprintf("Tasks of cgroup %s waited %d times for a processor in %v: mean %s, 99th percentile about %s",
		ev.who.cgroup, h.count, ev.interval, durationText(h.mean()), durationText(h.quantile(0.99)))
}

func (e *encoder) recordThrottled(at pcommon.Timestamp, ev throttledEvent) (plog.SeverityNumber, string) {
	var options []metadata.EventAttributeOption
	if ev.cgroup != "" {
		options = append(options, metadata.WithTapioCPUCgroupEventAttribute(ev.cgroup))
	}
	e.builder.RecordTapioCPUThrottledEvent(context.Background(), at, int64(ev.periods), int64(ev.throttled), ev.share(), ev.stopped.Seconds(),
		float64(ev.quota)/float64(max(ev.period, 1)), ev.interval.Seconds(), options...)
	severity := plog.SeverityNumberDebug
	if ev.matters() {
		severity = plog.SeverityNumberWarn
	}
	return severity, fmt.Sprintf("Cgroup %s used up its CPU quota of %.2f CPUs in %d of %d periods (%v): stopped for %s in sum",
		ev.who.cgroup, float64(ev.quota)/float64(max(ev.period, 1)), ev.throttled, ev.periods, ev.interval, durationText(ev.stopped))
}
