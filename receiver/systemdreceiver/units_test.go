package systemdreceiver

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/yairfalse/tapio/internal/journal/journaltest"
	"github.com/yairfalse/tapio/internal/machine"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadata"
)

// fakeSystemd stands in for a systemd that denies and that leaves the bus when it
// is told to, which a real one cannot be made to do at will. It is on a real bus
// and has the service a.service, which runs, and b.service, which has failed.
type fakeSystemd struct {
	address string
	conn    *dbus.Conn
	asked   atomic.Int64
	mu      sync.Mutex
	denied  map[string]bool
}

const (
	managerObject = dbus.ObjectPath("/org/freedesktop/systemd1")
	fakeName      = "org.freedesktop.systemd1"
	busConfig     = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
)

func startFakeSystemd(t *testing.T) *fakeSystemd {
	t.Helper()
	daemon, dir := journaltest.Needs(t, "dbus-daemon"), t.TempDir()
	socket, config := filepath.Join(dir, "bus"), filepath.Join(dir, "bus.conf")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, busConfig, socket), 0o600))
	cmd := exec.Command(daemon, "--config-file="+config, "--nofork", "--nopidfile")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		assert.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
	})
	f := &fakeSystemd{address: "unix:path=" + socket, denied: map[string]bool{}}
	require.Eventually(t, func() bool {
		var err error
		f.conn, err = dbus.Connect(f.address)
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	t.Cleanup(func() { _ = f.conn.Close() })
	require.NoError(t, f.conn.Export(f, managerObject, fakeName+".Manager"))
	for path, p := range map[dbus.ObjectPath]map[string]any{
		managerObject:                       {"Version": "252", "FinishTimestamp": uint64(1)},
		managerObject + "/unit/a_2eservice": {"ActiveState": "active", "SubState": "running"},
		managerObject + "/unit/b_2eservice": {"ActiveState": "failed", "SubState": "failed", "Result": "signal", "InvocationID": []byte{1}},
	} {
		require.NoError(t, f.conn.Export(fakeObject{f, path, p}, path, "org.freedesktop.DBus.Properties"))
	}
	f.enter(t)
	return f
}

func (f *fakeSystemd) enter(t *testing.T) {
	t.Helper()
	_, err := f.conn.RequestName(fakeName, 0)
	require.NoError(t, err)
}

func (f *fakeSystemd) leave(t *testing.T) {
	t.Helper()
	_, err := f.conn.ReleaseName(fakeName)
	require.NoError(t, err)
}

// deny makes systemd refuse to tell of an object, or not any more.
func (f *fakeSystemd) deny(path dbus.ObjectPath, deny bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied[string(path)] = deny
}

func (*fakeSystemd) Subscribe() *dbus.Error { return nil }

type fakeUnit struct {
	Name, Description, LoadState, ActiveState, SubState, Following string
	Path                                                           dbus.ObjectPath
	JobID                                                          uint32
	JobType                                                        string
	JobPath                                                        dbus.ObjectPath
}

func (*fakeSystemd) ListUnits() ([]fakeUnit, *dbus.Error) {
	return []fakeUnit{
		{Name: "a.service", ActiveState: "active", SubState: "running", Path: "/", JobPath: "/"},
		{Name: "b.service", ActiveState: "failed", SubState: "failed", Path: "/", JobPath: "/"},
	}, nil
}

type fakeUnitFile struct{ Path, State string }

func (*fakeSystemd) ListUnitFiles() ([]fakeUnitFile, *dbus.Error) {
	return []fakeUnitFile{{"/lib/systemd/system/getty@.service", "enabled"}, {"/etc/systemd/system/nightly.service", "static"}}, nil
}

type fakeJob struct {
	ID                uint32
	Unit, Type, State string
	Path, UnitPath    dbus.ObjectPath
}

func (*fakeSystemd) ListJobs() ([]fakeJob, *dbus.Error) { return []fakeJob{}, nil }

type fakeObject struct {
	systemd    *fakeSystemd
	path       dbus.ObjectPath
	properties map[string]any
}

func (o fakeObject) Get(iface, key string) (dbus.Variant, *dbus.Error) {
	all, err := o.GetAll(iface)
	if v, ok := all[key]; ok || err != nil {
		return v, err
	}
	return dbus.MakeVariant(uint64(1_795_000_000_000_000)), nil
}

func (o fakeObject) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	o.systemd.mu.Lock()
	defer o.systemd.mu.Unlock()
	if o.path == managerObject {
		o.systemd.asked.Add(1)
	}
	if o.systemd.denied[string(o.path)] {
		return nil, dbus.NewError("org.freedesktop.DBus.Error.AccessDenied", []any{"denied"})
	}
	all := map[string]dbus.Variant{}
	for key, value := range o.properties {
		all[key] = dbus.MakeVariant(value)
	}
	return all, nil
}

// watched is a receiver that watches a fakeSystemd.
type watched struct {
	sink     consumertest.LogsSink
	warnings *observer.ObservedLogs
}

func watchFake(t *testing.T, f *fakeSystemd, sampling time.Duration, change ...func(*Config)) *watched {
	t.Helper()
	w, set := &watched{}, receivertest.NewNopSettings(metadata.Type)
	var core zapcore.Core
	core, w.warnings = observer.New(zap.WarnLevel)
	set.Logger = zap.New(core)
	cfg := noSystemd(t)
	cfg.Units.BusAddress, cfg.Units.SampleInterval = f.address, sampling
	for _, c := range change {
		c(cfg)
	}
	r, err := newReceiver(cfg, set, func() {})
	require.NoError(t, err)
	r.out.logs = &w.sink
	require.NoError(t, r.Start(t.Context(), &statusHost{}))
	t.Cleanup(func() { assert.NoError(t, r.Shutdown(context.Background())) })
	return w
}

// counts is how often each event was told.
func (w *watched) counts() map[string]int {
	counts := map[string]int{}
	for _, logs := range w.sink.AllLogs() {
		for _, r := range logs.ResourceLogs().All() {
			for _, record := range r.ScopeLogs().At(0).LogRecords().All() {
				counts[record.EventName()]++
			}
		}
	}
	return counts
}

func (w *watched) await(t *testing.T, want map[string]int) {
	t.Helper()
	if !assert.Eventually(t, func() bool { return maps.Equal(want, w.counts()) }, 20*time.Second, 10*time.Millisecond) {
		assert.Equal(t, want, w.counts())
	}
}

// A systemd that may not be asked is asked ever more rarely, and that is said
// once; as soon as it may be, it is seen.
func TestSystemdThatDenies(t *testing.T) {
	t.Parallel()
	f := startFakeSystemd(t)
	f.deny(managerObject, true)
	w := watchFake(t, f, 0)
	require.Eventually(t, func() bool { return f.asked.Load() >= 3 }, 20*time.Second, 10*time.Millisecond)
	time.Sleep(time.Second)
	assert.LessOrEqual(t, f.asked.Load(), int64(4), "200, 400, 800 ms between them")
	require.Equal(t, 1, w.warnings.Len())
	assert.Contains(t, w.warnings.All()[0].ContextMap()["hint"], "the bus does not let this user ask systemd")
	assert.Empty(t, w.counts())
	f.deny(managerObject, false)
	w.await(t, map[string]int{"tapio.systemd.started": 1, "tapio.systemd.unit.failed": 1})
}

// A name that no unit of the machine has is told once; one that is installed and not
// loaded has it.
func TestNamesThatNoUnitHas(t *testing.T) {
	t.Parallel()
	w := watchFake(t, startFakeSystemd(t), 0, func(c *Config) {
		c.Units.Include = []string{"a.service", `.*\.service`, "b.*"}
		c.Units.Critical = []string{"a.service", "nightly.service", "getty@tty1.service", "ledgr.service", "kubelet.service"}
	})
	w.await(t, map[string]int{"tapio.systemd.started": 1, "tapio.systemd.unit.failed": 1})
	require.Eventually(t, func() bool { return w.warnings.Len() > 0 }, 20*time.Second, 10*time.Millisecond)
	warning := w.warnings.All()[0].ContextMap()
	assert.Equal(t, []any{`units::include[1]: .*\.service`, "units::critical[3]: ledgr.service"}, warning["patterns"])
	assert.Contains(t, warning["hint"], "no regular expression")
}

// The machine is the one that systemd tells, not that of a file. The library
// answers for fakeSystemd, with an id of the bus.
func TestMachineOfSystemd(t *testing.T) {
	t.Parallel()
	f := startFakeSystemd(t)
	w := watchFake(t, f, 0)
	w.await(t, map[string]int{"tapio.systemd.started": 1, "tapio.systemd.unit.failed": 1})
	var want string
	require.NoError(t, f.conn.Object(fakeName, managerObject).Call("org.freedesktop.DBus.Peer.GetMachineId", 0).Store(&want))
	file, err := machine.Read("node-7", "")
	require.NoError(t, err)
	assert.NotEqual(t, file.ID, want)
	for _, logs := range w.sink.AllLogs() {
		id, _ := logs.ResourceLogs().At(0).Resource().Attributes().Get("host.id")
		assert.Equal(t, want, id.AsString())
	}
}

// One unit that may not be read hides no other.
func TestUnitThatIsDenied(t *testing.T) {
	t.Parallel()
	f := startFakeSystemd(t)
	f.deny(managerObject+"/unit/a_2eservice", true)
	w := watchFake(t, f, 0)
	w.await(t, map[string]int{"tapio.systemd.started": 1, "tapio.systemd.unit.failed": 1})
	time.Sleep(3 * firstDial)
	w.await(t, map[string]int{"tapio.systemd.started": 1, "tapio.systemd.unit.failed": 1})
	assert.LessOrEqual(t, f.asked.Load(), int64(2), "it is the same session still")
}

// A systemd that is off the bus for a moment has executed itself again, also when
// it was to be asked meanwhile.
func TestSystemdThatExecutesItselfAgain(t *testing.T) {
	t.Parallel()
	for _, sampling := range []time.Duration{0, 20 * time.Millisecond} {
		t.Run(sampling.String(), func(t *testing.T) {
			t.Parallel()
			f := startFakeSystemd(t)
			w := watchFake(t, f, sampling)
			w.await(t, map[string]int{"tapio.systemd.started": 1, "tapio.systemd.unit.failed": 1})
			f.leave(t)
			f.enter(t)
			w.await(t, map[string]int{"tapio.systemd.started": 1, "tapio.systemd.unit.failed": 1, "tapio.systemd.manager.reexecuted": 1})
		})
	}
}
