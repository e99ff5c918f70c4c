package linux

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"
)

func TestExplainPermission(t *testing.T) {
	t.Parallel()
	const bpfAndPerfmon = 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON
	for want, caps := range map[string]uint64{
		"missing CAP_BPF and CAP_PERFMON;": 0,
		"missing CAP_PERFMON;":             1 << unix.CAP_BPF,
		"missing CAP_BPF;":                 1 << unix.CAP_PERFMON,
		"although the capabilities are there: no: a security policy forbids it": bpfAndPerfmon,
		"although the capabilities are there":                                   1 << unix.CAP_SYS_ADMIN,
	} {
		assert.Contains(t, explainPermission(caps, false, errors.New("no")), want)
	}
	said := explainPermission(bpfAndPerfmon, true, errors.New("map create: operation not permitted (MEMLOCK may be too low, consider rlimit.RemoveMemlock)"))
	assert.Contains(t, said, "there: map create: operation not permitted: a seccomp filter")
	assert.Contains(t, said, "SystemCallFilter=")
}

func TestParseCapabilities(t *testing.T) {
	t.Parallel()
	assert.Equal(t, uint64(0xc000000000), parseCapabilities("Name:\tx\nCapEff:\t000000c000000000\nCapBnd:\t0\n"))
	assert.Zero(t, parseCapabilities("Name:\tx\nCapEff:\tmany\n"))
	assert.Zero(t, parseCapabilities(""))
}
