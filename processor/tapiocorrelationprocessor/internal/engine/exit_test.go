package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

func TestExitClass(t *testing.T) {
	signal := func(n int64) *record.Detail {
		return &record.Detail{Attrs: []record.Attr{{Key: event.KeyExitSignal, Value: n}}}
	}
	code := func(v any) *record.Detail {
		return &record.Detail{Attrs: []record.Attr{{Key: event.KeyProcessExitCode, Value: v}}}
	}
	for _, tc := range []struct {
		name string
		d    *record.Detail
		want string
	}{
		{"code 0", code(int64(0)), exitStopped},
		{"code 143", code(int64(143)), exitStopped},
		{"code 130", code(int64(130)), exitStopped},
		{"code 129", code(int64(129)), exitStopped},
		{"code 1", code(int64(1)), exitError},
		{"code 137", code(int64(137)), exitError},
		{"TERM", signal(15), exitStopped},
		{"INT", signal(2), exitStopped},
		{"HUP", signal(1), exitStopped},
		{"SEGV", signal(11), exitFault},
		{"ABRT", signal(6), exitFault},
		{"BUS", signal(7), exitFault},
		{"ILL", signal(4), exitFault},
		{"KILL", signal(9), exitKilled},
		{"USR1", signal(10), exitKilled},
		{"neither", &record.Detail{}, exitUnknown},
		{"a code that is no number", code("0"), exitUnknown},
	} {
		assert.Equal(t, tc.want, exitClass(tc.d, "ledgerd"), tc.name)
	}
	for code, want := range map[int64]string{199: exitError, 200: exitNotRun, 203: exitNotRun, 245: exitNotRun, 246: exitError} {
		d := &record.Detail{Attrs: []record.Attr{{Key: event.KeyProcessExitCode, Value: code}}}
		assert.Equal(t, want, exitClass(d, "systemd"), code)
		assert.Equal(t, exitError, exitClass(d, "ledgerd"), code)
	}
}

// TestWhoEndedIt: a finding says who sent the signal, and only the one that did.
func TestWhoEndedIt(t *testing.T) {
	sent := func(number int64, by string) map[string]any {
		return map[string]any{
			event.KeySignal: number, event.KeySignalName: "signal", event.KeySignalOrigin: "user",
			event.KeySenderName: by, event.KeySenderPID: int64(77),
		}
	}
	for name, tc := range map[string]struct {
		signals []map[string]any
		wait    time.Duration
		exit    map[string]any
		by      any
	}{
		"killed":              {[]map[string]any{sent(9, "kubelet")}, 0, killed, "kubelet"},
		"the one that did":    {[]map[string]any{sent(15, "systemd"), sent(9, "kubelet"), sent(1, "reload")}, 0, killed, "kubelet"},
		"asked to":            {[]map[string]any{sent(15, "systemd")}, 20 * time.Second, exit0, "systemd"},
		"nobody was seen":     {nil, 0, killed, nil},
		"asked long ago":      {[]map[string]any{sent(15, "systemd")}, 3 * time.Minute, exit0, nil},
		"another signal":      {[]map[string]any{sent(15, "systemd")}, 0, killed, nil},
		"it failed by itself": {[]map[string]any{sent(15, "systemd")}, 0, map[string]any{event.KeyProcessExitCode: 1}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScenario(t)
			s.healthy(10 * time.Second)
			for _, attrs := range tc.signals {
				s.kernel(payment, event.ProcessSignal, s.clock, attrs)
				s.wait(time.Millisecond)
			}
			s.wait(tc.wait)
			s.exit(payment, tc.exit)
			for range 10 {
				s.wait(100 * time.Millisecond)
				s.send(broken("user", 1, refused))
			}
			s.wait(5 * time.Second)
			f := s.one()
			assert.Equal(t, tc.by, f.RootCause.Evidence[event.KeySenderName])
			if tc.by != nil {
				assert.Contains(t, f.RootCause.Description, tc.by)
			}
		})
	}
}
