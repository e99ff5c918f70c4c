package detect

import "github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"

// recent finds what was found last without a look-up in a map: records in a row are of
// few entities, whose ids are numbers in a row. It must be cleared when anything is
// deleted from the map.
type recent[V any] [256]struct {
	id    record.EntityID
	value *V
}

// get returns what m has for an entity, nil for nothing.
func (r *recent[V]) get(m map[record.EntityID]*V, id record.EntityID) *V {
	at := &r[int(id)%len(r)]
	if at.value == nil || at.id != id {
		at.id, at.value = id, m[id]
	}
	return at.value
}
