package tail

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

func line(of record.EntityID, part string, at int64, text string) Source {
	return Source{Of: of, Part: PartOf(part), Line: Line{Time: at, Text: text}}
}

func texts(lines []Line) string {
	var out []string
	for _, l := range lines {
		out = append(out, l.Text)
	}
	return strings.Join(out, " ")
}

func TestLastAndLoud(t *testing.T) {
	tails := New()
	buffer := []byte("x0")
	for i := range 20 {
		buffer[1] = byte('a' + i)
		s := line(1, "", int64(i), string(buffer))
		if i < 8 {
			s.Severity = uint8(plog.SeverityNumberError)
		}
		tails.Add([]Source{s})
	}
	assert.Equal(t, "xf xg xh xp xq xr xs xt", texts(tails.Of(1, 0)), "the last three errors, the last five others")
	assert.Empty(t, tails.Of(2, 0))
	assert.Empty(t, tails.Of(1, PartOf("other")))
}

func TestTextsAreCopiedAndValid(t *testing.T) {
	tails := New()
	tails.Add([]Source{line(1, "", 2, "a longer one"), line(1, "", 1, "\xff!")})
	for range KeepLast {
		got := tails.Of(1, 0)
		assert.Equal(t, "\uFFFD! a longer one", texts(got), "by time")
	}
	got := tails.Of(1, 0)
	for i := range 10 {
		tails.Add([]Source{line(1, "", int64(i), "written over")})
	}
	assert.Equal(t, "\uFFFD! a longer one", texts(got))
}

func TestByPID(t *testing.T) {
	tails := New()
	for i, pid := range []int64{1, 2, 1, 3} {
		s := line(7, fmt.Sprint("run", i), int64(i), fmt.Sprint("line", i))
		s.PID = pid
		tails.Add([]Source{s})
	}
	other := line(8, "", 9, "of another")
	other.PID = 1
	tails.Add([]Source{other})
	assert.Equal(t, "line0 line2", texts(tails.ByPID(7, 1)))
}

func TestBounds(t *testing.T) {
	tails := New()
	const more = 1000
	for i := range Capacity + more {
		tails.Add([]Source{line(record.EntityID(i+1), "", int64(i), "x")})
		assert.LessOrEqual(t, tails.Len(), Capacity)
	}
	assert.EqualValues(t, Capacity+more, tails.Evicted()+int64(tails.Len()))
	assert.Empty(t, tails.Of(1, 0), "the oldest is forgotten")
	assert.NotEmpty(t, tails.Of(Capacity+more, 0))
	tails.Sweep(Capacity + more - 10)
	assert.Equal(t, 10, tails.Len())
	same := New()
	for i := range Capacity + 1 { // all equally old
		same.Add([]Source{line(record.EntityID(i+1), "", 5, "x")})
	}
	assert.Equal(t, Capacity-Capacity/16+1, same.Len())
}
