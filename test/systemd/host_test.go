package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
)

const hostConfiguration = `
receivers:
  tapio_ebpf:
  tapio_systemd:
  tapio_cni: {operations: {enabled: false}}
exporters:
  file: {path: /opt/collector/logs.json, flush_interval: 20ms}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    logs: {receivers: [tapio_ebpf, tapio_systemd, tapio_cni], exporters: [file]}
`

// TestReceiversAgreeOnTheHost: a collector that runs on the machine, with all three
// receivers and no word of what the machine is called, names it once.
func TestReceiversAgreeOnTheHost(t *testing.T) {
	requireKernel(t)
	var collector *exec.Cmd
	t.Cleanup(func() { // it ends with the machine
		if collector != nil {
			_ = collector.Wait()
		}
	})
	dir := t.TempDir()
	const id = "d4c3b2a1d4c3b2a1d4c3b2a1d4c3b2a1"
	m := boot(t, func(m *machine) {
		m.files = map[string]string{"etc/machine-id": id + "\n"}
		m.binds = append(m.binds, "--bind="+dir+":/opt/collector", "--bind-ro="+program(t)+":/opt/otelcol-tapio")
	})
	require.NoError(t, os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(hostConfiguration), 0o600))
	collector = m.command("/opt/otelcol-tapio", "--config", "/opt/collector/config.yaml")
	collector.Stdout, collector.Stderr = &m.out, &m.out
	require.NoError(t, collector.Start())

	started := []string{"tapio.ebpf.started", "tapio.systemd.started", "tapio.cni.started"}
	hosts := map[string][2]string{}
	require.Eventually(t, func() bool {
		lines(t, filepath.Join(dir, "logs.json"), func(line []byte) error {
			logs, err := new(plog.JSONUnmarshaler).UnmarshalLogs(line)
			if err != nil {
				return err
			}
			for _, rl := range logs.ResourceLogs().All() {
				host := [2]string{text(rl.Resource().Attributes(), "host.name"), text(rl.Resource().Attributes(), "host.id")}
				for _, sl := range rl.ScopeLogs().All() {
					for _, r := range sl.LogRecords().All() {
						hosts[r.EventName()] = host
					}
				}
			}
			return nil
		})
		for _, name := range started {
			if _, ok := hosts[name]; !ok {
				return false
			}
		}
		return true
	}, time.Minute, 100*time.Millisecond, "not all receivers start")
	for _, name := range started {
		assert.Equal(t, [2]string{m.name, id}, hosts[name], name)
	}
}
