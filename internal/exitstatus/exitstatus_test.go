package exitstatus

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWords(t *testing.T) {
	assert.Equal(t, "203 (EXEC: its executable could not be run)", Words(203))
	for _, code := range []int64{-1, 0, 78, 199, 223, 234, 245, 255, 256 + 203} {
		name, meaning := Name(code)
		assert.Empty(t, name+meaning, code)
	}
	assert.Equal(t, "78", Words(78))
}
