package cloudopsbench

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/internal/event"
)

var severities = map[string]plog.SeverityNumber{
	"TRACE": plog.SeverityNumberTrace, "DEBUG": plog.SeverityNumberDebug, "INFO": plog.SeverityNumberInfo,
	"WARN": plog.SeverityNumberWarn, "WARNING": plog.SeverityNumberWarn, "ERROR": plog.SeverityNumberError,
	"FATAL": plog.SeverityNumberFatal, "CRITICAL": plog.SeverityNumberFatal, "PANIC": plog.SeverityNumberFatal,
}

// logs writes the lines of the containers since a time. A file names the workload of
// a line by its service; the kubelet's files name its deployment as well, which is
// where a collector takes it from.
func (c *cluster) logs(r *records, folder string, since time.Time) error {
	return optional(dataset.Table(filepath.Join(folder, "logs.csv.gz"), []string{"time_unix_nano", "service", "body"}, func(row dataset.Row) error {
		ns, _ := strconv.ParseInt(row.Get("time_unix_nano"), 10, 64)
		if ns <= 0 || ns < since.UnixNano() {
			return nil // a line without a time (0): nobody knows when it was written
		}
		ld := plog.NewLogs()
		rl := ld.ResourceLogs().AppendEmpty()
		put(rl.Resource().Attributes(), c.logResource(row.Get("service")))
		lr := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
		lr.SetTimestamp(pcommon.NewTimestampFromTime(time.Unix(0, ns).Add(r.shift)))
		lr.SetObservedTimestamp(lr.Timestamp())
		lr.SetSeverityNumber(severities[strings.ToUpper(row.Get("severity"))])
		lr.SetSeverityText(row.Get("severity"))
		lr.Body().SetStr(row.Get("body"))
		r.out = append(r.out, ld)
		return nil
	}))
}

func (c *cluster) logResource(name string) attrs {
	for _, w := range c.workloads {
		if w.name == name {
			return w.resource()
		}
	}
	return attrs{event.KeyServiceName: name}
}
