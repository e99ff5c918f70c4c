package visit

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// TestSignals has for every kind of signal a fault that fires it and a change that
// nearly does.
func TestSignals(t *testing.T) {
	for name, tc := range map[string]struct {
		fault  func(i int, q *request)
		want   Kind
		at     record.EntityID
		check  func(t *testing.T, s Signal)
		nearly func(i int, q *request)
	}{
		"vanished": {
			fault: func(_ int, q *request) { q.mute = map[uint32]bool{logDone + 30: true} },
			want:  Vanished, at: back,
			check: func(t *testing.T, s Signal) {
				assert.Equal(t, logDone+30, s.Template)
				assert.Equal(t, opBack, s.Operation)
				assert.Less(t, s.Z, -Alarm)
				assert.Zero(t, s.Now.K)
				assert.Greater(t, s.Before.K, 400.0)
			},
			nearly: func(i int, q *request) {
				if i%20 == 0 { // as a branch does
					q.mute = map[uint32]bool{logDone + 30: true}
				}
			},
		},
		"appeared": {
			fault: func(_ int, q *request) { q.extra = logNew },
			want:  Appeared, at: back,
			check: func(t *testing.T, s Signal) {
				assert.Equal(t, logNew, s.Template)
				assert.Zero(t, s.Before.K)
			},
			nearly: func(i int, q *request) {
				if i%20 == 0 {
					q.extra = logNew
				}
			},
		},
		"exception": {
			fault: func(_ int, q *request) { q.extra, q.exception = logNew, someException },
			want:  Appeared, at: back,
			check: func(t *testing.T, s Signal) { assert.Contains(t, []uint32{logNew, someException}, s.Template) },
			nearly: func(i int, q *request) {
				if i%20 == 0 {
					q.extra, q.exception = logNew, someException
				}
			},
		},
		"failed": {
			fault: func(i int, q *request) { q.failed = i%2 == 0 },
			want:  Failed, at: back,
			check:  func(t *testing.T, s Signal) { assert.Equal(t, opBack, s.Other) },
			nearly: func(i int, q *request) { q.failed = i%60 == 0 },
		},
		"gap": {
			fault: func(_ int, q *request) { q.gap = 60 * ms },
			want:  Gap, at: back,
			check: func(t *testing.T, s Signal) {
				assert.Equal(t, opBack, s.Other)
				assert.Equal(t, middle, s.Peer)
				assert.InDelta(t, 62, s.Mean.Milliseconds(), 2)
				assert.InDelta(t, 2, s.Median.Milliseconds(), 1)
			},
			nearly: func(_ int, q *request) { q.gap = 15 * ms }, // eight times as much, but who notices
		},
		"slow database": {
			fault: func(_ int, q *request) { q.db = 100 * ms },
			want:  Slow, at: back,
			check:  func(t *testing.T, s Signal) { assert.Equal(t, opDB, s.Other) },
			nearly: func(_ int, q *request) { q.db = 15 * ms },
		},
		"slow code": {
			fault: func(_ int, q *request) { q.self = 100 * ms },
			want:  Self, at: back,
			check:  func(t *testing.T, s Signal) { assert.Equal(t, opBack, s.Operation) },
			nearly: func(_ int, q *request) { q.self = 15 * ms },
		},
		"burst": {
			fault: func(_ int, q *request) { q.calls = 6 },
			want:  Burst, at: middle,
			check: func(t *testing.T, s Signal) {
				assert.Equal(t, opBack, s.Other)
				assert.EqualValues(t, 6, s.Mean)
			},
			nearly: func(_ int, q *request) { q.calls = 3 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := warmed(Options{})
			assert.Empty(t, r.suspect, "nothing is wrong")
			r.run(40*time.Second, tc.fault)
			require.NotEmpty(t, r.suspect)
			s := r.suspect[0]
			assert.Equal(t, tc.at, s.Service, "%+v", r.suspect)
			assert.GreaterOrEqual(t, s.Score, Alarm)
			assert.NotEmpty(t, s.Traces)
			assert.InDelta(t, epoch+int64(5*time.Minute), s.Since, float64(2*sec), "it began with the fault")
			found := false
			for _, g := range s.Signals {
				if g.Kind == tc.want && !found {
					found = true
					tc.check(t, g)
				}
			}
			assert.True(t, found, "%v in %+v", tc.want, s.Signals)

			r.run(5*time.Minute, nil)
			assert.Empty(t, r.suspect, "it is over, and did not become the norm")
			r.run(20*time.Second, tc.fault)
			require.NotEmpty(t, r.suspect)
			assert.Equal(t, tc.at, r.suspect[0].Service, "it is found again")

			n := warmed(Options{})
			for range 6 {
				n.run(20*time.Second, tc.nearly)
				for _, s := range n.suspect {
					assert.Less(t, s.Score, Alarm, "%+v", s)
				}
			}
		})
	}
}

func TestStopped(t *testing.T) {
	// Half of the visits take a branch, and a second step follows there. Without it,
	// they stop short.
	branch := func(step bool) func(int, *request) {
		return func(i int, q *request) {
			if i%2 == 0 {
				q.extra = logNew
				if !step {
					q.mute = map[uint32]bool{logDone + 30: true}
				}
			} else {
				q.mute = map[uint32]bool{logDone + 30: true}
			}
		}
	}
	r := newRig(Options{})
	r.run(5*time.Minute, branch(true))
	assert.Empty(t, r.suspect)
	r.run(40*time.Second, branch(false))
	require.NotEmpty(t, r.suspect)
	s := r.suspect[0]
	assert.Equal(t, back, s.Service)
	require.NotEmpty(t, s.Signals)
	assert.Equal(t, Stopped, s.Signals[0].Kind)
	assert.Equal(t, logDone+30, s.Signals[0].Template)
	assert.Equal(t, logNew, s.Signals[0].AfterTemplate)

	n := newRig(Options{})
	n.run(5*time.Minute, branch(true))
	n.run(time.Minute, func(_ int, q *request) { q.mute = map[uint32]bool{logDone + 30: true} }) // the branch is not taken
	assert.Empty(t, n.suspect, "a mix of branches swings")
}

func TestTheCauseIsBelow(t *testing.T) {
	// Back's fault makes middle and front skip their last statement.
	fault := func(_ int, q *request) {
		q.extra = logNew
		q.mute = map[uint32]bool{logDone + 10: true, logDone + 20: true}
	}
	r := warmed(Options{})
	r.run(40*time.Second, fault)
	require.NotEmpty(t, r.suspect)
	assert.Equal(t, back, r.suspect[0].Service)
	assert.Equal(t, []record.EntityID{front, middle}, r.suspect[0].Explains)
	assert.Len(t, r.suspect, 1, "what is explained does not count: %+v", r.suspect)
	assert.Equal(t, r.suspect[0].Score, r.suspect[0].Lead)

	alone := warmed(Options{})
	alone.run(40*time.Second, func(_ int, q *request) { q.mute = map[uint32]bool{logDone + 20: true} })
	require.NotEmpty(t, alone.suspect)
	assert.Equal(t, middle, alone.suspect[0].Service)
	assert.Empty(t, alone.suspect[0].Explains)
}

func TestTwoFaultsAreTwoSuspects(t *testing.T) {
	r := warmed(Options{})
	r.run(40*time.Second, func(i int, q *request) {
		if i%2 == 0 {
			q.mute = map[uint32]bool{logDone + 20: true}
		} else {
			q.extra = logNew
		}
	})
	require.Len(t, r.suspect, 2)
	assert.GreaterOrEqual(t, r.suspect[1].Score, Alarm)
}

func TestASilentFeedIsNoFault(t *testing.T) {
	r := warmed(Options{})
	for range 30 {
		r.run(10*time.Second, func(_ int, q *request) { q.noLogs = true })
		assert.Empty(t, r.suspect, "the feed of all services ended")
	}
	r.run(3*time.Minute, nil)
	assert.Empty(t, r.suspect, "and came back")

	late := newRig(Options{})
	late.lateLogs = 8 * sec
	for range 40 {
		late.run(10*time.Second, nil)
		assert.Empty(t, late.suspect, "log records come later than spans")
	}
}

func TestAFeedOfOneInstance(t *testing.T) {
	a := New(Options{})
	a.now = epoch
	a.Arrived(back, 7, epoch+100*sec)
	v := visit{operation: &operation{service: back}, instance: 8, start: epoch + 40*sec, end: epoch + 41*sec}
	assert.False(t, a.judgeable(&v), "no record was written near it")
	for at := epoch; at < epoch+100*sec; at += sec {
		a.Arrived(back, 7, at)
	}
	assert.True(t, a.judgeable(&v), "an instance that never wrote: that of the service counts")
	a.Arrived(back, 8, epoch+30*sec)
	assert.False(t, a.judgeable(&v), "its own feed ended before")
	a.Arrived(back, 8, epoch+60*sec)
	assert.True(t, a.judgeable(&v))
	v.start, v.end = epoch+500*sec, epoch+501*sec
	assert.False(t, a.judgeable(&v), "nothing since")
}

func TestClocks(t *testing.T) {
	r := newRig(Options{})
	skewed := func(_ int, q *request) { q.skew = -3 * sec }
	r.run(5*time.Minute, skewed)
	assert.Empty(t, r.suspect)
	r.run(40*time.Second, func(_ int, q *request) { q.skew, q.gap = -3*sec, 60*ms })
	require.NotEmpty(t, r.suspect, "durations subtract: a clock that is off changes nothing")
	assert.Equal(t, back, r.suspect[0].Service)

	// A clock that jumps by itself is no fault of the service.
	j := warmed(Options{})
	for range 6 {
		j.run(20*time.Second, func(i int, q *request) { q.skew = int64(i%7) * sec })
		for _, s := range j.suspect {
			assert.Less(t, s.Score, Alarm, "%+v", s)
		}
	}

	// The analyzer's clock is set back.
	b := warmed(Options{})
	b.now -= int64(time.Hour)
	b.run(time.Minute, nil)
	assert.Empty(t, b.suspect)
	b.run(40*time.Second, func(_ int, q *request) { q.extra = logNew })
	require.NotEmpty(t, b.suspect)
	assert.Equal(t, back, b.suspect[0].Service)
}

func TestAMissingRootIsNoFault(t *testing.T) {
	r := warmed(Options{})
	for range 6 {
		r.run(20*time.Second, func(i int, q *request) { q.noFront = i%2 == 0 })
		assert.Empty(t, r.suspect)
	}
}

func TestResource(t *testing.T) {
	r := warmed(Options{})
	r.Resource(middle, 6, r.now)
	r.run(10*time.Second, nil)
	require.Len(t, r.suspect, 1)
	assert.Equal(t, middle, r.suspect[0].Service)
	assert.Equal(t, 6.0, r.suspect[0].Score)
	assert.Equal(t, 6.0, resourceZ(r.suspect[0]))
	r.Resource(middle, 2, r.now)
	r.run(10*time.Second, nil)
	assert.Empty(t, r.suspect, "not abnormal enough")
	r.Resource(middle, 6, r.now)
	r.run(4*time.Minute, nil)
	assert.Empty(t, r.suspect, "an old report")
}

// resourceZ returns the z of the first resource signal.
func resourceZ(s Suspect) float64 {
	for _, g := range s.Signals {
		if g.Kind == Resource {
			return g.Z
		}
	}
	return 0
}

func TestWhatStaysIsTheNorm(t *testing.T) {
	r := warmed(Options{Accept: 10 * time.Minute})
	r.run(5*time.Minute, func(_ int, q *request) { q.extra = logNew })
	require.NotEmpty(t, r.suspect)
	r.run(15*time.Minute, func(_ int, q *request) { q.extra = logNew })
	assert.Empty(t, r.suspect)
}

func TestKinds(t *testing.T) {
	said := map[string]bool{}
	for k := Vanished; k <= Resource; k++ {
		said[k.String()] = true
	}
	assert.Len(t, said, int(Resource))
	assert.Equal(t, "unknown", Kind(0).String())
	assert.Equal(t, "unknown", Kind(200).String())
}

func TestAmbientExceptionsCountLess(t *testing.T) {
	// Two services fail with the same exception all the time, each in some of its
	// requests; now one of them does in all.
	ambient := func(every int) func(int, *request) {
		return func(i int, q *request) {
			if i%every == 0 {
				q.extra, q.exception = logNew, someException
			}
			q.frontFails = i%12 == 1
		}
	}
	score := func(known bool) float64 {
		r := newRig(Options{})
		if known {
			r.run(5*time.Minute, ambient(12))
		} else {
			r.run(5*time.Minute, nil)
		}
		assert.Empty(t, r.suspect)
		r.run(50*time.Second, func(i int, q *request) {
			ambient(2)(i, q)
			q.frontFails = false
			q.mute = map[uint32]bool{logDone + 30: i%2 == 0}
		})
		if len(r.suspect) == 0 {
			return 0
		}
		assert.Equal(t, back, r.suspect[0].Service)
		return r.suspect[0].Score
	}
	news := score(false)
	assert.Greater(t, news, Alarm)
	assert.Less(t, score(true), 0.8*news)
}

// A visit that always takes seconds waits on purpose: for a message, for news, for its
// stream to end. How long, says nothing; that of an ordinary one does.
func TestAnIntentionalWaitIsNoTrouble(t *testing.T) {
	worst := func(usually int64) (score float64) {
		r := newRig(Options{})
		r.run(5*time.Minute, func(_ int, q *request) { q.self = usually })
		r.run(40*time.Second, func(_ int, q *request) { q.self = 10 * usually })
		for _, s := range r.suspect {
			score = max(score, s.Score)
		}
		return score
	}
	assert.Less(t, worst(wait+sec), Alarm)
	assert.GreaterOrEqual(t, worst(wait/2), Alarm)
}

// What a visit lost says more when its service itself says that something failed. An
// exception may be what others did to it, and a branch that is only rare is none.
func TestAnErrorTellsOfWhatVanished(t *testing.T) {
	score := func(severity uint8, exception uint32, mute ...uint32) float64 {
		r := warmed(Options{})
		r.run(20*time.Second, func(_ int, q *request) {
			q.extra, q.severity, q.exception, q.mute = logNew, severity, exception, map[uint32]bool{}
			for _, m := range mute {
				q.mute[m] = true
			}
		})
		require.NotEmpty(t, r.suspect)
		assert.Equal(t, back, r.suspect[0].Service)
		return r.suspect[0].Score
	}
	rare := score(9, 0, logDone+30)
	assert.InDelta(t, rare*math.Hypot(1, support), score(17, 0, logDone+30), 0.01, "the service says so")
	assert.InDelta(t, rare, score(17, someException, logDone+30), 0.01, "an exception may be others'")
	assert.InDelta(t, rare, score(17, 0), 0.01, "nothing is missing")
}

func TestUnanswered(t *testing.T) {
	// Two services call back, neither reaches it any more, and nothing else changed.
	both := func(lostMiddle, lostFront bool) func(int, *request) {
		return func(i int, q *request) {
			q.frontCalls, q.lost, q.lostFront = true, lostMiddle && i%2 == 0, lostFront && i%2 == 1
		}
	}
	r := newRig(Options{})
	r.run(5*time.Minute, both(false, false))
	assert.Empty(t, r.suspect)
	r.run(50*time.Second, both(true, true))
	require.NotEmpty(t, r.suspect)
	s := r.suspect[0]
	assert.Equal(t, back, s.Service)
	assert.GreaterOrEqual(t, s.Score, Alarm)
	require.NotEmpty(t, s.Signals)
	assert.Equal(t, Unanswered, s.Signals[0].Kind)
	assert.Equal(t, opBack, s.Signals[0].Other)
	assert.Equal(t, []record.EntityID{front, middle}, s.Explains)
	assert.NotEmpty(t, s.Traces)

	n := newRig(Options{})
	n.run(5*time.Minute, both(false, false))
	n.run(50*time.Second, both(true, false))
	require.NotEmpty(t, n.suspect)
	assert.Equal(t, middle, n.suspect[0].Service, "one caller alone may have changed its mind")
	assert.Equal(t, back, n.suspect[0].Signals[0].Peer)
}

// A branch that every second visit takes may be taken by the first ones without
// exception. What follows must not be sorted by what these have in common, or else the
// past would never know that there is another way.
func TestABranchThatBeganWithoutTheOtherIsNoFault(t *testing.T) {
	r := newRig(Options{})
	r.run(5*time.Second, func(_ int, q *request) { q.frontCalls = true }) // ten of ten
	for range 60 {
		r.run(5*time.Second, func(i int, q *request) { q.frontCalls = true; q.lostFront = (i^i>>1)%2 == 0 })
		for _, s := range r.suspect {
			require.Less(t, s.Score, float64(Alarm), "%+v", s)
		}
	}
}
