package finding

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"sync"

	"go.opentelemetry.io/collector/pdata/plog"
)

// KeyOrigin is the attribute of a finding's log record by which the process that
// wrote the record knows it again.
const KeyOrigin = "tapio.finding.origin"

// originKey is the secret of this process: random, made once, written nowhere.
var originKey = sync.OnceValue(func() []byte {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails: it ends the process instead
	return key
})

// Own reports whether this process wrote r by ToLog. It is false for a record of
// another process, for one from before a restart, and for one that somebody made
// up. Only id and revision are covered, so that processors between may add and
// change other attributes; a store must therefore keep the first record of each
// revision, and not let a copy with other contents replace it.
func Own(r plog.LogRecord) bool {
	id, hasID := r.Attributes().Get(KeyID)
	revision, hasRevision := r.Attributes().Get(KeyRevision)
	got, hasOrigin := r.Attributes().Get(KeyOrigin)
	if !hasID || !hasRevision || !hasOrigin {
		return false
	}
	return hmac.Equal([]byte(got.AsString()), []byte(origin(id.AsString(), revision.AsString())))
}

// origin returns the HMAC-SHA256 of a finding's id and revision under the secret
// of this process, as 64 hexadecimal digits. It is not the secret itself: the
// attribute leaves with the finding, and who reads it in a backend must not be
// able to sign a revision of his own.
func origin(id, revision string) string {
	mac := hmac.New(sha256.New, originKey())
	mac.Write([]byte(id))
	mac.Write([]byte{0})
	mac.Write([]byte(revision))
	return hex.EncodeToString(mac.Sum(nil))
}
