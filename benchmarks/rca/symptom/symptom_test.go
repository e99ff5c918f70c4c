package symptom

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// minutes are requests, one a second, through a shop into its store. change may break
// the n-th: its body of the store's log record ("" for none) and the time on the way.
func minutes(n int, change func(n int) (body string, way time.Duration)) dataset.Telemetry {
	td, ld := ptrace.NewTraces(), plog.NewLogs()
	spans := map[string]ptrace.SpanSlice{}
	for _, name := range []string{"shop", "store"} {
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", name)
		spans[name] = rs.ScopeSpans().AppendEmpty().Spans()
	}
	records := ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	for i := range n {
		body, way := change(i)
		at := start.Add(time.Duration(i) * time.Second)
		trace := pcommon.TraceID{byte(i), byte(i >> 8), 1}
		for k, name := range []string{"shop", "store"} {
			s := spans[name].AppendEmpty()
			s.SetTraceID(trace)
			s.SetSpanID(pcommon.SpanID{byte(k + 1)})
			s.SetName(name)
			s.SetStartTimestamp(pcommon.NewTimestampFromTime(at))
			s.SetEndTimestamp(pcommon.NewTimestampFromTime(at.Add(10 * time.Millisecond)))
			if k == 1 {
				s.SetParentSpanID(pcommon.SpanID{1})
			} else {
				s.SetEndTimestamp(pcommon.NewTimestampFromTime(at.Add(10*time.Millisecond + way)))
			}
		}
		if body != "" {
			l := records.AppendEmpty()
			l.SetTraceID(trace)
			l.SetSpanID(pcommon.SpanID{2})
			l.Body().SetStr(fmt.Sprintf(body, i))
		}
	}
	return dataset.Telemetry{Traces: []ptrace.Traces{td}, Logs: []plog.Logs{ld}}
}

const found = "found item %d"

func well(int) (string, time.Duration) { return found, time.Millisecond }

func TestFirst(t *testing.T) {
	label := start.Add(90 * time.Second)
	for name, c := range map[string]struct {
		change func(n int) (string, time.Duration)
		want   int // second, -1 for none
	}{
		"nothing":   {well, -1},
		"vanished":  {func(n int) (string, time.Duration) { return map[bool]string{true: found}[n < 120], time.Millisecond }, 120},
		"appeared":  {func(n int) (string, time.Duration) { return map[bool]string{true: found, false: "lost %d"}[n < 100], 0 }, 100},
		"slow":      {func(n int) (string, time.Duration) { return found, time.Duration(n/110) * time.Second }, 110},
		"one alone": {func(n int) (string, time.Duration) { return found, time.Duration(map[int]int{100: 1}[n]) * time.Second }, -1},
		"too early": {func(n int) (string, time.Duration) { return found, time.Duration(n/10) * time.Second }, 30},
	} {
		past := NewPast(minutes(60, well))
		got := past.First(minutes(180, c.change), "store", label)
		if c.want < 0 {
			assert.Zero(t, got, name)
			continue
		}
		assert.Equal(t, start.Add(time.Duration(c.want)*time.Second), got, name)
	}
}

// A failure that the past shows too is another one: what its visits lack says nothing of
// the labelled failure, how long they take does.
func TestAFailureOfTheBackgroundIsNoSymptom(t *testing.T) {
	const known = "java.lang.IllegalStateException: nobody answers %d"
	label := start.Add(90 * time.Second)
	past := NewPast(minutes(60, func(n int) (string, time.Duration) {
		return map[bool]string{true: known, false: found}[n%20 == 3], time.Millisecond
	}))
	failing := func(body string, way time.Duration) dataset.Telemetry {
		return minutes(180, func(n int) (string, time.Duration) {
			switch {
			case n < 100:
				return found, time.Millisecond
			case n < 150:
				return body, way
			}
			return "", time.Millisecond
		})
	}
	after := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	assert.Equal(t, after(150), past.First(failing(known, time.Millisecond), "store", label), "when its own begins")
	assert.Equal(t, after(100), past.First(failing("store.NoItemException %d", time.Millisecond), "store", label), "an exception that is new")
	assert.Equal(t, after(100), past.First(failing(known, time.Second), "store", label), "slow")
}

func TestWithoutAPastNothingIsSaid(t *testing.T) {
	assert.Zero(t, NewPast().First(minutes(180, well), "store", start))
}
