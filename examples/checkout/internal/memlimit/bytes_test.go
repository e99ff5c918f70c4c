package memlimit

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]Bytes{
		"0": 0, "4096": 4096, "1KiB": 1024, "64MiB": 64 << 20, "64 MiB": 64 << 20, "2GiB": 2 << 30,
	} {
		got, err := ParseBytes(in)
		require.NoError(t, err, in)
		assert.Equal(t, want, got, in)
	}
	for _, in := range []string{"", "MiB", "-1", "1.5GiB", "64MB", "9223372036854775807KiB", "1TiB"} {
		_, err := ParseBytes(in)
		assert.ErrorContains(t, err, "is not a size", in)
	}
}

func TestBytesString(t *testing.T) {
	for in, want := range map[Bytes]string{
		0: "0 bytes", 1000: "1000 bytes", 1024: "1 KiB", 64 << 20: "64 MiB", 3 << 30: "3 GiB", 1536 << 10: "1536 KiB",
	} {
		assert.Equal(t, want, in.String())
		back, err := ParseBytes(want)
		if in%1024 == 0 && in != 0 {
			require.NoError(t, err)
			assert.Equal(t, in, back)
		}
	}
}
