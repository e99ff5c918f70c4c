package typed

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTypesOutliveJSON(t *testing.T) {
	for want, v := range map[string]any{
		`{"s":""}`: "", `{"i":1}`: int64(1), `{"d":1}`: 1.0, `{"b":false}`: false, `{"l":["a"]}`: []string{"a"}, `{}`: []string(nil),
	} {
		stored, err := Of(v)
		require.NoError(t, err)
		data, err := json.Marshal(stored)
		require.NoError(t, err)
		assert.Equal(t, want, string(data))
		var read Value
		require.NoError(t, json.Unmarshal(data, &read))
		assert.Equal(t, v, read.Any())
	}
	_, err := Of(1)
	assert.EqualError(t, err, "a int")
}
