package unit

import (
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
