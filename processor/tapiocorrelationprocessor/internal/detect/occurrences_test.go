package detect

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

func at(name string, t int64) *Occurrence { return &Occurrence{Name: name, Time: t, Subject: 1} }

func TestOccurrencesAreFoundUnderWhatTheyConcern(t *testing.T) {
	os := NewOccurrences(10)
	a, b := at("exit", 1), at("oom", 2)
	require.True(t, os.Add(a, 100, 1, 0, 5))
	require.True(t, os.Add(b, 100, 5))
	assert.Equal(t, []*Occurrence{a}, os.Of(1))
	assert.Equal(t, []*Occurrence{a, b}, os.Of(5), "by arrival")
	assert.Empty(t, os.Of(0), "0 is nobody")
	assert.Equal(t, 2, os.Len())
}

func TestAFloodPushesOutOnlyItsOwnName(t *testing.T) {
	os := NewOccurrences(10)
	kill := at("oom", 0)
	os.Add(kill, 100, 1)
	for n := range 1000 {
		os.Add(at("exit", int64(n)), 2000, 1, record.EntityID(2+n))
	}
	assert.Equal(t, 11, os.Len())
	assert.EqualValues(t, 990, os.Evicted())
	assert.Len(t, os.Of(1), 11)
	assert.Same(t, kill, os.Of(1)[0])
	assert.EqualValues(t, 990, os.Of(1)[1].Time, "the newest ten")
	assert.Empty(t, os.Of(2), "forgotten everywhere")
	assert.Len(t, os.by, 11, "no list of what is forgotten stays")
}

func TestNamesAreBounded(t *testing.T) {
	os := NewOccurrences(1)
	for n := range maxNames {
		require.True(t, os.Add(at(fmt.Sprint(n), 1), 1, 1))
	}
	assert.False(t, os.Add(at("one more", 1), 1, 1))
	assert.EqualValues(t, 1, os.Evicted())
	assert.Equal(t, maxNames, os.Len())
	os.Sweep(2)
	assert.Zero(t, os.Len())
	assert.True(t, os.Add(at("one more", 3), 3, 1), "a name that nobody uses makes room")
}

func TestSweepForgetsWhatIsOfNoUse(t *testing.T) {
	os := NewOccurrences(10)
	var kept []*Occurrence
	for n := range int64(6) {
		o := at("exit", n)
		until := n + 1
		if n%2 == 0 { // of use for longer
			until = n + 100
			kept = append(kept, o)
		}
		os.Add(o, until, 1, record.EntityID(2+n))
	}
	os.Sweep(10)
	assert.Equal(t, kept, os.Of(1))
	assert.Equal(t, kept, os.Named("exit"))
	assert.Len(t, os.by, 4, "no list of what is forgotten stays")
	assert.Zero(t, os.Evicted(), "forgotten in time, not for want of space")
	os.Sweep(103)
	assert.Equal(t, kept[2:], os.Of(1))
	os.Sweep(200)
	assert.Zero(t, os.Len())
	assert.Empty(t, os.by)
}

func TestShortage(t *testing.T) {
	os := NewOccurrences(10)
	for n := range int64(30) {
		os.Add(at("exit", n), 1000, 1)
		if n < 10 {
			os.Add(at("oom", n), 1000, 1)
		}
	}
	assert.Equal(t, []Shortage{{Name: "exit", Evicted: 20, Reach: 30 - 19}}, os.Short(30, 20))
	assert.Empty(t, os.Short(40, 20), "those that are missing would be of no use any more")
}
