package engine

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// poll sends a trace of one turn of a consumer's loop: it takes that long until there
// is work. alone: without a span around it.
func (s *scenario) poll(took time.Duration, alone bool, what string, attributes map[string]any) {
	s.serial++
	name := fmt.Sprint("poll", s.serial)
	trace, end := id16(name), s.clock
	span, td := newSpan(ledger, trace, id8(name), id8(""), what, ptrace.SpanKindConsumer, end.Add(-took), end)
	if !alone {
		span.SetKind(ptrace.SpanKindClient)
		span.SetParentSpanID(id8(name + "loop"))
		_, loop := newSpan(ledger, trace, id8(name+"loop"), id8(""), "loop", ptrace.SpanKindInternal, end.Add(-took-time.Millisecond), end.Add(time.Millisecond))
		s.deliver(item{traces: loop})
	}
	_ = span.Attributes().FromRaw(attributes) // of types that OTLP has
	s.deliver(item{traces: td})
	s.wait(time.Second)
}

// TestWaits: a consumer that waits ten times longer for work is not slow; one that
// works ten times longer is.
func TestWaits(t *testing.T) {
	received := map[string]any{"messaging.system": "kafka", "messaging.operation.type": "receive"}
	for name, tc := range map[string]struct {
		alone      bool
		span       string
		attributes map[string]any
		waits      bool
	}{
		"receives":               {true, "orders poll", received, true},
		"receives within a loop": {false, "orders poll", received, true},
		"in older words":         {false, "orders poll", map[string]any{"messaging.system": "aws_sqs", "messaging.operation": "receive"}, true},
		"blocks":                 {false, "BLPOP", map[string]any{"db.system.name": "redis", "db.operation.name": "BLPOP"}, true},
		"is configured":          {true, "GET /poll/7", nil, true},
		"is not configured":      {true, "GET /polls/7", nil, false},
		"works":                  {true, "orders process", map[string]any{"messaging.system": "kafka", "messaging.operation.type": "process"}, false},
		"asks":                   {false, "GET", map[string]any{"db.system.name": "redis", "db.operation.name": "GET"}, false},
		"another's command":      {false, "BLPOP", map[string]any{"db.system.name": "postgresql", "db.operation.name": "BLPOP"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t, func(o *Options) { o.Impact.Waits = []*regexp.Regexp{regexp.MustCompile("^(?:GET /poll/.)$")} })
			for range 300 {
				s.poll(200*time.Millisecond, tc.alone, tc.span, tc.attributes)
			}
			for range 90 {
				s.poll(3*time.Second, tc.alone, tc.span, tc.attributes)
			}
			if tc.waits {
				assert.Empty(t, s.latest())
			} else {
				assert.NotEmpty(t, s.latest())
			}
		})
	}
}
