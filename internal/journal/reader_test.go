package journal

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStateSurvivesEncoding(t *testing.T) {
	s := NewState(7)
	s.directories["/var/log/journal"] = true
	s.files[ID{1}] = position{Handed: 5, Entries: 7, Old: 6, Folder: "/var/log/journal/m"}
	s.finish(ID{2}, func(ID) bool { return true })
	of := origin{Folder: "m", Machine: "1", Namespace: "n", Boot: ID{3}}
	s.handedOn(of, "/run/log/journal", 9)
	done := s.EncodeDone()
	assert.Nil(t, s.EncodeDone(), "nothing changed")
	b, err := s.Encode()
	require.NoError(t, err)

	got, err := DecodeState(b, done)

	require.NoError(t, err)
	assert.Equal(t, s, got)
	assert.True(t, got.isCopy(of, "/var/log/journal", 9))
	assert.False(t, got.isCopy(of, "/var/log/journal", 10))
	assert.False(t, got.isCopy(of, "/run/log/journal", 8), "its own directory")
	for name, other := range map[string]origin{
		"folder": {"o", "1", "n", ID{3}}, "machine": {"m", "2", "n", ID{3}},
		"namespace": {"m", "1", "", ID{3}}, "boot": {"m", "1", "n", ID{4}},
	} {
		assert.False(t, got.isCopy(other, "/var/log/journal", 8), "another %s", name)
	}
}

// Values of any length are not kept whole.
func TestOriginIsBounded(t *testing.T) {
	e := &Entry{Fields: []Field{{Name: "_MACHINE_ID", Value: strings.Repeat("m", 1<<20)}, {Name: "_NAMESPACE", Value: strings.Repeat("n", 1<<20)}}}
	of := originOf("", e)
	assert.Len(t, of.Machine+of.Namespace, 2*maxOrigin)
}
