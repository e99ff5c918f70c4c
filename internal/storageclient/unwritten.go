package storageclient

import (
	"context"
	"fmt"
	"hash/fnv"

	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// Unwritten are the keys of values that have changed and are not written yet, as those
// whose last write failed.
type Unwritten map[string]struct{}

// Add notes that the value of a key has changed.
func (u Unwritten) Add(key string) { u[key] = struct{}{} }

// Write writes, in one batch, what encode returns for each key. It does not end with ctx:
// what was told must be remembered, also at shutdown. After an error all are unwritten still.
func (u Unwritten) Write(ctx context.Context, client storage.Client, encode func(key string) ([]byte, error)) error {
	if len(u) == 0 {
		return nil
	}
	operations := make([]*storage.Operation, 0, len(u))
	for key := range u {
		data, err := encode(key)
		if err != nil {
			return fmt.Errorf("storage: %s: %w", key, err)
		}
		operations = append(operations, storage.SetOperation(key, data))
	}
	if err := client.Batch(context.WithoutCancel(ctx), operations...); err != nil {
		return fmt.Errorf("storage: write: %w", err)
	}
	clear(u)
	return nil
}

// Shard is in which of count values a name is kept, from 0: spread over several, one change
// writes little, and loading them needs no index. It must stay the same from one version to
// the next.
func Shard(name string, count int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return int(h.Sum32() % uint32(count))
}
