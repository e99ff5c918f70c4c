package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFullQueueDropsAndCounts(t *testing.T) {
	t.Parallel()
	q := &queue{items: make(chan Item, 2), newJob: make(chan struct{}, 1)}
	for i := range 5 {
		q.DeliverSignal("", "", &dbus.Signal{Name: managerIface + ".JobNew", Body: []any{uint32(i), dbus.ObjectPath("/"), "a.service"}})
	}
	q.DeliverSignal("", "", &dbus.Signal{Name: managerIface + ".JobNew"})
	q.DeliverSignal("", "", &dbus.Signal{Name: managerIface + ".UnitNew"})
	full, malformed := (&Conn{queue: q}).Dropped()
	assert.Equal(t, int64(3), full)
	assert.Equal(t, int64(1), malformed)
	assert.Equal(t, JobNew{0, "a.service"}, (<-q.items).Signal)
	assert.Equal(t, JobNew{1, "a.service"}, (<-q.items).Signal)
	assert.Len(t, q.newJob, 1, "one question is enough")
}

func TestDialFails(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bus")
	_, err := Dial(context.Background(), "unix:path="+path, 1)
	require.Error(t, err, "no socket")
	_, err = Dial(context.Background(), "nonsense", 1)
	require.Error(t, err, "no address")

	// Somebody who hangs up.
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", path)
	require.NoError(t, err)
	defer func() { assert.NoError(t, listener.Close()) }()
	accepted := make(chan net.Conn, 2)
	go func() {
		for range 2 {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	go func() { _ = (<-accepted).Close() }()
	_, err = Dial(context.Background(), "unix:path="+path, 1)
	require.Error(t, err)

	// Somebody who never answers, until the collector shuts down.
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := Dial(ctx, "unix:path="+path, 1)
		ended <- err
	}()
	silent := <-accepted
	cancel()
	require.Error(t, <-ended)
	require.NoError(t, silent.Close())
}

func TestIsGone(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"org.freedesktop.DBus.Error.UnknownObject": true, "org.freedesktop.systemd1.NoSuchUnit": true,
		"org.freedesktop.DBus.Error.UnknownInterface": true, "org.freedesktop.DBus.Error.NoReply": false,
	} {
		assert.Equal(t, want, IsGone(fmt.Errorf("ask: %w", dbus.Error{Name: name})), name)
	}
	assert.False(t, IsGone(errors.New("UnknownObject")))
}
