//go:build linux && (amd64 || arm64)

package plugins

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/operation"
)

var recordFlag = flag.Bool("record", false, "record testdata/records from this machine's kernel (root)")

// fixtures are records as a kernel wrote them, in order: a plugin that fails.
var fixtures = []string{"exec", "stdin", "stdout", "exit"}

func readFixture(tb testing.TB, name string) []byte {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "records", name+".bin"))
	require.NoError(tb, err)
	return raw
}

func TestDecode(t *testing.T) {
	a := operation.NewAssembler(filepath.Clean)
	var done []*operation.Operation
	for _, name := range fixtures {
		rec, err := decode(readFixture(t, name))
		require.NoError(t, err, name)
		assert.NotZero(t, rec.When())
		done = append(done, a.Add(rec)...)
	}
	require.Len(t, done, 1)
	c := done[0].Calls[0]
	assert.Equal(t, "fail", c.Plugin)
	assert.Equal(t, "payment-0", c.PodName)
	assert.Equal(t, "cbr0", c.Network)
	assert.Equal(t, operation.Failure{Code: 999, Message: "no IP addresses available"}, c.Failure)
	assert.NotZero(t, c.PID)
	assert.NotZero(t, c.Parent)
	assert.Less(t, c.Start, c.End)
}

func TestDecodeRefusesWhatIsNoRecord(t *testing.T) {
	_, err := decode(nil)
	require.ErrorIs(t, err, errShortRecord)
	for _, name := range fixtures {
		raw := readFixture(t, name)
		_, err := decode(raw[:len(raw)-9]) // a record may end with padding to 8
		require.ErrorIs(t, err, errShortRecord, name)
	}
	_, err = decode(make([]byte, 8192))
	require.EqualError(t, err, "record has the unknown kind 0")
}

func FuzzDecode(f *testing.F) {
	for _, name := range fixtures {
		f.Add(readFixture(f, name))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		rec, err := decode(raw)
		if err != nil {
			return
		}
		a := operation.NewAssembler(filepath.Clean)
		a.Add(rec)
		a.Flush(0)
		if a.Held() != 0 {
			t.Errorf("%d calls held", a.Held())
		}
	})
}

// TestRecord writes the fixtures.
func TestRecord(t *testing.T) {
	if !*recordFlag {
		t.Skip("run with -record to write testdata/records")
	}
	r := newRig(t, OutputAlways)
	cmd := r.command("fail")
	require.Error(t, cmd.Run())
	require.NoError(t, r.source.Stop())
	isOurs := false
	for {
		rec, err := r.source.Read()
		if err != nil {
			return
		}
		name := ""
		switch rec := rec.(type) {
		case operation.Exec:
			isOurs = strings.HasPrefix(rec.Path, r.dir)
			name = "exec"
		case operation.Data:
			name = map[operation.Stream]string{operation.Stdin: "stdin", operation.Stdout: "stdout"}[rec.Stream]
		case operation.Exit:
			name = "exit"
		}
		if isOurs {
			require.NoError(t, os.WriteFile(filepath.Join("testdata", "records", name+".bin"), r.source.record.RawSample, 0o600))
		}
	}
}
