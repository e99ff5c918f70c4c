//go:build !linux

package snapshot

import (
	"errors"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

func (r *Reader) readNamespaces(p *state.Picture) {
	unseen(p, state.SourceNamespaces, errors.New("network namespaces exist on Linux only"))
}
