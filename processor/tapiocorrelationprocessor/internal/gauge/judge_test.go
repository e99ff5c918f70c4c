package gauge

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// story sends metrics every interval: normal for a while, then the fault. It
// returns the events that were announced.
func (r *rig) story(resource map[string]any, interval time.Duration, normal, fault int, metrics func(i int, faulty bool) []gauge) []string {
	r.t.Helper()
	var events []string
	for i := range normal + fault {
		r.send(resource, metrics(i, i >= normal)...)
		for _, a := range r.step(interval).Anomalies {
			if a.Announce {
				events = append(events, a.Event)
			}
		}
	}
	return events
}

// counters accumulate rates per second, as counters do.
type counters map[string]float64

func (c counters) add(name string, rate float64, interval time.Duration) float64 {
	c[name] += rate * interval.Seconds()
	return c[name]
}

// pick returns the first value while all is well, else the second.
func pick(faulty bool, well, ill float64) float64 {
	if faulty {
		return ill
	}
	return well
}

// wobble is noise of a tenth that is the same in every run.
func wobble(i int) float64 { return 1 + 0.1*math.Sin(float64(i)*2.4) }

// Every event fires when it should, and does not when it nearly should.
func TestEvents(t *testing.T) {
	host := map[string]any{"host.name": "n1"}
	service := map[string]any{"service.name": "orders", "service.instance.id": "1"}
	const mb = 1e6
	type metrics func(c counters, i int, faulty bool, d time.Duration) []gauge
	level := func(name string, well, ill float64, attrs map[string]any, limit string, most float64) metrics {
		return func(_ counters, i int, faulty bool, _ time.Duration) []gauge {
			value := pick(faulty, well*wobble(i), ill)
			return []gauge{{name: name, value: value, attrs: attrs}, {name: limit, value: most, attrs: attrs}}
		}
	}
	rate := func(name string, well, ill float64, attrs map[string]any, hist bool) metrics {
		return func(c counters, i int, faulty bool, d time.Duration) []gauge {
			return []gauge{{name: name, value: c.add(name, pick(faulty, well*wobble(i), ill), d), attrs: attrs, sum: !hist, hist: hist}}
		}
	}
	throttled := func(well, ill float64) metrics {
		return func(c counters, _ int, faulty bool, d time.Duration) []gauge {
			return []gauge{
				{name: "container.cpu.throttling_data.periods", value: c.add("p", 10, d), sum: true},
				{name: "container.cpu.throttling_data.throttled_periods", value: c.add("t", 10*pick(faulty, well, ill), d), sum: true},
			}
		}
	}
	filesystem := func(well, ill float64) metrics {
		return func(_ counters, _ int, faulty bool, _ time.Duration) []gauge {
			used := pick(faulty, well, ill)
			return []gauge{
				{name: "k8s.node.filesystem.usage", value: used * 100 * mb},
				{name: "k8s.node.filesystem.available", value: (1 - used) * 100 * mb},
				// Reserved blocks: the capacity is more than both.
				{name: "k8s.node.filesystem.capacity", value: 105 * mb},
			}
		}
	}
	inodes := func(well, ill float64) metrics {
		return func(_ counters, _ int, faulty bool, _ time.Duration) []gauge {
			free := 1 - pick(faulty, well, ill)
			return []gauge{{name: "k8s.node.filesystem.inode.free", value: 1000 * free}, {name: "k8s.node.filesystem.inode.count", value: 1000}}
		}
	}
	pool := map[string]any{"db.client.connection.pool.name": "main", "db.client.connection.state": "used"}
	queue := func(step float64) metrics {
		return func(_ counters, i int, faulty bool, _ time.Duration) []gauge {
			return []gauge{{name: "rabbitmq.message.current", value: 10*wobble(i) + pick(faulty, 0, step*float64(i-20)), attrs: map[string]any{"state": "ready"}}}
		}
	}
	for _, test := range []struct {
		name     string
		resource map[string]any
		metrics  metrics
		want     string
	}{
		{"cpu at its limit", pod("a"), level("container.cpu.usage", 0.1, 0.95, nil, "k8s.container.cpu_limit", 1), event.MetricCPUSaturated},
		{"cpu that doubles", pod("a"), level("container.cpu.usage", 0.3, 0.7, nil, "k8s.container.cpu_limit", 1), ""},
		{"cpu far above its past", pod("a"), level("container.cpu.usage", 0.1, 0.7, nil, "k8s.container.cpu_limit", 1), event.MetricCPUHigh},
		{"cpu far above its past, a small share of the limit", pod("a"), level("container.cpu.usage", 0.01, 0.15, nil, "k8s.container.cpu_limit", 1), ""},
		{"a cpu that is always busy", pod("a"), level("container.cpu.usage", 0.88, 0.97, nil, "k8s.container.cpu_limit", 1), ""},
		{"cpu time as a counter", pod("a"), rate("container.cpu.time", 0.1, 0.9, nil, false), event.MetricCPUHigh},
		{"throttled in half of the periods", pod("a"), throttled(0.02, 0.5), event.MetricCPUThrottled},
		{"throttled in a fifth of the periods", pod("a"), throttled(0.02, 0.2), ""},
		{"always throttled", pod("a"), throttled(0.4, 0.5), ""},
		{"memory at 95 %", pod("a"), level("container.memory.working_set", 500*mb, 950*mb, nil, "k8s.container.memory_limit", 1000*mb), event.MetricMemoryNearLimit},
		{"memory that doubles below its limit", pod("a"), level("container.memory.working_set", 400*mb, 850*mb, nil, "k8s.container.memory_limit", 1000*mb), ""},
		{"memory without a limit", pod("a"), level("container.memory.working_set", 100*mb, 950*mb, nil, "", 0), ""},
		{"heap full after collections", service, level("jvm.memory.used_after_last_gc", 300*mb, 950*mb, map[string]any{"jvm.memory.type": "heap"}, "jvm.memory.limit", 1000*mb), event.MetricHeapNearLimit},
		{"heap full between collections", service, level("jvm.memory.used", 300*mb, 950*mb, map[string]any{"jvm.memory.type": "heap"}, "jvm.memory.limit", 1000*mb), ""},
		{"metaspace is not heap", service, level("jvm.memory.used_after_last_gc", 300*mb, 950*mb, map[string]any{"jvm.memory.type": "non_heap"}, "jvm.memory.limit", 1000*mb), ""},
		{"collections take a third of the time", service, rate("jvm.gc.duration", 0.01, 0.33, nil, true), event.MetricGCPressure},
		{"collections take a twentieth", service, rate("jvm.gc.duration", 0.01, 0.05, nil, true), ""},
		{"disk at 97 %", host, filesystem(0.7, 0.97), event.MetricDiskFull},
		{"disk at 93 %", host, filesystem(0.7, 0.93), ""},
		{"a disk that has always been at 96 %", host, filesystem(0.96, 0.961), ""},
		{"a disk at 96 % that is then full", host, filesystem(0.96, 1), event.MetricDiskFull},
		{"inodes at 97 %", host, inodes(0.3, 0.97), event.MetricInodesExhausted},
		{"inodes at 90 %", host, inodes(0.3, 0.9), ""},
		{"a disk that is busy all the time", host, rate("system.disk.io_time", 0.05, 0.98, map[string]any{"device": "sda"}, false), event.MetricDiskSaturated},
		{"a disk that is busy half of the time", host, rate("system.disk.io_time", 0.05, 0.5, map[string]any{"device": "sda"}, false), ""},
		{"packets in error", pod("a"), rate("k8s.pod.network.errors", 0, 20, map[string]any{"interface": "eth0", "direction": "receive"}, false), event.MetricNetworkErrors},
		{"a packet in error now and then", pod("a"), rate("k8s.pod.network.errors", 0, 0.5, map[string]any{"interface": "eth0"}, false), ""},
		{"packets dropped", host, rate("system.network.dropped", 0, 20, map[string]any{"device": "eth0"}, false), event.MetricNetworkErrors},
		{"pool at its maximum", service, level("db.client.connection.count", 3, 10, pool, "db.client.connection.max", 10), event.MetricConnectionsExhausted},
		{"pool with one left", service, level("db.client.connection.count", 3, 9, pool, "db.client.connection.max", 10), ""},
		{"a pool that is always full", service, level("db.client.connection.count", 11, 10, pool, "db.client.connection.max", 10), ""},
		{"conntrack full", host, level("system.network.conntrack.count", 10000, 64000, nil, "system.network.conntrack.max", 65536), event.MetricConntrackFull},
		{"conntrack half full", host, level("system.network.conntrack.count", 10000, 33000, nil, "system.network.conntrack.max", 65536), ""},
		{"file descriptors", service, level("process_open_fds", 100, 1020, nil, "process_max_fds", 1024), event.MetricFDsExhausted},
		{"many file descriptors", service, level("process_open_fds", 100, 900, nil, "process_max_fds", 1024), ""},
		{"a queue that grows", service, queue(50), event.MetricQueueGrowing},
		{"a queue that grows slowly", service, queue(1), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, interval := range []time.Duration{10 * time.Second, time.Minute} {
				c := counters{}
				r := newRig(t, Options{})
				normal := 20 * int(time.Minute/interval)
				if test.want == event.MetricQueueGrowing || normal > 20 && test.name == "a queue that grows slowly" {
					normal = 20
				}
				events := r.story(test.resource, interval, normal, 5*int(time.Minute/interval), func(i int, faulty bool) []gauge {
					return test.metrics(c, i, faulty, interval)
				})
				if test.want == "" {
					assert.Empty(t, events, interval)
					continue
				}
				require.NotEmpty(t, events, interval)
				assert.Contains(t, events, test.want, interval)
				assert.LessOrEqual(t, len(events), 6, "once a minute")
			}
		})
	}
}

// Who waits for a connection has none, also when a sample catches the pool with one
// free.
func TestWaitingForAPool(t *testing.T) {
	for _, waiting := range []float64{0, 3} {
		r := newRig(t, Options{})
		service := map[string]any{"service.name": "orders", "service.instance.id": "1"}
		pool := map[string]any{"pool.name": "main", "state": "used"}
		events := r.story(service, time.Minute, 20, 3, func(_ int, faulty bool) []gauge {
			return []gauge{
				{name: "db.client.connections.usage", value: pick(faulty, 2, 9), attrs: pool},
				{name: "db.client.connections.max", value: 10, attrs: pool},
				{name: "db.client.connections.pending_requests", value: pick(faulty, 0, waiting), attrs: pool},
			}
		})
		if waiting > 0 {
			assert.Contains(t, events, event.MetricConnectionsExhausted)
		} else {
			assert.Empty(t, events)
		}
	}
}

// One of many replicas goes wrong, or all of them: load.
func TestReplicas(t *testing.T) {
	for _, bad := range []int{1, 4} {
		r := newRig(t, Options{})
		var last Report
		for i := range 22 {
			for p := range 4 {
				use := 0.1 * wobble(i+p)
				if i >= 20 && p < bad {
					use = 0.95
				}
				r.send(pod(fmt.Sprint(p)), gauge{name: "container.cpu.usage", value: use}, gauge{name: "k8s.container.cpu_limit", value: 1})
			}
			last = r.step(time.Minute)
		}
		require.Len(t, last.Anomalies, bad)
		for _, a := range last.Anomalies {
			assert.Equal(t, 3, a.Replicas)
			assert.Equal(t, bad-1, a.Alike)
		}
	}
}

// A pod without a past is compared with its peers, once it has warmed up.
func TestNewPodAgainstItsPeers(t *testing.T) {
	for _, peers := range []int{2, 4} {
		r := newRig(t, Options{})
		var first time.Duration
		for i := range 26 {
			for p := range peers {
				r.send(pod(fmt.Sprint(p)), gauge{name: "container.cpu.usage", value: 0.1 * wobble(i+p)}, gauge{name: "k8s.container.cpu_limit", value: 1})
			}
			if i >= 21 {
				r.send(pod("new"), gauge{name: "container.cpu.usage", value: 0.7}, gauge{name: "k8s.container.cpu_limit", value: 1})
			}
			rep := r.step(time.Minute)
			if len(rep.Anomalies) > 0 && first == 0 {
				first = time.Duration(i-21) * time.Minute
				assert.Equal(t, r.ids["new"], rep.Anomalies[0].Subject)
				assert.Equal(t, event.MetricCPUHigh, rep.Anomalies[0].Event)
			}
		}
		if peers < minPeers {
			assert.Zero(t, first, "two are no crowd")
		} else {
			assert.Equal(t, 2*time.Minute, first)
		}
	}
}

// The past is not learned while in alarm: a fault of half an hour is one to its end.
func TestPastIsFrozenInAlarm(t *testing.T) {
	r := newRig(t, Options{})
	use := func(i int, faulty bool) []gauge {
		return []gauge{{name: "container.cpu.usage", value: pick(faulty, 0.05*wobble(i), 0.8)}, {name: "k8s.container.cpu_limit", value: 1}}
	}
	r.story(pod("a"), time.Minute, 20, 30, use)
	last := r.reports[len(r.reports)-1]
	require.Len(t, last.Anomalies, 1)
	assert.InDelta(t, 0.05, last.Anomalies[0].Before, 0.01)
	assert.Equal(t, noon.Add(20*time.Minute).UnixNano(), last.Anomalies[0].Since)
	r.send(pod("a"), use(50, false)...)
	assert.Empty(t, r.step(time.Minute).Anomalies, "it ends with its cause")
}

// What lasts for more than an hour is the new normal.
func TestNewNormal(t *testing.T) {
	r := newRig(t, Options{})
	r.story(pod("a"), time.Minute, 20, 70, func(i int, faulty bool) []gauge {
		return []gauge{{name: "container.cpu.usage", value: pick(faulty, 0.05, 0.6) * wobble(i)}, {name: "k8s.container.cpu_limit", value: 1}}
	})
	assert.NotEmpty(t, r.reports[75].Anomalies)
	assert.Empty(t, r.reports[89].Anomalies)
}

// An anomaly does not outlive its data.
func TestSilenceEndsAnAnomaly(t *testing.T) {
	r := newRig(t, Options{})
	r.story(pod("a"), 10*time.Second, 120, 6, func(i int, faulty bool) []gauge {
		return []gauge{{name: "container.cpu.usage", value: pick(faulty, 0.05*wobble(i), 0.95)}, {name: "k8s.container.cpu_limit", value: 1}}
	})
	assert.Len(t, r.step(time.Minute).Anomalies, 1)
	assert.Len(t, r.step(2*time.Minute).Anomalies, 1)
	assert.Empty(t, r.step(0).Anomalies)
	assert.Zero(t, r.Sizes().Active)
}

// A moment of load is no event where samples are frequent.
func TestShortPeak(t *testing.T) {
	r := newRig(t, Options{})
	events := r.story(pod("a"), 10*time.Second, 120, 60, func(i int, faulty bool) []gauge {
		peak := faulty && i%30 == 0
		return []gauge{{name: "container.cpu.usage", value: pick(peak, 0.05*wobble(i), 1)}, {name: "k8s.container.cpu_limit", value: 1}}
	})
	assert.Empty(t, events)
}

// At a limit an alarm does not flap.
func TestHysteresis(t *testing.T) {
	r := newRig(t, Options{})
	var since []int64
	r.story(pod("a"), 10*time.Second, 120, 60, func(i int, faulty bool) []gauge {
		use := pick(faulty, 500, 905)
		if faulty && i > 130 && i%4 < 2 {
			use = 880
		}
		return []gauge{{name: "container.memory.working_set", value: use}, {name: "k8s.container.memory_limit", value: 1000}}
	})
	for _, rep := range r.reports {
		for _, a := range rep.Anomalies {
			if len(since) == 0 || since[len(since)-1] != a.Since {
				since = append(since, a.Since)
			}
		}
	}
	assert.Len(t, since, 1)
}

// What varies by itself supports a cause; it adds nothing to the score of a service.
func TestMemoryAndDiskDoNotScore(t *testing.T) {
	r := newRig(t, Options{})
	r.story(pod("a"), time.Minute, 20, 2, func(_ int, faulty bool) []gauge {
		return []gauge{{name: "container.memory.working_set", value: pick(faulty, 500, 950)}, {name: "k8s.container.memory_limit", value: 1000}}
	})
	a := r.reports[21].Anomalies
	require.Len(t, a, 1)
	assert.Zero(t, a[0].Score)
}

// CPU that rises below half of its limit supports other signs, but is no alarm alone.
func TestScoreBelowHalfTheLimit(t *testing.T) {
	for value, want := range map[float64]bool{0.4: false, 0.6: true} {
		r := newRig(t, Options{})
		r.story(pod("a"), time.Minute, 20, 1, func(_ int, faulty bool) []gauge {
			return []gauge{{name: "container.cpu.usage", value: pick(faulty, 0.02, value)}, {name: "k8s.container.cpu_limit", value: 1}}
		})
		a := r.reports[20].Anomalies
		require.Len(t, a, 1)
		assert.Greater(t, a[0].Z, 4.5)
		assert.Equal(t, want, a[0].Score >= 4.5)
	}
}

func TestTidy(t *testing.T) {
	for in, want := range map[float64]float64{0: 0, 0.10000000149011612: 0.1, 123456789: 123457000, 1.5: 1.5, -2.0000001: -2} {
		assert.InEpsilon(t, want+1, tidy(in)+1, 1e-12)
	}
}

// The details carry what patterns read.
func TestDetail(t *testing.T) {
	a := Anomaly{
		Key: Key{Subject: 1, Class: ClassDisk, Container: "app", Instance: "/var"}, Event: event.MetricDiskFull,
		Z: 1, Value: 98, Before: 70, Limit: 100,
	}
	assert.Equal(t, &record.Detail{Name: event.MetricDiskFull, Attrs: []record.Attr{
		{Key: event.KeyMetricClass, Value: "disk"},
		{Key: event.KeyMetricUnit, Value: "By"},
		{Key: event.KeyMetricValue, Value: 98.0},
		{Key: event.KeyMetricLimit, Value: 100.0},
		{Key: event.KeyMetricInstance, Value: "/var"},
		{Key: event.KeyContainerName, Value: "app"},
		{Key: event.KeyMetricBefore, Value: 70.0},
		{Key: event.KeyMetricZ, Value: 1.0},
	}}, a.Detail())
	p := Prediction{Key: Key{Class: ClassMemory}, Value: 1, Slope: 0.5, Consistency: 0.9, Time: 10e9, ETA: 130e9}
	d := p.Detail()
	assert.Equal(t, event.MetricLimitPredicted, d.Name)
	assert.InDelta(t, 120, d.Attr(event.KeyMetricETA), 1e-9)
	assert.InDelta(t, 0.5, d.Attr(event.KeyMetricSlope), 1e-9)
	assert.Nil(t, d.Attr(event.KeyMetricLimit), "unknown is absent")
}
