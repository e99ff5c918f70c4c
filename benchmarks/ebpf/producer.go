//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Roles of this binary as the process that is watched.
const (
	roleEnv     = "TAPIO_BENCH_EBPF_ROLE"
	roleSucceed = "succeed"
	roleFail    = "fail"
)

const (
	// callsEach is how many calls each thread makes, in batches of which the fastest
	// half counts: interrupts and neighbours only ever add.
	callsEach = 3_000_000
	batches   = 60
)

// produced is what a producer measured.
type produced struct {
	Calls   uint64
	Elapsed time.Duration
	// CPU is what Calls would have cost at the speed of the faster half of the batches.
	CPU time.Duration
}

func (p produced) perCall() float64 { return float64(p.CPU.Nanoseconds()) / float64(p.Calls) }

// runRole runs this binary as a producer.
func runRole(role string) (produced, error) {
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return produced{}, fmt.Errorf("producer: %w", err)
	}
	var p produced
	return p, json.Unmarshal(out, &p)
}

// produce makes the calls of a role on all CPUs and prints what they cost.
func produce(role string) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var sum produced
	begin := time.Now()
	for range runtime.NumCPU() {
		wg.Go(func() {
			cost := callMany(role)
			mu.Lock()
			defer mu.Unlock()
			sum.Calls += callsEach
			sum.CPU += cost
		})
	}
	wg.Wait()
	sum.Elapsed = time.Since(begin)
	return json.NewEncoder(os.Stdout).Encode(sum)
}

// callMany makes the calls on one thread and returns their CPU time, made up from
// the median batch.
func callMany(role string) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	costs := make([]time.Duration, batches)
	for i := range costs {
		before := threadTime()
		for range callsEach / batches {
			call(role)
		}
		costs[i] = threadTime() - before
	}
	return medianOf(costs) * batches
}

// failingWhich is no kind of process whose priority there is: getpriority(2) fails
// with EINVAL, which nobody else's does.
const failingWhich = 99

func call(role string) {
	if role == roleFail {
		_, _, _ = syscall.RawSyscall(unix.SYS_GETPRIORITY, failingWhich, 0, 0)
		return
	}
	_, _, _ = syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
}

func threadTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // cannot fail with this clock
	return time.Duration(ts.Nano())
}
