//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver"
)

func medianOf(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// nothing watches.
type nothing struct{}

func startNothing() (watcher, error)              { return nothing{}, nil }
func (nothing) cpu() (time.Duration, error)       { return 0, nil }
func (nothing) stop() (counted uint64, err error) { return 0, nil }

// tapio is the receiver, in this process.
type tapio struct {
	receiver receiver.Logs
	counted  atomic.Uint64
	records  atomic.Uint64
	failed   atomic.Bool
}

// sampleInterval is the shortest that the receiver allows.
const sampleInterval = time.Second

// startReceiver runs the group syscalls alone.
func startReceiver() (watcher, error) {
	return startGroups(func(cfg *ebpfreceiver.Config) {
		cfg.Programs = ebpfreceiver.ProgramsConfig{}
		cfg.Programs.Syscalls.Enabled = true
		cfg.SampleInterval = sampleInterval
	})
}

func startGroups(change func(*ebpfreceiver.Config)) (*tapio, error) {
	f := ebpfreceiver.NewFactory()
	cfg := f.CreateDefaultConfig().(*ebpfreceiver.Config)
	change(cfg)
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t := &tapio{}
	next, err := consumer.NewLogs(func(_ context.Context, logs plog.Logs) error {
		t.consume(logs)
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.receiver, err = f.CreateLogs(context.Background(), receivertest.NewNopSettings(f.Type()), cfg, next)
	if err != nil {
		return nil, err
	}
	if err := t.receiver.Start(context.Background(), componenttest.NewNopHost()); err != nil {
		return nil, err
	}
	time.Sleep(100 * time.Millisecond) // until the first record is there
	if t.failed.Load() {
		return nil, errors.Join(errors.New("a kernel program does not run; tapio doctor says why"), t.receiver.Shutdown(context.Background()))
	}
	return t, nil
}

// consume adds up the failing calls of the producers.
func (t *tapio) consume(logs plog.Logs) {
	for _, rl := range logs.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			for _, lr := range sl.LogRecords().All() {
				t.records.Add(1)
				switch lr.EventName() {
				case event.EBPFStarted:
					failed, _ := lr.Attributes().Get(event.KeyEBPFFailed)
					t.failed.Store(failed.Slice().Len() > 0)
				case event.SyscallFailures:
					t.add(lr)
				}
			}
		}
	}
}

func (t *tapio) add(lr plog.LogRecord) {
	name, _ := lr.Attributes().Get(event.KeySyscall)
	errno, _ := lr.Attributes().Get(event.KeyErrorType)
	count, _ := lr.Attributes().Get(event.KeySyscallCount)
	if name.Str() == "getpriority" && errno.Str() == "EINVAL" {
		t.counted.Add(uint64(count.Int()))
	}
}

func (t *tapio) cpu() (time.Duration, error) {
	var usage unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), err
}

func (t *tapio) stop() (uint64, error) {
	time.Sleep(2*sampleInterval + sampleInterval/2) // what was counted is sent
	err := t.receiver.Shutdown(context.Background())
	return t.counted.Load(), err
}

// bpftraceProgram counts the same, leaving out what the receiver leaves out.
const bpftraceProgram = `tracepoint:raw_syscalls:sys_exit
/args->ret < 0 && args->ret >= -133 && args->ret != -4 && args->ret != -11 && args->ret != -115/
{ @[cgroup, args->id, args->ret] = count(); }`

type bpftrace struct {
	cmd    *exec.Cmd
	output bytes.Buffer
	errors bytes.Buffer
	done   chan error
}

// memlock explains once what bpftrace says each time where it lacks CAP_SYS_RESOURCE.
var memlock = sync.OnceFunc(func() {
	fmt.Fprintln(os.Stderr, "bpftrace may not raise RLIMIT_MEMLOCK here (CAP_SYS_RESOURCE is missing) and goes on without: from Linux 5.11 on it needs none")
})

// complaints are what bpftrace wrote to its standard error but that.
func (b *bpftrace) complaints() string {
	var rest strings.Builder
	for line := range strings.Lines(b.errors.String()) {
		if strings.Contains(line, "RLIMIT_MEMLOCK") {
			memlock()
			continue
		}
		rest.WriteString(line)
	}
	return rest.String()
}

// startBpftrace gives it a mount namespace with tracefs and debugfs, which it needs.
func startBpftrace() (watcher, error) {
	b := &bpftrace{done: make(chan error, 1)}
	b.cmd = exec.CommandContext(context.Background(), "unshare", "-m", "sh", "-c",
		`mount -t debugfs none /sys/kernel/debug; mount -t tracefs none /sys/kernel/tracing; exec bpftrace -e "$1"`, "sh", bpftraceProgram)
	b.cmd.Stderr = &b.errors
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	if err != nil || !strings.HasPrefix(first, "Attaching") {
		waitErr := b.cmd.Wait()
		return nil, errors.Join(fmt.Errorf("bpftrace does not run: %q, %s", first, b.complaints()), err, waitErr)
	}
	go func() {
		_, err := io.Copy(&b.output, lines)
		b.done <- errors.Join(err, b.cmd.Wait())
	}()
	time.Sleep(3 * time.Second) // it says that it attaches before it does
	return b, nil
}

// cpu reads /proc/PID/stat: utime and stime, in ticks of which there are 100 a second.
func (b *bpftrace) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	utime, err1 := strconv.Atoi(fields[11])
	stime, err2 := strconv.Atoi(fields[12])
	return time.Duration(utime+stime) * 10 * time.Millisecond, errors.Join(err1, err2)
}

func (b *bpftrace) stop() (counted uint64, err error) {
	if err := b.cmd.Process.Signal(unix.SIGINT); err != nil {
		return 0, err
	}
	err = <-b.done
	fmt.Fprint(os.Stderr, b.complaints())
	if err != nil {
		return 0, err
	}
	counts := regexp.MustCompile(fmt.Sprintf(`(?m)^@\[\d+, %d, -%d\]: (\d+)$`, unix.SYS_GETPRIORITY, unix.EINVAL))
	for _, found := range counts.FindAllStringSubmatch(b.output.String(), -1) {
		n, err := strconv.ParseUint(found[1], 10, 64)
		if err != nil {
			return 0, err
		}
		counted += n
	}
	return counted, nil
}
