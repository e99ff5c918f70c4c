package boot

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A machine with EFI: times of the monotonic clock in microseconds, and the end
// of the boot on the wall clock.
func machine() map[string]any {
	return map[string]any{
		"FirmwareTimestampMonotonic": uint64(9_000_000), "LoaderTimestampMonotonic": uint64(2_000_000),
		"KernelTimestamp":          uint64(1_795_000_000_000_000 - 20_000_000),
		"InitRDTimestampMonotonic": uint64(1_000_000), "UserspaceTimestampMonotonic": uint64(3_000_000),
		"FinishTimestamp": uint64(1_795_000_000_000_000), "FinishTimestampMonotonic": uint64(10_000_000),
	}
}

var finish = time.UnixMicro(1_795_000_000_000_000).UTC()

func TestPhases(t *testing.T) {
	t.Parallel()
	b, ok := Read(machine())
	require.True(t, ok)
	kernel := finish.Add(-10 * time.Second)
	assert.Equal(t, []Phase{
		{Firmware, kernel.Add(-9 * time.Second), kernel.Add(-2 * time.Second)},
		{Loader, kernel.Add(-2 * time.Second), kernel},
		{Kernel, kernel, kernel.Add(time.Second)},
		{Initrd, kernel.Add(time.Second), kernel.Add(3 * time.Second)},
		{Userspace, kernel.Add(3 * time.Second), finish},
	}, b.Phases)
	assert.Equal(t, kernel.Add(-9*time.Second), b.Start())
	assert.Equal(t, finish, b.End())
}

func TestMachinesThatSayLess(t *testing.T) {
	t.Parallel()
	p := machine()
	for _, key := range []string{"FirmwareTimestampMonotonic", "LoaderTimestampMonotonic", "InitRDTimestampMonotonic"} {
		p[key] = uint64(0)
	}
	b, ok := Read(p)
	require.True(t, ok)
	assert.Len(t, b.Phases, 2, "a virtual machine: kernel and userspace")
	p["KernelTimestamp"] = uint64(0)
	b, ok = Read(p)
	require.True(t, ok)
	assert.Len(t, b.Phases, 1, "a container: userspace")

	for key, value := range map[string]any{
		"FinishTimestamp": uint64(0), "FinishTimestampMonotonic": uint64(1), "UserspaceTimestampMonotonic": "x",
	} {
		p := machine()
		p[key] = value
		_, ok := Read(p)
		assert.False(t, ok, key)
	}
}

func unit(state string, exit, enter, inactive uint64, after ...string) map[string]any {
	return map[string]any{
		"ActiveState": state, "InactiveExitTimestampMonotonic": exit, "ActiveEnterTimestampMonotonic": enter,
		"InactiveEnterTimestampMonotonic": inactive, "After": after,
	}
}

func TestActivations(t *testing.T) {
	t.Parallel()
	b, _ := Read(machine())
	var all []Activation
	for name, p := range map[string]map[string]any{
		"slow.service":    unit("active", 4_000_000, 6_000_000, 0),
		"fast.service":    unit("active", 4_000_000, 4_500_000, 0),
		"last.service":    unit("active", 6_000_001, 7_000_000, 0, "fast.service", "slow.service", "gone.service"),
		"oneshot.service": unit("inactive", 7_000_000, 0, 8_000_000, "last.service"),
		"broken.service":  unit("failed", 8_000_000, 0, 9_000_000),
		"later.service":   unit("active", 11_000_000, 12_000_000, 0),
		"initrd.service":  unit("active", 2_000_000, 2_500_000, 0),
		"never.service":   unit("inactive", 0, 0, 0),
		"hangs.service":   unit("activating", 9_000_000, 0, 0),
	} {
		if a, ok := b.Activation(name, p); ok {
			all = append(all, a)
		}
	}
	Order(all)
	require.Len(t, all, 5)
	waited := map[string]string{}
	for _, a := range all {
		waited[a.Unit] = a.WaitedFor
		assert.Equal(t, a.Unit == "broken.service", a.Failed, a.Unit)
		assert.False(t, a.End.Before(a.Start), a.Unit)
	}
	assert.Equal(t, map[string]string{
		"slow.service": "", "fast.service": "", "last.service": "slow.service", "oneshot.service": "last.service", "broken.service": "",
	}, waited)
}
