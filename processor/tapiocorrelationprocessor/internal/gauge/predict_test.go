package gauge

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
)

// grow sends the memory of a container with a limit of 1000 for a number of
// minutes, and returns all predictions.
func (r *rig) grow(interval time.Duration, minutes float64, used func(minute float64) float64) []Prediction {
	r.t.Helper()
	var out []Prediction
	begin := r.at
	for r.at.Sub(begin).Minutes() < minutes {
		u := used(r.at.Sub(begin).Minutes())
		r.send(pod("a"), gauge{name: "container.memory.working_set", value: u}, gauge{name: "k8s.container.memory_limit", value: 1000})
		out = append(out, r.step(interval).Predictions...)
	}
	return out
}

func states(ps []Prediction) (out []State) {
	for _, p := range ps {
		if len(out) == 0 || out[len(out)-1] != p.State {
			out = append(out, p.State)
		}
	}
	return out
}

func TestLeakIsPredictedAndConfirmed(t *testing.T) {
	for _, interval := range []time.Duration{5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute} {
		t.Run(fmt.Sprint(interval), func(t *testing.T) {
			r := newRig(t, Options{})
			n := noise()
			ps := r.grow(interval, 60, func(m float64) float64 { return 300 + 25*max(m-20, 0) + 5*n() })
			require.Equal(t, []State{StatePredicted, StateConfirmed}, states(ps))
			p := ps[0]
			assert.Equal(t, Key{Subject: r.ids["a"], Class: ClassMemory, Container: "app"}, p.Key)
			assert.InEpsilon(t, 25.0/60, p.Slope, 0.15)
			assert.InDelta(t, 1000, p.Limit, 0)
			// It grows from minute 20 and is at its limit at minute 48.
			assert.WithinDuration(t, noon.Add(48*time.Minute), time.Unix(0, p.ETA).UTC(), 3*time.Minute)
			assert.WithinDuration(t, noon.Add(20*time.Minute), time.Unix(0, p.Since).UTC(), 8*time.Minute)
			warned := time.Duration(p.ETA - p.Time)
			assert.Greater(t, warned, 8*time.Minute)
			assert.LessOrEqual(t, warned, DefaultHorizon)
			assert.Empty(t, r.Predicted())
			assert.InDelta(t, 1000, ps[len(ps)-1].Value, 30)
		})
	}
}

func TestKillConfirms(t *testing.T) {
	r := newRig(t, Options{})
	ps := r.grow(10*time.Second, 18, func(m float64) float64 { return 300 + 35*m })
	require.Equal(t, []State{StatePredicted}, states(ps))
	require.Len(t, r.Predicted(), 1)
	assert.Equal(t, 1, r.Sizes().Predicted)
	_, ok := r.Confirm(Key{Subject: 99, Class: ClassMemory}, r.at.UnixNano())
	assert.False(t, ok)
	p, ok := r.Confirm(r.Predicted()[0].Key, r.at.UnixNano())
	require.True(t, ok)
	assert.Equal(t, StateConfirmed, p.State)
	_, ok = r.Confirm(p.Key, r.at.UnixNano())
	assert.False(t, ok, "once")
	// The restarted container leaks again: it is predicted again, though it stays
	// below what it reached before.
	ps = r.grow(10*time.Second, 18, func(m float64) float64 { return 300 + 35*m })
	assert.Equal(t, []State{StatePredicted}, states(ps))
}

func TestTrendThatEndsIsWithdrawn(t *testing.T) {
	for name, after := range map[string]func(m float64) float64{
		"it stops":    func(float64) float64 { return 825 },
		"it is freed": func(float64) float64 { return 300 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Options{})
			ps := r.grow(10*time.Second, 60, func(m float64) float64 {
				switch {
				case m < 15:
					return 300
				case m < 30:
					return 300 + 35*(m-15)
				}
				return after(m)
			})
			assert.Equal(t, []State{StatePredicted, StateWithdrawn}, states(ps))
			assert.Empty(t, r.Predicted())
		})
	}
	t.Run("silence", func(t *testing.T) {
		r := newRig(t, Options{})
		ps := r.grow(10*time.Second, 30, func(m float64) float64 { return 300 + 35*max(m-15, 0) })
		require.Equal(t, []State{StatePredicted}, states(ps))
		assert.Empty(t, r.step(time.Minute).Predictions)
		r.at = r.at.Add(2 * time.Minute)
		ps = r.step(0).Predictions
		require.Len(t, ps, 1)
		assert.Equal(t, StateWithdrawn, ps[0].State)
	})
}

func TestNoFalseWarnings(t *testing.T) {
	n := noise()
	for name, used := range map[string]func(m float64) float64{
		"sawtooth of collections":           func(m float64) float64 { return 400 + 40*math.Mod(m, 12) + 5*n() },
		"slow sawtooth":                     func(m float64) float64 { return 300 + 9*math.Mod(m, 45) + 5*n() },
		"a cache that fills up":             func(m float64) float64 { return 900*(1-math.Exp(-m/8)) + 5*n() },
		"a warm-up to two thirds":           func(m float64) float64 { return 100 + 70*min(m, 8) + 5*n() },
		"daily load":                        func(m float64) float64 { return 600 + 250*math.Sin(m/180*math.Pi) + 10*n() },
		"noise":                             func(float64) float64 { return 600 + 100*n() },
		"a step of a release":               func(m float64) float64 { return 500 + 250*math.Floor(min(m, 99)/50) + 5*n() },
		"a leak of days":                    func(m float64) float64 { return 600 + 0.3*m + 2*n() },
		"fast but far below half the limit": func(m float64) float64 { return min(50+30*m, 400) + 5*n() },
	} {
		for _, interval := range []time.Duration{10 * time.Second, time.Minute} {
			t.Run(fmt.Sprint(name, " ", interval), func(t *testing.T) {
				r := newRig(t, Options{})
				assert.Empty(t, r.grow(interval, 180, used))
			})
		}
	}
}

func TestHorizon(t *testing.T) {
	for horizon, want := range map[time.Duration]bool{-1: false, 5 * time.Minute: false, 30 * time.Minute: true} {
		r := newRig(t, Options{Horizon: max(horizon, 1)})
		// At minute 22 the limit is 18 minutes away.
		ps := r.grow(10*time.Second, 22, func(m float64) float64 { return 500 + 12.5*m })
		assert.Equal(t, want, len(ps) > 0, horizon)
	}
}

func TestNothingIsPredictedWithoutALimit(t *testing.T) {
	r := newRig(t, Options{})
	for i := range 60 {
		r.send(pod("a"), gauge{name: "container.memory.working_set", value: 500 + 20*float64(i)})
		assert.Empty(t, r.step(time.Minute).Predictions)
	}
}

func TestDiskAndConnectionsArePredicted(t *testing.T) {
	r := newRig(t, Options{})
	host := map[string]any{"host.name": "n1"}
	pool := map[string]any{"pool.name": "main", "state": "used"}
	var disk, conns []State
	for i := range 45 {
		used := min(0.6+0.01*float64(i), 1)
		r.send(host, gauge{name: "k8s.node.filesystem.usage", value: used * 1e9}, gauge{name: "k8s.node.filesystem.available", value: (1 - used) * 1e9})
		r.send(map[string]any{"service.name": "s", "service.instance.id": "1"},
			gauge{name: "db.client.connections.usage", value: math.Floor(min(100+float64(4*i), 200)), attrs: pool},
			gauge{name: "db.client.connections.max", value: 200, attrs: pool})
		for _, p := range r.step(time.Minute).Predictions {
			switch p.Class {
			case ClassDisk:
				disk = append(disk, p.State)
			case ClassConnections:
				conns = append(conns, p.State)
			}
		}
	}
	assert.Equal(t, []State{StatePredicted, StateConfirmed}, disk)
	assert.Equal(t, []State{StatePredicted, StateConfirmed}, conns)
}

// A day of a hundred healthy containers of all habits: nothing is announced, nothing
// predicted.
func TestHealthyDay(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates a day of a hundred containers")
	}
	r := newRig(t, Options{})
	rnd := rand.New(rand.NewPCG(7, 7))
	type habit struct{ cpu, memory, tooth, period, noise float64 }
	var habits []habit
	for range 100 {
		habits = append(habits, habit{
			cpu: 0.02 + 0.4*rnd.Float64(), memory: 200 + 400*rnd.Float64(), tooth: 200 * rnd.Float64(),
			period: 5 + 55*rnd.Float64(), noise: 0.25 * rnd.Float64(),
		})
	}
	for i := range 24 * 60 {
		load := 1 + 0.4*math.Sin(float64(i)/720*math.Pi)
		for p, h := range habits {
			use := h.cpu * load * math.Exp(h.noise*rnd.NormFloat64())
			memory := h.memory + h.tooth*math.Mod(float64(i)+float64(p), h.period)/h.period + 5*rnd.NormFloat64()
			name := fmt.Sprint("p", p)
			r.send(map[string]any{"k8s.pod.uid": name, "k8s.pod.name": name, "k8s.deployment.name": fmt.Sprint("d", p/4), "k8s.namespace.name": "n"},
				gauge{name: "k8s.pod.cpu.usage", value: use}, gauge{name: "k8s.pod.cpu_limit_utilization", value: use},
				gauge{name: "k8s.pod.memory.working_set", value: memory}, gauge{name: "k8s.pod.memory.available", value: 1000 - memory})
		}
		rep := r.step(time.Minute)
		for _, a := range rep.Anomalies {
			assert.Emptyf(t, a.Event, "minute %d: %+v", i, a)
		}
		assert.Emptyf(t, rep.Predictions, "minute %d", i)
	}
	assert.Equal(t, 200, r.Sizes().Series)
	assert.Equal(t, Counts{Used: 24 * 60 * 400}, r.counts)
}

func TestStatesHaveNames(t *testing.T) {
	assert.Equal(t, "predicted confirmed withdrawn unknown", fmt.Sprint(StatePredicted, " ", StateConfirmed, " ", StateWithdrawn, " ", State(0)))
	assert.NotEmpty(t, event.MetricLimitPredicted)
}
