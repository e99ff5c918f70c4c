package decode

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/ring"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/tail"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/topology"
)

// TestKeepTail: of a batch the last lines of each writer are kept, however long it is.
func TestKeepTail(t *testing.T) {
	process := map[string]any{event.KeyHostName: "node1", event.KeyProcessPID: 7}
	unit := map[string]any{event.KeyHostName: "node1", event.KeySystemdUnit: "a.service"}
	long := strings.Repeat("b", record.MaxText) + "end"
	for name, tc := range map[string]struct {
		resource map[string]any
		part     string
		fill     func(plog.LogRecordSlice)
		want     []string
	}{
		"the last of many": {process, "", func(r plog.LogRecordSlice) {
			for i := range 1000 {
				say(r, plog.SeverityNumberInfo, fmt.Sprint(i))
			}
		}, []string{"995", "996", "997", "998", "999"}},
		"an error far from the end": {process, "", func(r plog.LogRecordSlice) {
			say(r, plog.SeverityNumberError, "broken")
			for i := range 1000 {
				say(r, plog.SeverityNumberInfo, fmt.Sprint(i))
			}
		}, []string{"broken", "995", "996", "997", "998", "999"}},
		"errors alone": {process, "", func(r plog.LogRecordSlice) {
			for i := range 1000 {
				say(r, plog.SeverityNumberError, fmt.Sprint(i))
			}
		}, []string{"997", "998", "999"}},
		"a level in the text, near the end": {process, "", func(r plog.LogRecordSlice) {
			say(r, 0, "2026-11-27 ERROR broken")
			for i := range 20 {
				say(r, 0, fmt.Sprint(i))
			}
		}, []string{"2026-11-27 ERROR broken", "15", "16", "17", "18", "19"}},
		"runs of a unit": {unit, "run2", func(r plog.LogRecordSlice) {
			for i := range 30 {
				say(r, plog.SeverityNumberInfo, fmt.Sprint(i)).Attributes().PutStr(event.KeySystemdInvocation, fmt.Sprint("run", i/10))
			}
			say(r, plog.SeverityNumberWarn, "Failed with result 'exit-code'.")
		}, []string{"25", "26", "27", "28", "29"}},
		"a crash that prints a lot": {unit, "run", func(r plog.LogRecordSlice) {
			for i, text := range append([]string{"before", "SIGABRT: abort", "PC=0x4918e1 m=0"}, make([]string, 500)...) {
				if text == "" {
					text = fmt.Sprint("register ", i)
				}
				say(r, plog.SeverityNumberInfo, text).Attributes().PutStr(event.KeySystemdInvocation, "run")
			}
		}, []string{"SIGABRT: abort", "register 498", "register 499", "register 500", "register 501", "register 502"}},
		"a body that is a map": {process, "", func(r plog.LogRecordSlice) {
			require.NoError(t, say(r, 0, "").Body().FromRaw(map[string]any{"message": "no key"}))
		}, []string{`{"message":"no key"}`}},
		"events, blanks and what has no time": {process, "", func(r plog.LogRecordSlice) {
			say(r, 0, "named").SetEventName("x")
			say(r, 0, " \n")
			say(r, 0, "\tat x")
			say(r, 0, "no time").SetTimestamp(0)
			say(r, 0, "of the future").SetTimestamp(pcommon.NewTimestampFromTime(noon.Add(time.Hour)))
			say(r, 0, "said\n")
		}, []string{"said"}},
		"a long one": {process, "", func(r plog.LogRecordSlice) { say(r, 0, long) }, []string{ends(long)}},
		"nobody's":   {map[string]any{event.KeyHostName: "node1"}, "", func(r plog.LogRecordSlice) { say(r, 0, "x") }, nil},
		"an instance of a service": {map[string]any{event.KeyServiceName: "s", event.KeyServiceInstanceID: "i"}, "i", func(r plog.LogRecordSlice) {
			say(r, 0, "x")
		}, []string{"x"}},
		"a service":          {map[string]any{event.KeyServiceName: "s"}, "", func(r plog.LogRecordSlice) { say(r, 0, "x") }, nil},
		"a container's pod":  {map[string]any{event.KeyPodUID: "p", event.KeyContainerName: "c"}, "c", func(r plog.LogRecordSlice) { say(r, 0, "x") }, []string{"x"}},
		"a pod":              {map[string]any{event.KeyPodUID: "p"}, "", func(r plog.LogRecordSlice) { say(r, 0, "x") }, nil},
		"records of no kind": {process, "", func(plog.LogRecordSlice) {}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig()
			tails := tail.New()
			r.Tails(tails)
			ld := plog.NewLogs()
			rl := ld.ResourceLogs().AppendEmpty()
			require.NoError(t, rl.Resource().Attributes().FromRaw(tc.resource))
			tc.fill(rl.ScopeLogs().AppendEmpty().LogRecords())
			r.decodeLogs(ld)
			var got []string
			for _, l := range tails.Of(r.Entity(rl.Resource().Attributes(), noon.UnixNano()), tail.PartOf(tc.part)) {
				got = append(got, l.Text)
			}
			assert.Equal(t, tc.want, got)
		})
	}
}

func say(to plog.LogRecordSlice, severity plog.SeverityNumber, text string) plog.LogRecord {
	r := to.AppendEmpty()
	r.SetSeverityNumber(severity)
	r.SetTimestamp(pcommon.NewTimestampFromTime(noon.Add(time.Duration(to.Len()) * time.Microsecond)))
	r.Body().SetStr(text)
	return r
}

// BenchmarkKeepTail keeps the last lines of a batch of 10 records of a resource.
func BenchmarkKeepTail(b *testing.B) {
	d := New(topology.New(topology.Limits{Entities: 1000, OperationsPerService: 100}), ring.NewDetails(ring.New(1024), 100), Options{}, noVisits, time.Now)
	d.Tails(tail.New())
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	records := rl.ScopeLogs().AppendEmpty().LogRecords()
	for range 10 {
		say(records, plog.SeverityNumberInfo, "order 1234567 of user-17 was accepted in 12 ms")
	}
	b.ReportAllocs()
	for b.Loop() {
		d.keepTail(rl, writer{of: 1, restart: -1}, noon.Add(time.Hour).UnixNano())
	}
}
