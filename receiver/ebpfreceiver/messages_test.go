package ebpfreceiver

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/kmsg"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadata"
	"github.com/yairfalse/tapio/receiver/ebpfreceiver/internal/metadatatest"
)

// scriptedLog is a kernel's log that says what a test puts into it.
type scriptedLog struct {
	in   chan any // kmsg.Record or error
	lost uint64
}

func (l *scriptedLog) Next() (kmsg.Record, error) {
	switch v := (<-l.in).(type) {
	case kmsg.Record:
		return v, nil
	case error:
		return kmsg.Record{}, v
	default:
		return kmsg.Record{}, os.ErrClosed
	}
}

func (l *scriptedLog) Lost() uint64 { return l.lost }
func (l *scriptedLog) Close() error { close(l.in); return nil }

// minuteSinceBoot is a clock that stands still.
func minuteSinceBoot() (boot, suspended uint64) { return uint64(time.Minute), 0 }

func lineOf(message string) kmsg.Record {
	return kmsg.Record{SinceBoot: time.Minute - time.Millisecond, Message: message}
}

func newTestMessages(running ...string) *messages {
	return newMessages(&scriptedLog{in: make(chan any, 100)}, kmsg.BuiltIn(), running, minuteSinceBoot, zap.NewNop())
}

const softLockup = "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [payment:42]"

func TestMessageBecomesARecord(t *testing.T) {
	t.Parallel()
	rec := lineOf(softLockup)
	ev, ok := newTestMessages().event(&rec)
	require.True(t, ok)
	assert.True(t, ev.isUrgent())
	record, resource := encodeOne(t, ev)
	assert.Equal(t, "tapio.kernel.soft_lockup", record.EventName())
	assert.Equal(t, softLockup, record.Body().Str())
	assert.Equal(t, "Error", record.SeverityText())
	assert.Equal(t, testEpoch.Add(time.Minute-time.Millisecond), record.Timestamp().AsTime())
	assert.Equal(t, testEpoch, record.ObservedTimestamp().AsTime())
	assert.Equal(t, map[string]any{"tapio.kernel.cpu": int64(1), "tapio.kernel.duration": int64(22), event.KeyProcessComm: "payment", event.KeyProcessPID: int64(42)}, record.Attributes().AsRaw())
	assert.Equal(t, map[string]any{event.KeyHostName: "node-7"}, resource)

	off := newTestEncoder(func(c *Config) { c.Events.TapioKernelSoftLockup.Enabled = false })
	assert.Zero(t, off.encode([]kernelEvent{ev}, testEpoch).LogRecordCount())
}

// Hostile bytes stay in the text.
func TestMessageBodyIsText(t *testing.T) {
	t.Parallel()
	rec := lineOf("\xff\xfe[1]: segfault at 0 ip 0 sp 0 error 4 in \xff\n\x1b[2J[1+1]")
	ev, ok := newTestMessages().event(&rec)
	require.True(t, ok)
	record, _ := encodeOne(t, ev)
	assert.Equal(t, "\uFFFD[1]: segfault at 0 ip 0 sp 0 error 4 in \uFFFD\n\x1b[2J[1+1]", record.Body().Str())
}

func TestWhatIsNoMessageOfTheKernel(t *testing.T) {
	t.Parallel()
	oom := lineOf("Out of memory: Killed process 42 (payment) total-vm:1kB")
	_, ok := newTestMessages("oom_kill").event(&oom)
	assert.False(t, ok, "the program tells it better")
	_, ok = newTestMessages("tcp_connect").event(&oom)
	assert.True(t, ok, "the program does not run")

	forged := lineOf(softLockup)
	forged.Facility = 1
	_, ok = newTestMessages().event(&forged)
	assert.False(t, ok, "a program wrote it")

	daily := lineOf("docker0: port 1(veth0) entered disabled state")
	_, ok = newTestMessages().event(&daily)
	assert.False(t, ok)
}

func TestTimeOfAMessage(t *testing.T) {
	t.Parallel()
	const boot = uint64(time.Hour)
	for name, tc := range map[string]struct {
		since     time.Duration
		suspended uint64
		want      uint64
	}{
		"just now":            {time.Hour - time.Millisecond, 0, boot - uint64(time.Millisecond)},
		"after a suspend":     {30*time.Minute - time.Millisecond, uint64(30 * time.Minute), boot - uint64(time.Millisecond)},
		"its clock runs late": {time.Hour - time.Minute, 0, boot},
		"its clock runs fast": {time.Hour + time.Millisecond, 0, boot},
	} {
		assert.Equal(t, tc.want, timeOf(&kmsg.Record{SinceBoot: tc.since}, boot, tc.suspended), name)
	}
}

func TestManyMessagesOfAKindAreHeldBack(t *testing.T) {
	t.Parallel()
	now := uint64(time.Hour)
	m := newTestMessages()
	m.clocks = func() (uint64, uint64) { return now, 0 }
	passed := 0
	send := func(n int) {
		for range n {
			rec := lineOf(softLockup)
			if _, ok := m.event(&rec); ok {
				passed++
			}
		}
	}
	send(100)
	assert.Equal(t, messageBurst, passed)
	now += uint64(5 * messageInterval)
	send(100)
	assert.Equal(t, messageBurst+5, passed)
	other := lineOf("nfs: server 10.0.0.1 not responding, timed out")
	_, ok := m.event(&other)
	assert.True(t, ok, "each kind has its own bucket")
	assert.Equal(t, map[string]int64{"tapio.kernel.soft_lockup": 200 - messageBurst - 5, "tapio.kernel.nfs_not_responding": 0}, m.suppressed())
}

func TestMessagesInTheReceiver(t *testing.T) {
	t.Parallel()
	tel := newTelemetry(t)
	log := &scriptedLog{in: make(chan any), lost: 3}
	src, sink := newScriptedSource(), new(consumertest.LogsSink)
	src.names = []string{"oom_kill"}
	r, err := newReceiver(createDefaultConfig().(*Config), metadatatest.NewSettings(tel), sink, func(*Config, *zap.Logger) source { return src })
	require.NoError(t, err)
	r.openMessages = func(_ *Config, running []string, l *zap.Logger) *messages {
		return newMessages(log, kmsg.BuiltIn(), running, minuteSinceBoot, l)
	}
	host := &statusHost{}
	require.NoError(t, r.Start(t.Context(), host))
	assert.Empty(t, host.events())
	for range messageBurst + 1 {
		log.in <- lineOf(softLockup)
	}
	log.in <- errors.New("not a record")
	src.in <- refused(1)
	assert.Eventually(t, func() bool { return sink.LogRecordCount() == 1+messageBurst+1 }, 5*time.Second, time.Millisecond)
	metadatatest.AssertEqualReceiverTapioEbpfKmsgLost(t, tel, []metricdata.DataPoint[int64]{{Value: 3}}, metricdatatest.IgnoreTimestamp())
	metadatatest.AssertEqualReceiverTapioEbpfSuppressed(t, tel, []metricdata.DataPoint[int64]{
		{Value: 1, Attributes: attribute.NewSet(attribute.String("event", "tapio.kernel.soft_lockup"))},
	}, metricdatatest.IgnoreTimestamp())
	started := recordsOf(sink.AllLogs()[0].ResourceLogs().At(0)).At(0)
	assert.Equal(t, map[string]any{event.KeyEBPFPrograms: []any{"oom_kill", kmsgName}, event.KeyEBPFFailed: []any{}}, started.Attributes().AsRaw())
	require.NoError(t, r.Shutdown(t.Context()))
}

// What fails for good ends the reading; the receiver works on.
func TestLogThatCannotBeReadAnyMore(t *testing.T) {
	t.Parallel()
	log := &scriptedLog{in: make(chan any, 1)}
	log.in <- &os.PathError{Op: "read", Path: kmsg.Device, Err: os.ErrInvalid}
	_, err := newMessages(log, kmsg.BuiltIn(), nil, minuteSinceBoot, zap.NewNop()).read()
	assert.ErrorIs(t, err, os.ErrClosed)
}

func TestLogThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	_, err := openKmsg(filepath.Join(t.TempDir(), "none"))
	assert.Contains(t, explainKmsg(err), "containers need the host's")
	assert.Contains(t, explainKmsg(os.ErrPermission), "needs CAP_SYSLOG where kernel.dmesg_restrict is 1")
	cfg := createDefaultConfig().(*Config)
	cfg.Programs.Kmsg.Enabled = false
	assert.Nil(t, openMessages(cfg, nil, zap.NewNop()))
}

// Every event of the rules is declared in metadata.yaml with all its attributes.
func TestMessagesAreDeclared(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("metadata.yaml")
	require.NoError(t, err)
	var declared struct {
		Events map[string]struct {
			Attributes []string
		}
	}
	require.NoError(t, yaml.Unmarshal(text, &declared))
	rules := kmsg.BuiltIn()
	for _, name := range rules.Events() {
		assert.Contains(t, declared.Events, name)
		assert.Subset(t, declared.Events[name].Attributes, rules.Keys(name), name)
	}
	cfg := metadata.DefaultEventsConfig()
	assert.Len(t, enabledEvents(&cfg), len(declared.Events))
}

func TestRulesFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	cfg := createDefaultConfig().(*Config)
	cfg.Programs.Kmsg.RulesFile = file
	require.ErrorContains(t, cfg.Validate(), "programs::kmsg::rules_file: open "+file)
	require.NoError(t, os.WriteFile(file, []byte("rules: [{event: X}]"), 0o600))
	require.ErrorContains(t, cfg.Validate(), "programs::kmsg::rules_file: "+file+`: rules[0] (X): event: "X"`)
	require.NoError(t, os.WriteFile(file, []byte("rules:\n- {event: acme.lockup, severity: info, contains: 'soft lockup'}"), 0o600))
	require.NoError(t, cfg.Validate())
	rules, err := cfg.Programs.Kmsg.rules()
	require.NoError(t, err)
	found, _ := rules.Match(softLockup)
	assert.Equal(t, "acme.lockup", found.Name, "the user's own come first")
	ev := messageEvent{found: found, line: softLockup}
	assert.False(t, ev.isUrgent())
	record, _ := encodeOne(t, ev)
	assert.Equal(t, "acme.lockup", record.EventName())
}
