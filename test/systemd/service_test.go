package systemd

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestServiceOfTheCollector: the unit file of examples/node runs the default configuration
// without root, and nothing is hidden from it: the bus, the journal, the kernel, its state.
func TestServiceOfTheCollector(t *testing.T) {
	requireKernel(t)
	unit, err := os.ReadFile("../../examples/node/otelcol-tapio.service")
	require.NoError(t, err)
	config, err := os.ReadFile("../../otelcol-tapio/config.yaml")
	require.NoError(t, err)
	m := boot(t, func(m *machine) {
		m.units = map[string]string{"otelcol-tapio.service": string(unit)}
		m.files = map[string]string{"opt/config.yaml": string(config)}
		m.binds = append(m.binds, "--bind-ro="+program(t)+":/usr/local/bin/otelcol-tapio",
			"--capability=CAP_BPF,CAP_PERFMON,CAP_SYSLOG,CAP_NET_BROADCAST", "--system-call-filter=bpf perf_event_open")
	})
	for _, args := range [][]string{
		{"useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "otelcol-tapio"},
		{"mkdir", "-p", "/etc/otelcol-tapio"},
		{"cp", "/opt/config.yaml", "/etc/otelcol-tapio/config.yaml"},
		{"systemctl", "start", "otelcol-tapio.service"},
	} {
		out, err := m.command(args...).CombinedOutput()
		require.NoError(t, err, "%v: %s", args, out)
	}
	said := func() string { // without the resource, which each line has
		out, err := m.command("journalctl", "--unit=otelcol-tapio.service", "--output=cat", "--no-pager").Output()
		require.NoError(t, err)
		return regexp.MustCompile(`"resource": \{[^}]*\}, `).ReplaceAllString(string(out), "")
	}
	defer func() {
		if t.Failed() {
			t.Log(said())
		}
	}()
	counter := func(name string) float64 {
		out, _ := m.command("python3", "-c", "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8888/metrics').read().decode())").Output()
		found := regexp.MustCompile(`(?m)^` + name + `(?:_total)?(?:\{[^}]*\})? (\S+)$`).FindSubmatch(out)
		if found == nil {
			return -1
		}
		var value float64
		_, err := fmt.Sscan(string(found[1]), &value)
		require.NoError(t, err)
		return value
	}
	require.Eventually(t, func() bool { return strings.Contains(said(), "systemd is seen") }, 30*time.Second, 100*time.Millisecond)
	assert.Eventually(t, func() bool { return counter("otelcol_receiver_tapio_systemd_bus_connected") == 1 }, 30*time.Second, 200*time.Millisecond)
	assert.Eventually(t, func() bool {
		m.systemctl("restart", "good.service") // of which systemd writes into the journal
		return counter("otelcol_receiver_tapio_systemd_journal_read") > 0
	}, 30*time.Second, 200*time.Millisecond)
	assert.Contains(t, said(), `"process_exec"`, "kernel programs are attached")
	state, err := m.command("stat", "--format=%A %U", "/var/lib/otelcol-tapio/", "/var/lib/otelcol-tapio/findings.db").CombinedOutput()
	require.NoError(t, err, "%s", state)
	user, err := m.command("ps", "-o", "user:32=", "-C", "otelcol-tapio").Output()
	require.NoError(t, err)
	assert.NotEqual(t, "root", strings.TrimSpace(string(user)))
	// A container has no /dev/kmsg and a pid namespace of its own, which is said.
	for _, complaint := range []string{"permission denied", "not permitted", "missing CAP_", "cannot be read", "are not seen", "\terror\t"} {
		assert.NotContains(t, said(), complaint)
	}
}

// TestPatternsOfNoUnit: names in the configuration that no unit of the machine has are told
// once; those of units that are installed and not loaded, or instances of a template, are not.
func TestPatternsOfNoUnit(t *testing.T) {
	m := boot(t)
	c := newCollector(t, m, 0, func(c *collector) {
		c.units = "      include: ['*.service', '.*\\.service', leger.service, 'getty@tty7.service', slow.service]\n"
	})
	c.start(t)
	said := func() bool { return strings.Contains(c.out.String(), "has a name that the configuration asks for") }
	require.Eventually(t, said, time.Minute, 20*time.Millisecond)
	c.stop(t)
	warnings := strings.Count(c.out.String(), "has a name that the configuration asks for")
	assert.Equal(t, 1, warnings)
	assert.Contains(t, c.out.String(), `"patterns": ["units::include[1]: .*\\.service", "units::include[2]: leger.service"]`)
}
