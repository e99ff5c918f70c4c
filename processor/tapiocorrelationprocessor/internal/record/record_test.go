package record

import (
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

func TestEventIsSmall(t *testing.T) {
	assert.EqualValues(t, 48, unsafe.Sizeof(Event{}), "the ring stores six words; a million events are 48 MB")
}

func TestIDs(t *testing.T) {
	assert.Equal(t, "0102000000000000000000000000000f", TraceID{1, 2, 15: 15}.String())
	assert.Equal(t, "0a00000000000001", SpanID{10, 7: 1}.String())
}

func TestFailureWords(t *testing.T) {
	said := map[string]bool{}
	for _, f := range []Failure{FailureOther, FailureRefused, FailureBroken, FailureTimeout} {
		said[f.String()] = true
	}
	assert.Len(t, said, 4, "every class has words of its own")
	assert.Equal(t, "connection refused", FailureRefused.String())
}

func TestDetailAttr(t *testing.T) {
	d := &Detail{Attrs: []Attr{{"a", int64(1)}, {"b", nil}, {"a", "second"}}}
	assert.Equal(t, int64(1), d.Attr("a"), "the first counts")
	assert.Nil(t, d.Attr("b"))
	assert.Nil(t, d.Attr("c"))
}

func TestUTC(t *testing.T) {
	assert.Equal(t, time.Date(1970, 1, 1, 0, 0, 1, 5, time.UTC), UTC(1_000_000_005))
}
