package ring

import (
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

func detail(n int) *record.Detail { return &record.Detail{Name: fmt.Sprint(n)} }

func TestDetailsAreBounded(t *testing.T) {
	d := NewDetails(New(1024), 3)
	assert.Nil(t, d.Get(0), "0 is none")
	var ids []record.DetailID
	for n := range 5 {
		ids = append(ids, d.Put(detail(n)))
		require.NotZero(t, ids[n])
	}
	assert.Equal(t, 3, d.Len())
	assert.EqualValues(t, 2, d.Evicted())
	assert.Nil(t, d.Get(ids[0]))
	assert.Nil(t, d.Get(ids[1]))
	for n := 2; n < 5; n++ {
		assert.Equal(t, detail(n), d.Get(ids[n]))
	}
	assert.Nil(t, d.Get(ids[4]+1), "never given")
}

func TestDetailsGoWithTheirRecord(t *testing.T) {
	r := New(4)
	d := NewDetails(r, 100)
	first := d.Put(detail(1))
	r.Append(some(1, 4))
	second := d.Put(detail(2))
	assert.NotNil(t, d.Get(first), "the ring still holds its record")
	r.Append(some(5, 1))
	third := d.Put(detail(3))
	assert.Nil(t, d.Get(first), "overwritten in the ring")
	assert.NotNil(t, d.Get(second))
	assert.NotNil(t, d.Get(third))
	assert.Equal(t, 2, d.Len())
	assert.Zero(t, d.Evicted(), "forgotten in time, not for want of space")
}

func TestDetailNumbersBeginAgain(t *testing.T) {
	d := NewDetails(New(1024), 3)
	d.next, d.oldest = math.MaxUint32, math.MaxUint32
	last := d.Put(detail(1))
	assert.EqualValues(t, uint32(math.MaxUint32), last)
	id := d.Put(detail(2))
	assert.EqualValues(t, 1, id)
	assert.Equal(t, detail(2), d.Get(id))
	assert.Nil(t, d.Get(last))
}

func TestDetailsConcurrently(t *testing.T) {
	r := New(64)
	d := NewDetails(r, 16)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range 2000 {
				id := d.Put(detail(n))
				if got := d.Get(id); got != nil && got.Name != fmt.Sprint(n) {
					t.Errorf("detail %d is another's: %s", id, got.Name)
				}
				r.Append(some(uint64(n), 1))
			}
		})
	}
	wg.Wait()
	assert.LessOrEqual(t, d.Len(), 16)
}
