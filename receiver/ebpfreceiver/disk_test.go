package ebpfreceiver

import (
	"bufio"
	"encoding/json"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/kmsg"
)

// histogramOf counts some durations as the kernel program does.
func histogramOf(durations ...time.Duration) *histogram {
	h := &histogram{}
	for _, d := range durations {
		slot := histogramSlots - 1
		for slot > 0 && slotStart(slot) > d {
			slot--
		}
		h.slots[slot]++
		h.count++
		h.total += d
	}
	return h
}

func requests(n int, d time.Duration) *histogram {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = d
	}
	return histogramOf(all...)
}

func TestSlotsFollowOnEachOther(t *testing.T) {
	t.Parallel()
	assert.Equal(t, time.Duration(0), slotStart(0))
	assert.Equal(t, 4*histogramUnit, slotStart(4))
	assert.Equal(t, 7*histogramUnit, slotStart(7))
	assert.Equal(t, 8*histogramUnit, slotStart(8))
	for i := 1; i < histogramSlots; i++ {
		assert.Greater(t, slotStart(i), slotStart(i-1))
	}
	assert.InDelta(t, 30, slotStart(histogramSlots-1).Seconds(), 1)
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	h := requests(90, time.Millisecond)
	h.add(requests(10, time.Second))
	assert.InEpsilon(t, 0.001, h.quantile(0.5).Seconds(), 0.15)
	assert.InEpsilon(t, 0.001, h.quantile(0.9).Seconds(), 0.15)
	assert.InEpsilon(t, 1.0, h.quantile(0.91).Seconds(), 0.15)
	assert.InEpsilon(t, 1.0, h.quantile(1).Seconds(), 0.15)
	assert.Equal(t, slotStart(histogramSlots-1), requests(1, time.Hour).quantile(0.5), "no more is known")
	assert.Zero(t, (&histogram{}).quantile(0.5))
	assert.Zero(t, (&histogram{}).mean())
}

// TestRecordedLatencies replays what a real machine's disk (a builder's, others
// at work) and a loop device on it took, second by second; from second 31 on the
// cgroup that used the loop device was allowed 50 reads a second.
func TestRecordedLatencies(t *testing.T) {
	t.Parallel()
	f, err := os.Open("testdata/latencies.jsonl")
	require.NoError(t, err)
	defer f.Close()
	devices := map[string]*deviceLatency{}
	slow := map[string][]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var line struct {
			Device, Operation string
			Interval          int
			Slots             map[int]uint32
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line))
		took := &histogram{}
		for slot, n := range line.Slots {
			took.slots[slot] = n
			took.count += uint64(n)
		}
		key := line.Device + " " + line.Operation
		if devices[key] == nil {
			devices[key] = &deviceLatency{}
		}
		if usual, isSlow := devices[key].judge(took); isSlow {
			slow[key] = append(slow[key], line.Interval)
			assert.Less(t, usual, time.Millisecond)
		}
	}
	assert.Len(t, devices, 5)
	assert.Equal(t, map[string][]int{"loop0 READ": {32, 33, 34, 35, 36, 37, 38}}, slow, "from the second interval on, and no other device")
}

func TestDiskThatIsNotSlow(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	noise := func(d time.Duration) time.Duration { return time.Duration(float64(d) * (0.5 + random.Float64())) }
	for name, interval := range map[string]func(i int) *histogram{
		"idle":                func(int) *histogram { return &histogram{} },
		"slow from the start": func(int) *histogram { return requests(100, 200*time.Millisecond) },
		"one burst": func(i int) *histogram {
			if i%50 == 49 {
				return requests(100, time.Second)
			}
			return requests(100, time.Millisecond)
		},
		"a request now and then that takes long": func(i int) *histogram { return requests(i%2, 3*time.Second) },
		"faster than anybody notices":            func(i int) *histogram { return requests(100, time.Duration(50+i*50)*time.Microsecond) },
		"noisy":                                  func(int) *histogram { return requests(100, noise(20*time.Millisecond)) },
		"a first burst after idling": func(i int) *histogram {
			if i < 60 {
				return &histogram{}
			}
			return requests(1000, 500*time.Millisecond)
		},
	} {
		var d deviceLatency
		for i := range 100 {
			_, isSlow := d.judge(interval(i))
			assert.False(t, isSlow, "%s: interval %d", name, i)
		}
	}
}

func TestDiskThatHangs(t *testing.T) {
	t.Parallel()
	var d deviceLatency
	for range 300 { // a few requests in each interval: together they teach what is usual
		_, isSlow := d.judge(requests(2, time.Millisecond))
		require.False(t, isSlow)
	}
	_, first := d.judge(requests(4, 5*time.Second))
	usual, second := d.judge(requests(4, 5*time.Second))
	assert.False(t, first, "once is a burst")
	assert.True(t, second)
	assert.InDelta(t, 0.001, usual.Seconds(), 0.0005)
}

func TestWhatStaysIsTheNewUsual(t *testing.T) {
	t.Parallel()
	var d deviceLatency
	for range 20 {
		d.judge(requests(100, time.Millisecond))
	}
	alarms := 0
	for range 200 {
		if _, isSlow := d.judge(requests(100, 100*time.Millisecond)); isSlow {
			alarms++
		}
	}
	assert.Equal(t, usualAfter-alarmAfter+1, alarms)
}

func TestSlowDiskSentence(t *testing.T) {
	t.Parallel()
	ev := blockSlowEvent{
		base: base{at: 5}, device: "sda", operation: "READ", took: *requests(250, 81*time.Millisecond), usual: 420 * time.Microsecond,
		usualRequests: 310, busiest: "/system.slice/backup.service", share: 0.75, interval: 10 * time.Second,
	}
	record, resource := encodeOne(t, ev)
	assert.Equal(t, plog.SeverityNumberWarn, record.SeverityNumber())
	assert.Equal(t, "Block device sda is slow: 90 % of 250 requests (READ) took up to 75.5ms, usual for the device are 420µs and 310 requests", record.Body().Str())
	assert.Equal(t, map[string]any{event.KeyHostName: "node-7"}, resource, "it is the machine's, whoever uses it most")
	attrs := record.Attributes().AsRaw()
	assert.Equal(t, "/system.slice/backup.service", attrs[event.KeyBlockBusiestCgroup])
	assert.InDelta(t, 0.00042, attrs[event.KeyBlockLatencyUsual], 1e-9)
}

// TestDiskErrorsAreToldOnce: of the kernel's log only what no request tells.
func TestDiskErrorsAreToldOnce(t *testing.T) {
	t.Parallel()
	of := func(device string) *kmsg.Event {
		return &kmsg.Event{Name: event.BlockIOError, Attributes: []kmsg.Attribute{{Key: event.KeyBlockDevice, Text: device}}}
	}
	assert.True(t, isRequestError("I/O error, dev sdz, sector 8 op 0x0:(READ) flags 0x0", of("sdz")))
	assert.False(t, isRequestError("Buffer I/O error on dev dm-99, logical block 1, async page read", of("dm-99")))
	assert.False(t, isRequestError("Buffer I/O error on dev ../../etc, logical block 1", of("../../etc")))
	disks, _ := os.ReadDir(blockDevices)
	for _, d := range disks {
		if _, err := os.Stat(blockDevices + d.Name() + "/mq"); err == nil {
			assert.True(t, isRequestError("Buffer I/O error on dev "+d.Name()+", logical block 1", of(d.Name())))
			return
		}
	}
}
