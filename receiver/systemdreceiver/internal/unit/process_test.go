package unit

import (
	"cmp"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// command is a row of ExecStartPre and the like, as systemd says it.
func command(ended time.Time, pid uint32, code, status int32, ignored bool) []any {
	exit := uint64(0)
	if !ended.IsZero() {
		exit = us(ended)
	}
	return []any{"/bin/sh", []string{"sh"}, ignored, uint64(1), uint64(1), exit, uint64(1), pid, code, status}
}

func TestProcessThatFailed(t *testing.T) {
	t.Parallel()
	run, main := epoch, epoch.Add(5*time.Second)
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	for name, c := range map[string]struct {
		properties map[string]any
		want       Process
	}{
		"before the main one": {
			map[string]any{"ExecStartPre": [][]any{command(at(1), 7, CodeExited, 0, false), command(at(2), 8, CodeExited, 42, false)}},
			Process{"ExecStartPre", 8, at(2), CodeExited, 42},
		},
		"a mount":           {map[string]any{"ExecMount": [][]any{command(at(1), 7, CodeKilled, 15, false)}}, Process{"ExecMount", 7, at(1), CodeKilled, 15}},
		"ignored":           {map[string]any{"ExecStartPre": [][]any{command(at(1), 7, CodeExited, 1, true)}}, Process{}},
		"has not ended":     {map[string]any{"ExecStartPre": [][]any{command(time.Time{}, 7, 0, 0, false)}}, Process{}},
		"of an earlier run": {map[string]any{"ExecStopPost": [][]any{command(at(-1), 7, CodeExited, 1, false)}}, Process{}},
		"a reload":          {map[string]any{"ExecReload": [][]any{command(at(1), 7, CodeExited, 1, false)}}, Process{}},
		"the main one": {
			map[string]any{
				"ExecStart": [][]any{command(main, 9, CodeExited, 3, false)}, "ExecStopPost": [][]any{command(at(6), 10, CodeExited, 1, false)},
				"ExecMainPID": uint32(9), "ExecMainExitTimestamp": us(main), "ExecMainCode": int32(CodeExited), "ExecMainStatus": int32(3),
			},
			Process{},
		},
		"after the main one": {
			map[string]any{
				"ExecStopPost": [][]any{command(at(6), 10, CodeExited, 1, false)},
				"ExecMainPID":  uint32(9), "ExecMainExitTimestamp": us(main), "ExecMainCode": int32(CodeExited), "ExecMainStatus": int32(0),
			},
			Process{"ExecStopPost", 10, at(6), CodeExited, 1},
		},
		"after one that was stopped": {
			map[string]any{
				"ExecStopPost": [][]any{command(at(6), 10, CodeExited, 8, false)}, "Type": "simple",
				"ExecMainPID": uint32(9), "ExecMainExitTimestamp": us(main), "ExecMainCode": int32(CodeKilled), "ExecMainStatus": int32(15),
			},
			Process{"ExecStopPost", 10, at(6), CodeExited, 8},
		},
		"after a oneshot that was stopped": {
			map[string]any{
				"ExecStopPost": [][]any{command(at(6), 10, CodeExited, 8, false)}, "Type": "oneshot",
				"ExecMainPID": uint32(9), "ExecMainExitTimestamp": us(main), "ExecMainCode": int32(CodeKilled), "ExecMainStatus": int32(15),
			},
			Process{},
		},
		"after one that dumped core": {
			map[string]any{
				"ExecStopPost": [][]any{command(at(6), 10, CodeExited, 8, false)}, "SuccessExitStatus": []any{[]int32{}, []int32{6}},
				"ExecMainPID": uint32(9), "ExecMainExitTimestamp": us(main), "ExecMainCode": int32(CodeDumped), "ExecMainStatus": int32(6),
			},
			Process{},
		},
		"after an end that counts as good": {
			map[string]any{
				"ExecStopPost": [][]any{command(at(6), 10, CodeExited, 8, false)}, "SuccessExitStatus": []any{[]int32{3}, []int32{9}},
				"ExecMainPID": uint32(9), "ExecMainExitTimestamp": us(main), "ExecMainCode": int32(CodeExited), "ExecMainStatus": int32(3),
			},
			Process{"ExecStopPost", 10, at(6), CodeExited, 8},
		},
		"after a signal that counts as good": {
			map[string]any{
				"ExecStopPost": [][]any{command(at(6), 10, CodeExited, 8, false)}, "SuccessExitStatus": []any{[]int32{3}, []int32{9}},
				"ExecMainPID": uint32(9), "ExecMainExitTimestamp": us(main), "ExecMainCode": int32(CodeKilled), "ExecMainStatus": int32(9),
			},
			Process{"ExecStopPost", 10, at(6), CodeExited, 8},
		},
		"no rows": {map[string]any{"ExecStartPre": "text", "ExecStop": [][]any{{"short"}}}, Process{}},
	} {
		u := New("a.service")
		u.InactiveExit = run
		u.Apply(c.properties)
		got, ok := u.FailedProcess()
		assert.Equal(t, c.want, got, name)
		assert.Equal(t, c.want != Process{}, ok, name)
		before := len(u.Failed)
		u.Apply(c.properties)
		assert.Len(t, u.Failed, before, "the same again: %s", name)
	}
}

// A run fails when what failed ended, not when a process ended long before that the unit
// outlived.
func TestWhenARunFailed(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	stopped := []Process{{Setting: "ExecStop", PID: 8, Exit: at(98), Code: CodeExited, Status: 1}}
	for name, c := range map[string]struct {
		unit Unit
		want time.Time
	}{
		"its main process":                    {Unit{ActiveEnter: at(1), ExecMainStart: at(1), ExecMainExit: at(50), ActiveExit: at(50), StateChange: at(60), ExecMainCode: CodeExited, ExecMainStatus: 1}, at(50)},
		"before it was active":                {Unit{ActiveEnter: at(-9), ActiveExit: at(-8), ExecMainStart: at(1), ExecMainExit: at(50), StateChange: at(60), ExecMainCode: CodeExited, ExecMainStatus: 1}, at(50)},
		"when it was stopped":                 {Unit{ActiveEnter: at(1), ExecMainStart: at(1), ActiveExit: at(50), ExecMainExit: at(55), StateChange: at(60), ExecMainCode: CodeKilled, ExecMainStatus: 9}, at(55)},
		"the stop of a oneshot that remained": {Unit{ExecMainStart: at(1), ExecMainExit: at(2), ActiveEnter: at(3), ActiveExit: at(90), StateChange: at(99), ExecMainCode: CodeExited}, at(99)},
		"the stop of one that remained":       {Unit{ActiveEnter: at(1), ExecMainStart: at(1), ExecMainExit: at(2), ActiveExit: at(90), StateChange: at(99), ExecMainCode: CodeExited}, at(99)},
		"its ExecStop":                        {Unit{ExecMainStart: at(1), ExecMainExit: at(2), ActiveEnter: at(3), ActiveExit: at(90), StateChange: at(99), ExecMainCode: CodeExited, Failed: stopped}, at(98)},
		"no process":                          {Unit{StateChange: at(99)}, at(99)},
		"the run before":                      {Unit{ExecMainStart: at(5), ExecMainExit: at(2), StateChange: at(99)}, at(99)},
		"a clock that was set back":           {Unit{ExecMainExit: at(200), StateChange: at(99), Failed: []Process{{Setting: "ExecStop", Exit: at(201)}}}, at(99)},
	} {
		assert.Equal(t, c.want, c.unit.FailedAt(), name)
	}
}

// TestMissed: a unit that is failed should be active, unless somebody stopped it or it is a task.
func TestMissed(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	for name, c := range map[string]struct {
		unit           Unit
		want, critical bool
	}{
		"a daemon ended":              {Unit{Type: "simple", ExecMainStart: at(1), ExecMainExit: at(9), ActiveExit: at(9)}, true, true},
		"it did not start":            {Unit{Type: "notify", ExecMainStart: at(1), ExecMainExit: at(2)}, true, true},
		"it was started again":        {Unit{Type: "notify", ActiveExit: at(5), ExecMainStart: at(6), ExecMainExit: at(7)}, true, true},
		"it was stopped":              {Unit{Type: "simple", ExecMainStart: at(1), ActiveExit: at(9), ExecMainExit: at(10)}, false, false},
		"it hung":                     {Unit{Type: "simple", ExecMainStart: at(1), ActiveExit: at(9), ExecMainExit: at(10), Result: "watchdog"}, true, true},
		"a task":                      {Unit{Type: "oneshot", ExecMainStart: at(1), ExecMainExit: at(2)}, false, true},
		"a state that is set up":      {Unit{Type: "oneshot", RemainAfterExit: true, ExecMainStart: at(1), ExecMainExit: at(2)}, true, true},
		"a timer started it":          {Unit{Type: "simple", TriggeredBy: []string{"a.timer"}, ExecMainStart: at(1), ExecMainExit: at(2), ActiveExit: at(2)}, false, true},
		"a socket started it":         {Unit{Type: "simple", TriggeredBy: []string{"a.socket"}, ExecMainStart: at(1), ExecMainExit: at(2), ActiveExit: at(2)}, true, true},
		"nothing is known of it":      {Unit{}, false, true},
		"a mount":                     {Unit{Name: "a.mount", Type: "ext4"}, true, true},
		"systemd will start it again": {Unit{ActiveState: "activating", Type: "simple"}, false, false},
	} {
		c.unit.Name, c.unit.ActiveState = cmp.Or(c.unit.Name, "a.service"), cmp.Or(c.unit.ActiveState, "failed")
		assert.Equal(t, c.want, c.unit.IsMissed(false), name)
		assert.Equal(t, c.critical, c.unit.IsMissed(true), "critical: %s", name)
	}
}
