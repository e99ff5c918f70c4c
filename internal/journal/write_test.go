package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
)

// recompress compresses every long field of an uncompressed journal file, in
// place, as journald does with that algorithm, and returns how many. Which
// algorithm journald writes was chosen when it was compiled.
func recompress(t testing.TB, path string, flag uint8, compress func([]byte) []byte) (count int) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	h, err := parseHeader(b)
	require.NoError(t, err)
	le := binary.LittleEndian
	start := h.payload()
	for at := h.headerSize; at <= h.tailObject; {
		o := parseObject(b[at:])
		require.NotZero(t, o.size)
		if o.kind == objectData && o.size-start >= 512 {
			small := compress(b[at+start : at+o.size])
			require.Less(t, uint64(len(small)), o.size-start)
			copy(b[at+start:], small)
			b[at+1] = flag
			le.PutUint64(b[at+8:], start+uint64(len(small)))
			count++
		}
		at += (o.size + 7) &^ 7
	}
	// The flags of a file have zstd as 8, as 4 stands for the keyed hash.
	le.PutUint32(b[12:], le.Uint32(b[12:])|map[uint8]uint32{compressedXZ: 1, compressedLZ4: 2, compressedZSTD: 8}[flag])
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return count
}

func compressLZ4(b []byte) []byte {
	out := make([]byte, 8+lz4.CompressBlockBound(len(b)))
	binary.LittleEndian.PutUint64(out, uint64(len(b)))
	n, err := lz4.CompressBlock(b, out[8:], nil)
	if err != nil || n == 0 {
		panic(fmt.Sprintf("lz4: %d, %v", n, err))
	}
	return out[:8+n]
}

func compressXZ(b []byte) []byte {
	var out bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 20, NoCheckSum: true}.NewWriter(&out)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err)
	}
	return out.Bytes()
}

func compressZSTD(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}
