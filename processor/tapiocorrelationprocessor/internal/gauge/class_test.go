package gauge

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClassesHaveNamesAndUnits(t *testing.T) {
	seen := map[string]bool{}
	for c := Class(1); c < classEnd; c++ {
		assert.NotEmpty(t, c.Unit(), c)
		assert.False(t, seen[c.String()], c)
		seen[c.String()] = true
		text, err := c.MarshalText()
		require.NoError(t, err)
		var back Class
		require.NoError(t, back.UnmarshalText(text))
		assert.Equal(t, c, back)
	}
	assert.Equal(t, "unknown", classEnd.String())
	assert.Empty(t, Class(0).Unit())
}

func TestRolesHaveNames(t *testing.T) {
	for r := Role(1); r < roleEnd; r++ {
		text, err := r.MarshalText()
		require.NoError(t, err)
		var back Role
		require.NoError(t, back.UnmarshalText(text))
		assert.Equal(t, r, back)
	}
}

func TestUnknownNamesSayWhatIsAllowed(t *testing.T) {
	var c Class
	require.EqualError(t, c.UnmarshalText([]byte("ram")), `class "ram": want one of connections, conntrack, cpu, disk, disk_io, fds, gc, heap, inodes, memory, network, queue, request_duration, threads, throttling`)
	var r Role
	require.EqualError(t, r.UnmarshalText([]byte("")), `role "": want one of use, free, limit, utilization, waiting`)
}

// A class is judged by a change, a limit or both, and a share at which an alarm ends
// lies below that at which it begins.
func TestClassesAreJudged(t *testing.T) {
	for c := Class(1); c < classEnd; c++ {
		sp := &specs[c]
		assert.True(t, sp.change.event != "" || sp.ceiling.event != "", c)
		if sp.at > 0 {
			assert.NotEmpty(t, sp.ceiling.event, c)
			assert.Less(t, sp.clear, sp.at, c)
			assert.LessOrEqual(t, sp.usual, sp.at, c)
			assert.Positive(t, sp.usual, c)
		}
		if sp.change.event != "" && !sp.grows {
			assert.GreaterOrEqual(t, sp.score, minZ, c)
			assert.Positive(t, sp.floor, c)
		}
		if sp.goal > 0 {
			assert.Positive(t, sp.at, c)
		}
	}
}
