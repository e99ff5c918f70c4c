package emit

import "encoding/hex"

// unhex decodes s into all of dst, and returns false when it does not fit.
func unhex(dst []byte, s string) bool {
	if len(s) != hex.EncodedLen(len(dst)) {
		return false
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}
