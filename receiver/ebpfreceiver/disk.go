package ebpfreceiver

import (
	"strconv"
	"time"

	"github.com/yairfalse/tapio/internal/event"
)

// blockErrorEvent is a request that a block device could not do.
type blockErrorEvent struct {
	base
	device, operation string
	sector            uint64
	bytes             uint32
	status            blockStatus
}

func (blockErrorEvent) name() string   { return event.BlockIOError }
func (blockErrorEvent) isUrgent() bool { return true }

// blockLatencyEvent counts the requests of one kind of a cgroup to a device.
type blockLatencyEvent struct {
	base
	device, operation string
	took              histogram
	bytes             uint64
	interval          time.Duration
}

func (blockLatencyEvent) name() string   { return event.BlockIOLatency }
func (blockLatencyEvent) isUrgent() bool { return false }

// blockSlowEvent: a device takes much longer than it used to, for all or, of one
// with a cgroup, for that.
type blockSlowEvent struct {
	base
	device, operation string
	took              histogram
	// usual is the 90th percentile that is usual, usualRequests how many requests are.
	usual         time.Duration
	usualRequests float64
	// busiest is the cgroup with most of the requests, share its part of them; empty
	// when it is not known.
	busiest  string
	share    float64
	interval time.Duration
}

func (blockSlowEvent) name() string   { return event.BlockIOSlow }
func (blockSlowEvent) isUrgent() bool { return true }

// hurts tells whether what a cgroup asked of the slow device took as long.
func (e *blockSlowEvent) hurts(took *histogram) bool {
	p90 := took.quantile(0.9)
	return took.count >= foreverRequests && microseconds(p90) >= slowDisk.floor && float64(p90) >= slowDisk.factor*float64(e.usual)
}

// blockOperations are those of enum req_op (include/linux/blk_types.h) that have
// the same number in all kernels, as the kernel's log calls them.
var blockOperations = map[uint32]string{0: "READ", 1: "WRITE", 2: "FLUSH", 3: "DISCARD", 5: "SECURE_ERASE", 9: "WRITE_ZEROES"}

func blockOperation(number uint32) string {
	if name, ok := blockOperations[number]; ok {
		return name
	}
	return "OP_" + strconv.Itoa(int(number))
}

// blockStatus is why a request failed: what the kernel's log calls it, and the
// error that programs get.
type blockStatus struct{ reason, errno string }

// blockStatuses are the values of blk_status_t: include/linux/blk_types.h, and
// blk_errors in block/blk-core.c.
var blockStatuses = map[int32]blockStatus{
	1:  {"operation not supported", "EOPNOTSUPP"},
	2:  {"timeout", "ETIMEDOUT"},
	3:  {"critical space allocation", "ENOSPC"},
	4:  {"recoverable transport", "ENOLINK"},
	5:  {"critical target", "EREMOTEIO"},
	6:  {"reservation conflict", "EBADE"},
	7:  {"critical medium", "ENODATA"},
	8:  {"protection", "EILSEQ"},
	9:  {"kernel resource", "ENOMEM"},
	10: {"I/O", "EIO"},
	11: {"dm internal retry", "EREMCHG"},
	12: {"nonblocking retry", "EAGAIN"},
	13: {"device resource", "EBUSY"},
	15: {"open zones exceeded", "ETOOMANYREFS"},
	16: {"active zones exceeded", "EOVERFLOW"},
	17: {"device offline", "ENODEV"},
	18: {"duration limit exceeded", "ETIME"},
	19: {"invalid", "EINVAL"},
}

const (
	// fewRequests is less than one can judge a device by, unless each took for ever.
	fewRequests = 20
	// foreverRequests of at least forever each are a device that hangs.
	foreverRequests = 3
	forever         = time.Second
)

// slowDisk: below 10 ms nobody waits for a disk, and a busy one is a few times
// slower than an idle one.
var slowDisk = threshold{floor: float64(10 * time.Millisecond / time.Microsecond), factor: 4}

// deviceLatency judges one kind of requests to one device by its own past.
type deviceLatency struct {
	// percentile is of the 90th percentiles in microseconds, requests of how many there were.
	percentile, requests baseline
	// pool has the requests of intervals with too few of them.
	pool histogram
	idle int
}

// judge takes what was counted in an interval. An idle disk, and the first burst
// of one that was idle, are never slow.
func (d *deviceLatency) judge(took *histogram) (usual time.Duration, isSlow bool) {
	if took.count >= fewRequests {
		d.requests.learn(float64(took.count))
		return d.observe(took.quantile(0.9))
	}
	if middle := took.quantile(0.5); took.count >= foreverRequests && middle >= forever {
		return d.observe(middle)
	}
	d.percentile.skip()
	d.pool.add(took)
	if d.pool.count >= fewRequests {
		d.percentile.learn(microseconds(d.pool.quantile(0.9)))
		d.pool = histogram{}
	}
	return 0, false
}

func (d *deviceLatency) observe(v time.Duration) (time.Duration, bool) {
	usual, isSlow := d.percentile.judge(microseconds(v), slowDisk)
	return time.Duration(usual * float64(time.Microsecond)), isSlow
}

func (d *deviceLatency) usualRequests() float64 {
	median, _, _ := d.requests.usual()
	return median
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
