//go:build linux && (amd64 || arm64)

package ebpfreceiver

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
)

// told is what a receiver says about its start.
type told struct {
	Attributes map[string][]string // of tapio.ebpf.started
	Status     string
	Log        []string
}

// startAndTell starts a receiver, the role "unprivileged", and prints what it says.
func startAndTell() int {
	sink, host := new(consumertest.LogsSink), &statusHost{}
	core, logged := observer.New(zap.WarnLevel)
	settings := receivertest.NewNopSettings(metadata.Type)
	settings.Logger = zap.New(core)
	r, err := NewFactory().CreateLogs(context.Background(), settings, createDefaultConfig(), sink)
	if err == nil {
		err = r.Start(context.Background(), host)
	}
	if err == nil {
		err = r.Shutdown(context.Background())
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	out := told{Attributes: map[string][]string{}}
	for key, list := range recordsOf(sink.AllLogs()[0].ResourceLogs().At(0)).At(0).Attributes().All() {
		for _, v := range list.Slice().All() {
			out.Attributes[key] = append(out.Attributes[key], v.Str())
		}
	}
	for _, ev := range host.events() {
		out.Status += ev.Err().Error()
	}
	for _, entry := range logged.All() {
		out.Log = append(out.Log, fmt.Sprint(entry.Message, entry.ContextMap()))
	}
	_ = json.NewEncoder(os.Stdout).Encode(out)
	return 0
}

// TestWithSomeRights runs the receiver as nobody with some capabilities: what it
// may do it does, and of the rest it says in the log, in its status and in
// tapio.ebpf.started which capability is missing.
func TestWithSomeRights(t *testing.T) {
	requireKernel(t)
	kernelHas, err := readFeatures(btf.NewCache())
	require.NoError(t, err)
	all := slices.DeleteFunc(programs(createDefaultConfig().(*Config)), func(p program) bool { return !p.isNeeded(kernelHas) })
	restricted, err := os.ReadFile("/proc/sys/kernel/dmesg_restrict")
	require.NoError(t, err)
	needsSyslog := strings.TrimSpace(string(restricted)) != "0"
	for name, tc := range map[string]struct {
		caps     []uintptr
		programs bool   // run
		kmsg     bool   // is read although dmesg is restricted
		missing  string // of the programs
	}{
		"none":             {nil, false, false, "missing CAP_BPF and CAP_PERFMON;"},
		"bpf":              {[]uintptr{unix.CAP_BPF}, false, false, "missing CAP_PERFMON;"},
		"perfmon":          {[]uintptr{unix.CAP_PERFMON}, false, false, "missing CAP_BPF;"},
		"syslog":           {[]uintptr{unix.CAP_SYSLOG}, false, true, "missing CAP_BPF and CAP_PERFMON;"},
		"bpf, perfmon":     {[]uintptr{unix.CAP_BPF, unix.CAP_PERFMON}, true, false, ""},
		"all but ptrace":   {[]uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYSLOG}, true, true, ""},
		"all that it uses": {[]uintptr{unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYSLOG, unix.CAP_SYS_PTRACE}, true, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := role("unprivileged")
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
				AmbientCaps: tc.caps,
			}
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
			var got told
			require.NoError(t, json.Unmarshal(out, &got), string(out))

			var run, failed []string
			for _, p := range all {
				if tc.programs {
					run = append(run, p.name)
				} else {
					failed = append(failed, p.name)
				}
			}
			if tc.kmsg || !needsSyslog {
				run = append(run, kmsgName)
			} else {
				failed = append(failed, kmsgName)
			}
			assert.Equal(t, run, got.Attributes[event.KeyEBPFPrograms])
			log := strings.Join(got.Log, "\n")
			var told []string
			for _, reason := range got.Attributes[event.KeyEBPFFailed] { // each once
				names, reason, _ := strings.Cut(reason, ": not permitted: ")
				told = append(told, strings.Split(names, ", ")...)
				want := tc.missing
				if names == kmsgName {
					want = "/dev/kmsg needs CAP_SYSLOG"
				}
				assert.Contains(t, reason, want)
				assert.Contains(t, got.Status, want)
				assert.Contains(t, log, want)
			}
			assert.Equal(t, failed, told)
			if len(failed) == 0 {
				assert.Empty(t, got.Status)
			} else {
				assert.Contains(t, got.Status, fmt.Sprintf("%d of %d kernel programs do not run", len(failed), len(all)+1))
				assert.Contains(t, got.Status, "; what runs: "+strings.Join(append([]string{}, run...), ", "))
			}
			if tc.programs {
				hasPtrace := len(tc.caps) == 4
				assert.Equal(t, !hasPtrace, strings.Contains(log, "missing CAP_SYS_PTRACE"), log)
			}
		})
	}
}
