package visit

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// worker is a service of which there are log records alone.
const worker = record.EntityID(4)

// work lets a worker log for a time: how many errors and good records each second.
func (r *rig) work(d time.Duration, of record.EntityID, failed func(second int) int) {
	for second := range int(d / time.Second) {
		for range failed(second) {
			r.Log(Log{Service: of, Template: logNew, Time: r.now, Severity: severityError})
		}
		r.Log(Log{Service: of, Template: logDone, Time: r.now, Severity: 9})
		r.now += sec
		if second%5 == 4 {
			r.suspect = r.Judge(r.now)
		}
	}
}

func every(n int) func(int) int {
	return func(second int) int {
		if second%n == 0 {
			return 1
		}
		return 0
	}
}

func TestErrorsOfAServiceWithoutSpans(t *testing.T) {
	r := newRig(Options{})
	r.work(10*time.Minute, worker, every(20)) // three a minute
	require.Empty(t, r.suspect)
	began := r.now
	r.work(30*time.Second, worker, every(1))
	require.Len(t, r.suspect, 1)
	s := r.suspect[0]
	assert.Equal(t, worker, s.Service)
	assert.GreaterOrEqual(t, s.Score, Alarm)
	assert.Equal(t, Errors, s.Signals[0].Kind)
	assert.Equal(t, "errors", s.Signals[0].Kind.String())
	assert.Equal(t, logNew, s.Signals[0].Template)
	assert.InDelta(t, 3, s.Signals[0].Before.K, 1)
	assert.LessOrEqual(t, s.Since, began)
	assert.Greater(t, s.Since, began-int64(time.Minute))

	// It does not become what is usual, and is over when it is.
	r.work(10*time.Minute, worker, every(1))
	require.Len(t, r.suspect, 1)
	r.work(3*time.Minute, worker, every(20))
	assert.Empty(t, r.suspect)
	r.work(time.Minute, worker, every(1))
	assert.Len(t, r.suspect, 1, "again")
}

func TestErrorsThatSayNothing(t *testing.T) {
	usual := every(20)
	for name, now := range map[string]func(int) int{
		"three times as many as ever":    every(7),
		"one stack trace":                func(second int) int { return map[bool]int{true: 40}[second == 10] },
		"few, even if there were none":   every(7),
		"good records, however many":     func(int) int { return 0 },
		"as many as in a minute before":  every(20),
		"a worker that was heard of now": nil,
	} {
		r := newRig(Options{})
		if now == nil {
			r.work(4*time.Minute, worker, every(1))
		} else {
			r.work(10*time.Minute, worker, usual)
			r.work(time.Minute, worker, now)
		}
		assert.Empty(t, r.suspect, name)
	}
}

// Where there are spans, visits say which requests fail.
func TestErrorsBesideSpans(t *testing.T) {
	r := warmed(Options{})
	r.work(10*time.Minute, back, every(20))
	r.work(time.Minute, back, every(1))
	for _, s := range r.suspect {
		assert.NotEqual(t, Errors, s.Signals[0].Kind)
	}
}

// A clock that jumps and slots long past change nothing but what they must.
func TestErrorsWithWrongClocks(t *testing.T) {
	r := newRig(Options{})
	r.work(10*time.Minute, worker, every(20))
	for range 100 {
		r.Log(Log{Service: worker, Template: logNew, Time: r.now - 3*3600*sec, Severity: severityError})
	}
	r.work(20*time.Second, worker, every(20))
	assert.Empty(t, r.suspect)
	for range 100 {
		r.Log(Log{Service: worker, Template: logNew, Time: r.now + 4*60*sec, Severity: severityError})
	}
	r.work(20*time.Second, worker, every(20))
	assert.Empty(t, r.suspect)
}
