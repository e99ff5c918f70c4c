// Package storageclient opens a receiver's place in a storage extension of the collector, and writes what
// has changed there.
package storageclient

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// Open opens the place of that name of receiver of in the storage extension id; id nil is
// a client that keeps nothing. The error names the key "storage" and what is wrong with the
// extension: it does not run, stores nothing, or failed itself.
func Open(ctx context.Context, host component.Host, id *component.ID, of component.ID, name string) (storage.Client, error) {
	if id == nil {
		return storage.NewNopClient(), nil
	}
	extension, ok := host.GetExtensions()[*id]
	if !ok {
		return nil, fmt.Errorf("storage: extension %s is not in service::extensions", id)
	}
	provider, ok := extension.(storage.Extension)
	if !ok {
		return nil, fmt.Errorf("storage: extension %s stores nothing; use file_storage, for example", id)
	}
	client, err := provider.GetClient(ctx, component.KindReceiver, of, name)
	if err != nil {
		return nil, fmt.Errorf("storage: %w", err)
	}
	return client, nil
}
