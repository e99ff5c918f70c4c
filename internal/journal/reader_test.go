package journal

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStateSurvivesEncoding(t *testing.T) {
	s := NewState(7)
	s.directories["/var/log/journal"] = true
	s.files[ID{1}] = position{5, 7, "/var/log/journal/m"}
	s.finish(ID{2}, func(ID) bool { return true })
	s.handedOn("m", "/run/log/journal", &Entry{Boot: ID{3}, Monotonic: 9})
	done := s.EncodeDone()
	assert.Nil(t, s.EncodeDone(), "nothing changed")
	b, err := s.Encode()
	require.NoError(t, err)

	got, err := DecodeState(b, done)

	require.NoError(t, err)
	assert.Equal(t, s, got)
	assert.True(t, got.isCopy("m", "/var/log/journal", &Entry{Boot: ID{3}, Monotonic: 9}))
	assert.False(t, got.isCopy("m", "/var/log/journal", &Entry{Boot: ID{3}, Monotonic: 10}))
	assert.False(t, got.isCopy("m", "/run/log/journal", &Entry{Boot: ID{3}, Monotonic: 8}), "its own directory")
}
