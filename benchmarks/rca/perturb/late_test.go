package perturb

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/yairfalse/tapio/internal/replay"
)

// arrived notes the seconds at which spans of each service happened, in the order in
// which they arrive.
type arrived struct {
	order   []string
	seconds map[string][]int
	records int
	points  int
}

func (a *arrived) ConsumeTraces(_ context.Context, td ptrace.Traces) error {
	for _, rs := range td.ResourceSpans().All() {
		name, _ := rs.Resource().Attributes().Get("service.name")
		for _, s := range rs.ScopeSpans().At(0).Spans().All() {
			a.order = append(a.order, name.Str())
			a.seconds[name.Str()] = append(a.seconds[name.Str()], int(s.StartTimestamp().AsTime().Sub(start).Seconds()))
		}
	}
	return nil
}

func (a *arrived) ConsumeLogs(_ context.Context, ld plog.Logs) error {
	a.records += ld.LogRecordCount()
	return nil
}

func (a *arrived) ConsumeMetrics(_ context.Context, md pmetric.Metrics) error {
	a.points += md.DataPointCount()
	return nil
}

func delivered(t *testing.T, text string) *arrived {
	t.Helper()
	o, err := Parse(text)
	require.NoError(t, err)
	a := &arrived{seconds: map[string][]int{}}
	late := NewLate(o, a)
	buffer := replay.NewBuffer(late, math.MaxInt)
	tel, err := telemetry(0)
	require.NoError(t, err)
	_, err = buffer.Traces(tel.Traces[0])
	require.NoError(t, err)
	_, err = buffer.Logs(tel.Logs[0])
	require.NoError(t, err)
	_, err = buffer.Metrics(tel.Metrics[0])
	require.NoError(t, err)
	require.NoError(t, buffer.Flush(t.Context()))
	require.NoError(t, late.Flush(t.Context()))
	assert.Len(t, a.order, perCase)
	assert.Equal(t, perCase, a.records)
	assert.Equal(t, perCase, a.points)
	return a
}

// Nothing is lost, each service sends in order, and the two of them in batches.
func TestLateInBatches(t *testing.T) {
	a := delivered(t, "late=5s")
	changes := 0
	for i, name := range a.order[1:] {
		if name != a.order[i] {
			changes++
		}
	}
	assert.InDelta(t, 2*traces/5, changes, 4, "each service sends five spans at once, every five seconds")
	for name, seconds := range a.seconds {
		assert.IsIncreasing(t, seconds, name)
	}
	assert.Equal(t, a, delivered(t, "late=5s"), "the same every time")
	assert.NotEqual(t, a, delivered(t, "late=5s,seed=2"))
}

// What is refused at first comes a minute later.
func TestLateAgain(t *testing.T) {
	a := delivered(t, "late=5s,retry=0.1")
	late := 0
	for _, seconds := range a.seconds {
		newest := 0
		for _, s := range seconds {
			if newest-s > 50 {
				late++
			}
			newest = max(newest, s)
		}
	}
	assert.InDelta(t, perCase/10, late, perCase/15)
	assert.Less(t, late, perCase/2)
}

func TestLateHasNothingToDoByDefault(t *testing.T) {
	o, err := Parse("thin=0.5")
	require.NoError(t, err)
	assert.False(t, o.Delays())
	o.Late = time.Second
	assert.True(t, o.Delays())
}
