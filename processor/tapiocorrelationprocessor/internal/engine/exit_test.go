package engine

import (
	"testing"

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
		assert.Equal(t, tc.want, exitClass(tc.d), tc.name)
	}
}
