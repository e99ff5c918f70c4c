package detect

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// What is found without a look-up is what a look-up finds, also of ids that share a place
// and of what was forgotten.
func TestRecent(t *testing.T) {
	one, two := 1, 2
	var r recent[int]
	m := map[record.EntityID]*int{1: &one}
	other := record.EntityID(1 + len(r))
	assert.Same(t, &one, r.get(m, 1))
	assert.Nil(t, r.get(m, other))
	assert.Nil(t, r.get(m, 0))
	m[other] = &two
	assert.Same(t, &two, r.get(m, other))
	assert.Same(t, &one, r.get(m, 1))
}

func TestWhatWasSweptIsNotFound(t *testing.T) {
	a := NewAnswers()
	a.Add(1, int64(10*time.Second))
	a.Sweep(int64(20 * time.Second))
	a.Add(1, int64(30*time.Second))
	assert.True(t, a.Between(1, int64(25*time.Second), int64(35*time.Second)))
	assert.False(t, a.Between(1, int64(5*time.Second), int64(15*time.Second)), "forgotten")

	b := NewBaselines(10, func(record.EntityID, int64) bool { return true })
	b.Observe(1, int64(10*time.Second), 1, false)
	b.Sweep(int64(20*time.Second), func(record.EntityID) bool { return true })
	assert.Zero(t, b.Len())
	b.Observe(1, int64(30*time.Second), 1, false)
	assert.Equal(t, 1, b.Len())
}
