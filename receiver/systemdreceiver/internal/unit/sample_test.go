package unit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestSamples(t *testing.T) {
	at := time.Unix(1_795_000_000, 0)
	var s Sample
	for i, memory := range []uint64{10, 30, 20, None} {
		s = s.Next(Sample{InvocationID: "a", At: at.Add(time.Duration(i) * time.Second), Memory: memory, Tasks: 3})
	}
	assert.Equal(t, uint64(30), s.MemoryPeak)
	s = s.Next(Sample{InvocationID: "a", At: at, Memory: 25, Tasks: 4})
	event := func(run string) *Event {
		e := &Event{At: at.Add(2 * time.Second), Unit: *New("a.service")}
		e.Unit.InvocationID = run
		return e
	}

	e := event("a")
	s.Recall(e)
	assert.Equal(t, []uint64{25, 30, 4}, []uint64{e.Unit.MemoryCurrent, e.Unit.MemoryPeak, e.Unit.TasksCurrent})
	assert.Equal(t, 2*time.Second, e.SampleAge)

	e = event("a")
	e.Unit.MemoryCurrent, e.Unit.MemoryPeak, e.Unit.TasksCurrent = 1, 2, 3
	s.Recall(e)
	assert.Equal(t, []uint64{1, 2, 3}, []uint64{e.Unit.MemoryCurrent, e.Unit.MemoryPeak, e.Unit.TasksCurrent}, "what systemd says counts")
	assert.Zero(t, e.SampleAge)

	for _, run := range []string{"", "b"} {
		e = event(run)
		s.Recall(e)
		Sample{Memory: 1}.Recall(e)
		assert.Equal(t, uint64(None), e.Unit.MemoryCurrent, "another run")
	}
	next := s.Next(Sample{InvocationID: "b", Memory: 5})
	assert.Equal(t, uint64(5), next.MemoryPeak, "another run has another peak")
}
