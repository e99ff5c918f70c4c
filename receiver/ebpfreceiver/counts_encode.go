package ebpfreceiver

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

func (e *encoder) recordReclaim(at pcommon.Timestamp, ev reclaimEvent) (plog.SeverityNumber, string) {
	h := &ev.stalls
	e.builder.RecordTapioMemoryReclaimEvent(context.Background(), at, int64(h.count), h.total.Seconds(), h.quantile(0.99).Seconds(), ev.share(),
		int64(ev.freed), ev.interval.Seconds())
	severity := plog.SeverityNumberDebug
	if ev.matters() {
		severity = plog.SeverityNumberWarn
	}
	return severity, fmt.Sprintf("Tasks of cgroup %s had to free memory %d times in %v before they got some: %s in sum, 99th percentile about %s, %s freed",
		ev.who.cgroup, h.count, ev.interval, durationText(h.total), durationText(h.quantile(0.99)), bytesText(ev.freed))
}

func (e *encoder) recordForks(at pcommon.Timestamp, ev forksEvent) (plog.SeverityNumber, string) {
	if ev.isStorm {
		body := fmt.Sprintf("%.0f processes begin in cgroup %s each second", ev.rate(), ev.who.cgroup)
		var options []metadata.EventAttributeOption
		if ev.usual >= 0 {
			options = append(options, metadata.WithTapioProcessForksUsualEventAttribute(ev.usual*ev.interval.Seconds()))
			body += fmt.Sprintf(", usual are %.0f", ev.usual)
		}
		e.builder.RecordTapioProcessForkStormEvent(context.Background(), at, int64(ev.processes), int64(ev.threads), ev.interval.Seconds(), options...)
		return plog.SeverityNumberWarn, body
	}
	e.builder.RecordTapioProcessForksEvent(context.Background(), at, int64(ev.processes), int64(ev.threads), ev.interval.Seconds())
	return plog.SeverityNumberDebug, fmt.Sprintf("%d processes and %d threads began in cgroup %s in %v", ev.processes, ev.threads, ev.who.cgroup, ev.interval)
}

func (e *encoder) recordGrowth(at pcommon.Timestamp, ev growthEvent) (plog.SeverityNumber, string) {
	var options []metadata.EventAttributeOption
	end := ""
	if ev.limit != 0 {
		options = append(options, metadata.WithTapioMemoryCgroupEventAttribute(ev.limitCgroup),
			metadata.WithTapioMemoryLimitEventAttribute(int64(ev.limit)), metadata.WithTapioMemoryUsageEventAttribute(int64(ev.usage)),
			metadata.WithTapioMemoryUsedShareEventAttribute(float64(ev.usage)/float64(ev.limit)))
	}
	if ev.left > 0 {
		options = append(options, metadata.WithTapioMemoryTimeToLimitEventAttribute(ev.left.Seconds()))
		end = fmt.Sprintf("; cgroup %s is at its limit of %s in %s at this slope", ev.limitCgroup, bytesText(ev.limit), durationText(ev.left))
	}
	e.builder.RecordTapioMemoryGrowthEvent(context.Background(), at, int64(ev.rss), int64(ev.by), ev.slope, ev.over.Seconds(), options...)
	severity := plog.SeverityNumberInfo
	if ev.isNear() {
		severity = plog.SeverityNumberWarn
	}
	return severity, fmt.Sprintf("%s holds %s and grows steadily: %s in %s%s", title(ev.who), bytesText(ev.rss), bytesText(ev.by), durationText(ev.over), end)
}
