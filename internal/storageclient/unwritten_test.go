package storageclient_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/storageclient"
	"github.com/yairfalse/tapio/internal/storageclient/storagetest"
)

// What could not be written stays unwritten, and is written also when the context has ended.
func TestUnwritten(t *testing.T) {
	s := &storagetest.Map{Refuse: errors.New("disk full")}
	ended, end := context.WithCancel(t.Context())
	end()
	u := storageclient.Unwritten{}
	encode := func(key string) ([]byte, error) { return []byte("of " + key), nil }
	require.NoError(t, u.Write(ended, s, encode), "nothing to write")
	u.Add("a")
	require.ErrorContains(t, u.Write(ended, s, encode), "storage: write: disk full")
	s.SetRefuse(nil)
	u.Add("b")
	require.ErrorContains(t, u.Write(ended, s, func(key string) ([]byte, error) { return nil, errors.New("not " + key) }), "storage: ")
	assert.Len(t, u, 2)
	require.NoError(t, u.Write(ended, s, encode))
	assert.Empty(t, u)
	assert.Equal(t, map[string][]byte{"a": []byte("of a"), "b": []byte("of b")}, s.Copy().Values)
}

// Where a name is kept is the same in all versions, and names are spread.
func TestShard(t *testing.T) {
	assert.Equal(t, 44, storageclient.Shard("ssh.service", 64))
	all := map[int]bool{}
	for n := range 1000 {
		all[storageclient.Shard(fmt.Sprint("unit", n, ".service"), 32)] = true
	}
	assert.Len(t, all, 32)
}
