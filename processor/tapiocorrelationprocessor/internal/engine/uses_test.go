package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/detect"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/pattern"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// TestEventsAreKeptAsLongAsAPatternUsesThem: most of what a node tells is processes that
// end in good order, which no pattern looks at for as long as at a kill.
func TestEventsAreKeptAsLongAsAPatternUsesThem(t *testing.T) {
	patterns, err := pattern.Library()
	require.NoError(t, err)
	u := newUses(5*time.Minute, patterns)
	kept := func(name string, attrs ...record.Attr) time.Duration {
		return time.Duration(u.until(&detect.Occurrence{Name: name, Time: 0, Detail: &record.Detail{Name: name, Attrs: attrs}}))
	}
	class := func(c string) record.Attr { return record.Attr{Key: keyExitClass, Value: c} }
	assert.Equal(t, time.Hour, kept(event.ProcessExit, class(exitKilled), record.Attr{Key: event.KeyExitSignal, Value: int64(9)}), "an effect of a leak")
	assert.Equal(t, 15*time.Minute, kept(event.ProcessExit, class(exitStopped)))
	assert.Equal(t, 5*time.Minute, kept(event.ProcessSignal), "the window: no pattern names it")
	assert.Equal(t, time.Hour, kept(event.OOMKill))
}

// TestWhatIsForgottenEarlyIsSaid in the log, rarely, and by findings whose cause may be
// among it.
func TestWhatIsForgottenEarlyIsSaid(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	s := newScenario(t, func(o *Options) { o.MaxDetails, o.Logger = 400, zap.New(core) })
	s.healthy(5 * time.Second)
	flood := func(n int) {
		for i := range n {
			s.exit(service{name: "", host: "node1", pid: 1000 + int64(i)}, map[string]any{event.KeyProcessExitCode: 0})
			if i%10 == 0 {
				s.wait(time.Second)
			}
		}
	}
	flood(90)
	s.wait(2 * sweepEvery)
	assert.Zero(t, logs.Len(), "there is room")
	flood(300)
	s.wait(2 * sweepEvery)
	require.Equal(t, 1, logs.Len())
	assert.Contains(t, logs.All()[0].Message, "raise limits::details")
	assert.Contains(t, logs.All()[0].ContextMap()["events"], "tapio.process.exit (the last ")
	flood(300)
	s.wait(2 * sweepEvery)
	assert.Equal(t, 1, logs.Len(), "not again so soon")

	s.refusals(10, "u")
	s.wait(5 * time.Second)
	f := s.one()
	assert.Equal(t, "connection-refused", f.Pattern)
	assert.Contains(t, missingText(f), "Of the events tapio.process.exit only those of the last ")
}
