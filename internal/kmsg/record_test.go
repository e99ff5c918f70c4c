package kmsg

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseRecord(t *testing.T) {
	r, err := ParseRecord([]byte("6,339,5140900,-;NET: Registered \\x1b protocol \\xe2\\x82\\xac\\x\n SUBSYSTEM=net\n DEVICE=n2\n"))
	require.NoError(t, err)
	assert.Equal(t, Record{
		Level: 6, Sequence: 339, SinceBoot: 5140900 * time.Microsecond, Message: "NET: Registered \x1b protocol €\\x",
		Subsystem: "net", Device: "n2",
	}, r)

	r, err = ParseRecord([]byte("30,340,1,c;systemd[1]: a; b\n"))
	require.NoError(t, err)
	assert.Equal(t, Record{Level: 6, Facility: 3, Sequence: 340, SinceBoot: time.Microsecond, Message: "systemd[1]: a; b"}, r)

	for _, bad := range []string{"", "6,1,2", "6;x", "x,1,2,-;y", "6,x,2,-;y", "6,1,x,-;y", "6,1,-2,-;y"} {
		_, err := ParseRecord([]byte(bad))
		assert.Error(t, err, bad)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte("6,339,5140900,-;NET: Registered \\x1b\n SUBSYSTEM=net\n DEVICE=n2\n"))
	f.Add([]byte("30,340,1,c;systemd[1]: a; b\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err == nil && (r.Level < 0 || r.Level > 7 || r.Facility < 0 || r.SinceBoot < 0) {
			t.Errorf("%q: %+v", b, r)
		}
	})
}

// The real device of a real kernel: what a program writes comes back with the
// facility of a program, in order and with nothing in between lost.
func TestReaderOnTheRealDevice(t *testing.T) {
	w, err := os.OpenFile(Device, os.O_WRONLY, 0)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI must be able to write to %s: %v", Device, err)
		}
		t.Skipf("%s cannot be written: %v", Device, err)
	}
	defer w.Close()
	r, err := Open(Device, true)
	require.NoError(t, err)
	mark := fmt.Sprintf("tapio kmsg test %d", os.Getpid())
	got := make(chan Record, 16)
	done := make(chan error, 1)
	go func() {
		for {
			rec, err := r.Next()
			if err != nil {
				done <- err
				return
			}
			if strings.HasPrefix(rec.Message, mark) {
				got <- rec
			}
		}
	}()

	for i := range 5 {
		// Without the newline the kernel waits for more of the same line.
		_, err := fmt.Fprintf(w, "<4>%s %d\n", mark, i)
		require.NoError(t, err)
	}

	for i := range 5 {
		select {
		case rec := <-got:
			assert.Equal(t, fmt.Sprintf("%s %d", mark, i), rec.Message)
			assert.Equal(t, 4, rec.Level)
			assert.Equal(t, 1, rec.Facility, "the kernel does not let a program pose as itself")
			assert.Positive(t, rec.SinceBoot)
		case <-time.After(10 * time.Second):
			t.Fatal("the record did not come back")
		}
	}
	require.NoError(t, r.Close())
	select {
	case err := <-done:
		assert.ErrorIs(t, err, os.ErrClosed)
	case <-time.After(10 * time.Second):
		t.Fatal("Close does not end Next")
	}
}

// From its beginning the log of any kernel has a first record and no loss.
func TestReaderFromTheBeginning(t *testing.T) {
	r, err := Open(Device, false)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI must be able to read %s: %v", Device, err)
		}
		t.Skip(err)
	}
	require.NoError(t, err)
	defer r.Close()
	rec, err := r.Next()
	require.NoError(t, err)
	assert.NotEmpty(t, rec.Message)
	assert.Zero(t, r.Lost())
}

func TestOpenFails(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "none"), true)
	assert.ErrorIs(t, err, os.ErrNotExist)
}
