package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// unit hands over an event of a unit, with the main process v, as tapio_systemd tells it.
func (s *scenario) unit(name string, v service, what string, attrs map[string]any) {
	s.unitAt(s.clock, name, v, what, attrs)
}

func (s *scenario) unitAt(at time.Time, name string, v service, what string, attrs map[string]any) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	rl.Resource().Attributes().PutStr(event.KeyHostName, "node1")
	rl.Resource().Attributes().PutStr(event.KeySystemdUnit, name)
	r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	r.SetEventName("tapio.systemd.unit." + what)
	r.Body().SetStr(name + ": " + what)
	r.SetTimestamp(pcommon.NewTimestampFromTime(at))
	require.NoError(s.t, r.Attributes().FromRaw(attrs))
	if v.pid != 0 {
		r.Attributes().PutInt(event.KeyProcessPID, v.pid)
		r.Attributes().PutStr(event.KeyProcessCreationTime, epoch.Add(-time.Hour).Add(40*time.Millisecond).Format(time.RFC3339Nano))
	}
	s.deliver(item{logs: ld})
}

// system hands over an event of the whole machine.
func (s *scenario) system(what string, attrs map[string]any) {
	s.about("tapio.system."+what, attrs, nil)
}

// enospc hands over a write of a process that found the disk full.
func (s *scenario) enospc(v service) {
	s.about("tapio.syscall.failed", map[string]any{event.KeyErrorType: "ENOSPC", "tapio.syscall.name": "write"}, map[string]any{event.KeyProcessPID: v.pid})
	s.wait(10 * time.Millisecond)
}

// about hands over an event of the node, or of whom the resource names on it.
func (s *scenario) about(name string, attrs, resource map[string]any) {
	s.aboutIn(name, name, attrs, resource)
}

// aboutIn does so in the words of the event.
func (s *scenario) aboutIn(name, body string, attrs, resource map[string]any) {
	ld := plog.NewLogs()
	rl := ld.ResourceLogs().AppendEmpty()
	require.NoError(s.t, rl.Resource().Attributes().FromRaw(resource))
	rl.Resource().Attributes().PutStr(event.KeyHostName, "node1")
	r := rl.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	r.SetEventName(name)
	r.Body().SetStr(body)
	r.SetTimestamp(pcommon.NewTimestampFromTime(s.clock))
	require.NoError(s.t, r.Attributes().FromRaw(attrs))
	s.deliver(item{logs: ld})
}

var failed3 = map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 3}

// TestUnits: a unit fails, or is stopped, and its callers suffer: the unit is named.
func TestUnits(t *testing.T) {
	const payments = "payments.service"
	for name, tc := range map[string]struct {
		want, entity string
		play         func(*scenario)
	}{
		"it fails": {"unit-failed", payments, func(s *scenario) {
			s.unit(payments, payment, "failed", failed3)
			s.refusals(10, "u")
		}},
		"it fails, and systemd says so late": {"unit-failed", payments, func(s *scenario) {
			happened := s.clock
			s.refusals(10, "u")
			s.unitAt(happened, payments, payment, "failed", failed3)
			s.refusals(5, "u")
		}},
		"the kernel saw it end": {"process-crashed", "payment", func(s *scenario) {
			s.exit(payment, exit2)
			s.wait(20 * time.Millisecond)
			s.unit(payments, payment, "failed", failed3)
			s.refusals(10, "u")
		}},
		"beside it, a script failed before": {"unit-failed", payments, func(s *scenario) {
			s.exit(service{host: "node1", pid: 4711}, exit2)
			s.wait(4 * time.Second)
			happened := s.clock
			s.refusals(10, "u")
			s.unitAt(happened, payments, payment, "failed", failed3)
			s.refusals(5, "u")
		}},
		"it is stopped": {"unit-stopped", payments, func(s *scenario) {
			s.unit(payments, payment, "deactivated", nil)
			s.refusals(10, "u")
		}},
		"it ran before anybody watched, and is stopped": {"unit-stopped", payments, func(s *scenario) {
			s.unit(payments, payment, "running", nil)
			s.wait(time.Second)
			s.unit(payments, service{}, "deactivated", nil)
			s.refusals(10, "u")
		}},
		"it loops": {"unit-start-limit", payments, func(s *scenario) {
			s.unit(payments, payment, "failed", failed3)
			s.refusals(10, "u")
			s.unit(payments, service{}, "start_limit_hit", map[string]any{"tapio.systemd.unit.restarts": 5, event.KeyErrorType: "start-limit-hit"})
			s.refusals(10, "u")
		}},
		"it is killed for want of memory": {"unit-out-of-memory", payments, func(s *scenario) {
			s.unit(payments, payment, "oom_killed", map[string]any{event.KeyErrorType: "oom-kill", event.KeyMemoryLimit: 64 << 20})
			s.refusals(10, "u")
		}},
		"what it requires failed": {"unit-dependency-failed", payments, func(s *scenario) {
			s.unit(payments, payment, "activated", nil)
			s.unit(payments, service{}, "dependency_failed", map[string]any{"tapio.systemd.dependencies": []any{"db.service"}})
			s.refusals(10, "u")
		}},
		"it is restarted, and what it requires is not there": {"unit-dependency-failed", payments, func(s *scenario) {
			s.unit(payments, payment, "deactivated", nil)
			s.refusals(2, "u")
			s.unit(payments, service{}, "dependency_failed", map[string]any{"tapio.systemd.dependencies": []any{"db.service"}})
			s.refusals(10, "u")
		}},
		"what it requires was seen to fail": {"unit-failed", "db.service", func(s *scenario) {
			s.unit(payments, payment, "activated", nil)
			s.unit("db.service", service{pid: 50}, "failed", failed3)
			s.wait(10 * time.Millisecond)
			s.unit(payments, service{}, "dependency_failed", map[string]any{"tapio.systemd.dependencies": []any{"db.service"}})
			s.refusals(10, "u")
		}},
		"what it is bound to fails": {"unit-failed", "db.service", func(s *scenario) {
			s.unit(payments, payment, "activated", nil)
			s.unit("db.service", service{pid: 50}, "failed", failed3)
			s.wait(10 * time.Millisecond)
			s.unit(payments, payment, "deactivated", map[string]any{"tapio.systemd.dependencies": []any{"db.service"}})
			s.refusals(10, "u")
		}},
		"what it is bound to fails, and that is told last": {"unit-failed", "db.service", func(s *scenario) {
			s.unit(payments, payment, "activated", nil)
			happened := s.clock
			s.wait(10 * time.Millisecond)
			s.unit(payments, payment, "deactivated", map[string]any{"tapio.systemd.dependencies": []any{"db.service"}})
			s.refusals(10, "u")
			s.unitAt(happened, "db.service", service{pid: 50}, "failed", failed3)
			s.refusals(10, "u")
		}},
		"it is stopped after another one failed": {"unit-stopped", payments, func(s *scenario) {
			s.unit("db.service", service{pid: 50}, "failed", failed3)
			s.wait(10 * time.Millisecond)
			s.unit(payments, payment, "deactivated", nil)
			s.refusals(10, "u")
		}},
		"its disk is full": {"unit-out-of-space", payments, func(s *scenario) {
			s.unit(payments, payment, "activated", nil)
			s.wait(time.Millisecond)
			s.enospc(payment)
			s.unit(payments, payment, "failed", failed3)
			s.refusals(10, "u")
		}},
		"its disk is full, and systemd says so late": {"unit-out-of-space", payments, func(s *scenario) {
			s.unit(payments, payment, "activated", nil)
			s.wait(time.Millisecond)
			s.enospc(payment)
			happened := s.clock
			s.refusals(10, "u")
			s.unitAt(happened, payments, payment, "failed", failed3)
			s.refusals(5, "u")
		}},
		"its disk is full, it answers with errors, and then it ends": {"unit-out-of-space", payments, func(s *scenario) {
			s.unit(payments, payment, "activated", nil)
			refusedByKernel("ENOSPC", payment)(s)
			s.unit(payments, payment, "failed", failed3)
			s.refusals(10, "u")
		}},
		"its disk is full, and the kernel's word of its end comes last": {"unit-out-of-space", payments, func(s *scenario) {
			s.unit(payments, payment, "activated", nil)
			s.wait(time.Millisecond)
			s.enospc(payment)
			ended := s.clock
			s.unit(payments, payment, "failed", failed3)
			s.refusals(3, "u")
			s.kernel(payment, event.ProcessExit, ended, exit2)
			s.refusals(10, "u")
		}},
		"its disk is full, as the kernel sees it outside of its pid namespace": {"unit-out-of-space", payments, func(s *scenario) {
			outside := map[string]any{event.KeyProcessPID: 9001, event.KeySystemdUnit: payments}
			s.unit(payments, payment, "activated", nil)
			s.wait(time.Millisecond)
			s.about("tapio.syscall.failed", map[string]any{event.KeyErrorType: "ENOSPC", "tapio.syscall.name": "write"}, outside)
			s.wait(time.Millisecond)
			s.unit(payments, payment, "failed", failed3)
			s.refusals(2, "u")
			s.about(event.ProcessExit, exit2, outside)
			s.refusals(10, "u")
		}},
		"the same, and all is known before anybody calls": {"unit-out-of-space", payments, func(s *scenario) {
			outside := map[string]any{event.KeyProcessPID: 9001, event.KeySystemdUnit: payments}
			s.unit(payments, payment, "activated", nil)
			s.wait(time.Millisecond)
			s.about("tapio.syscall.failed", map[string]any{event.KeyErrorType: "ENOSPC", "tapio.syscall.name": "write"}, outside)
			s.wait(time.Millisecond)
			s.about(event.ProcessExit, exit2, outside)
			s.wait(time.Millisecond)
			s.unit(payments, payment, "failed", failed3)
			s.refusals(10, "u")
		}},
		"the same, and systemd says so last": {"unit-out-of-space", payments, func(s *scenario) {
			outside := map[string]any{event.KeyProcessPID: 9001, event.KeySystemdUnit: payments}
			s.unit(payments, payment, "activated", nil)
			s.wait(time.Millisecond)
			s.about("tapio.syscall.failed", map[string]any{event.KeyErrorType: "ENOSPC", "tapio.syscall.name": "write"}, outside)
			s.wait(time.Millisecond)
			happened := s.clock
			s.about(event.ProcessExit, exit2, outside)
			s.refusals(2, "u")
			s.unitAt(happened, payments, payment, "failed", failed3)
			s.refusals(10, "u")
		}},
		"the disk of another unit is full": {"unit-failed", payments, func(s *scenario) {
			s.unit("db.service", service{pid: 50}, "activated", nil)
			s.enospc(service{pid: 50})
			s.unit(payments, payment, "failed", failed3)
			s.refusals(10, "u")
		}},
		"its disk is full, long before anybody calls": {"unit-out-of-space", payments, func(s *scenario) {
			s.unit(payments, payment, "activated", nil)
			s.wait(time.Millisecond)
			s.enospc(payment)
			s.unit(payments, payment, "failed", missed)
			s.wait(time.Minute)
			s.refusals(10, "u")
		}},
		"it fails long before anybody calls": {"unit-failed", payments, func(s *scenario) {
			s.unit(payments, payment, "failed", missed)
			s.wait(time.Minute)
			s.refusals(10, "u")
		}},
		"the kernel saw it end, long before anybody calls": {"process-crashed", "payment", func(s *scenario) {
			s.exit(payment, exit2)
			s.wait(20 * time.Millisecond)
			s.unit(payments, payment, "failed", missed)
			s.wait(time.Minute)
			s.refusals(10, "u")
		}},
		"the kernel saw it end, and it should run": {"process-crashed", "payment", func(s *scenario) {
			s.exit(payment, exit2)
			s.wait(20 * time.Millisecond)
			s.unit(payments, payment, "failed", missed)
			s.refusals(10, "u")
		}},
		"its disk was full, and it went on": {"connection-refused", "payment", func(s *scenario) {
			s.unit(payments, payment, "activated", nil)
			s.wait(time.Millisecond)
			s.enospc(payment)
			s.refusals(10, "u")
		}},
		"the node reboots": {"node-rebooted", "node1", func(s *scenario) {
			s.system("shutdown", map[string]any{"tapio.system.shutdown.kind": "reboot"})
			s.wait(10 * time.Millisecond)
			s.unit(payments, payment, "deactivated", nil)
			s.refusals(10, "u")
			s.system("boot_completed", nil)
		}},
		"the node comes up again": {"node-restarted", "node1", func(s *scenario) {
			s.refusals(10, "u")
			s.wait(20 * time.Second)
			s.system("boot_completed", nil)
		}},
		"another unit fails": {"connection-refused", "payment", func(s *scenario) {
			s.unit("logrotate.service", service{pid: 60}, "failed", failed3)
			s.refusals(10, "u")
		}},
		"nobody calls it": {"", "", func(s *scenario) {
			s.unit("logrotate.service", service{pid: 60}, "failed", failed3)
			s.wait(10 * time.Second)
		}},
		"it is stopped and started before anybody calls": {"", "", func(s *scenario) {
			s.unit(payments, payment, "deactivated", nil)
			s.healthy(5 * time.Second)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.healthy(5 * time.Second)
			tc.play(s)
			s.wait(5 * time.Second)
			if tc.want == "" {
				require.Empty(t, s.findings)
				return
			}
			f := s.one()
			assert.Equal(t, tc.want, f.Pattern)
			assert.Equal(t, tc.entity, f.RootCause.Entity.Name)
			assert.Positive(t, f.Impact.FailedRequests)
			if !slices.Contains([]string{"unit-dependency-failed", "node-restarted"}, tc.want) { // which are noticed after they began
				assertCausal(t, f)
			}
			assertComplete(t, f)
		})
	}
}

// missed is a failure of a unit that should run, as tapio_systemd tells it.
var missed = map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 3, "tapio.systemd.unit.should_run": true}

// TestUnitStaysFailed: a unit that should run stays failed, and nobody is seen to need it.
func TestUnitStaysFailed(t *testing.T) {
	const backup = "backup.service"
	for name, tc := range map[string]struct {
		want string
		play func(*scenario)
	}{
		"it should run": {"unit-failed", func(s *scenario) {
			s.unit(backup, service{pid: 60}, "failed", missed)
		}},
		"the kernel saw it end, too": {"unit-failed", func(s *scenario) {
			s.exit(service{host: "node1", pid: 60}, exit2)
			s.unit(backup, service{pid: 60}, "failed", missed)
		}},
		"the kernel's word comes last": {"unit-failed", func(s *scenario) {
			s.unit(backup, service{pid: 60}, "failed", missed)
			s.wait(10 * time.Millisecond)
			s.exit(service{host: "node1", pid: 60}, exit2)
		}},
		"the same, and it was told already": {"unit-failed", func(s *scenario) {
			s.unit(backup, service{pid: 60}, "failed", missed)
			s.wait(time.Minute)
			s.exit(service{host: "node1", pid: 60}, exit2)
		}},
		"it is a task": {"", func(s *scenario) {
			s.unit(backup, service{pid: 60}, "failed", failed3)
		}},
		"a task whose executable is missing": {"", func(s *scenario) {
			s.unit(backup, service{pid: 60}, "failed", failed3)
			s.unit(backup, service{pid: 60}, "exec_failed", nil)
		}},
		"it is restarted": {"", func(s *scenario) {
			s.unit(backup, service{pid: 60}, "failed", missed)
			s.wait(10 * time.Second)
			s.unit(backup, service{pid: 61}, "activated", nil)
		}},
		"systemd restarts it": {"", func(s *scenario) {
			s.unit(backup, service{pid: 60}, "failed", failed3)
			s.unit(backup, service{pid: 60}, "restarting", map[string]any{"tapio.systemd.restart.count": 1})
			s.unit(backup, service{pid: 61}, "activated", map[string]any{"tapio.systemd.unit.restarts": 1})
		}},
		"it is given up": {"unit-start-limit", func(s *scenario) {
			s.unit(backup, service{pid: 60}, "failed", missed)
			s.wait(time.Minute)
			s.unit(backup, service{}, "start_limit_hit", map[string]any{event.KeyErrorType: "start-limit-hit"})
		}},
		"it is the kubelet": {"kubelet-down", func(s *scenario) {
			s.unit("kubelet.service", service{pid: 60}, "failed", missed)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.healthy(5 * time.Second)
			tc.play(s)
			s.wait(10 * time.Second)
			if tc.want == "unit-failed" && name != "the same, and it was told already" {
				assert.Empty(t, s.findings, "it may be restarted yet")
			}
			s.wait(time.Minute)
			if tc.want == "" {
				require.Empty(t, s.findings)
				return
			}
			f := s.one()
			assert.Equal(t, tc.want, f.Pattern)
			assert.Equal(t, finding.StateOpen, f.State)
			assert.Zero(t, f.Impact.FailedRequests)
			if tc.want != "unit-failed" {
				return
			}
			assert.Equal(t, backup, f.RootCause.Entity.Name)
			assert.Contains(t, f.Summary, "no request was seen to be hurt")
			s.unit(backup, service{pid: 62}, "activated", nil)
			s.wait(2 * time.Second)
			assert.Equal(t, finding.StateMended, s.one().State)
		})
	}
}

// notCreated hands over what the kubelet tells of a pod whose sandbox it cannot create.
func (s *scenario) notCreated(pod, deployment string) {
	resource := map[string]any{event.KeyNamespaceName: "shop", event.KeyPodName: pod, event.KeyDeploymentName: deployment, event.KeyNodeName: "node1", event.KeyServiceName: deployment}
	s.about(event.K8sEvent, map[string]any{event.KeyK8sEventReason: "FailedCreatePodSandBox"}, resource)
	s.about(event.K8sPodNotReady, nil, resource)
}

// TestRuntimeFailsBeforeItIsMissed: containerd fails, and payment, which does not need it
// to go on, ends later. What makes it last is that no pod can be made in its place.
func TestRuntimeFailsBeforeItIsMissed(t *testing.T) {
	for name, tc := range map[string]struct {
		want []string // patterns of all findings
		play func(*scenario)
	}{
		"its pod is tried again after it was missed": {[]string{"container-runtime-down"}, func(s *scenario) {
			s.refusals(5, "u")
			s.notCreated("payment-2", "payment")
			s.refusals(10, "u")
		}},
		"before it was missed, and again": {[]string{"container-runtime-down"}, func(s *scenario) {
			s.notCreated("payment-2", "payment")
			s.healthy(5 * time.Second)
			s.refusals(5, "u")
			s.notCreated("payment-2", "payment")
			s.refusals(10, "u")
		}},
		"a pod of another one is tried": {[]string{"connection-refused", "container-runtime-down"}, func(s *scenario) {
			s.refusals(5, "u")
			s.notCreated("mail-2", "mail")
			s.refusals(10, "u")
		}},
		"it was well again before its pod was tried": {[]string{"connection-refused", "container-runtime-down"}, func(s *scenario) {
			s.refusals(15, "u")
			s.healthy(5 * time.Second)
			s.notCreated("payment-2", "payment")
			s.wait(5 * time.Second)
		}},
		"nobody tries": {[]string{"connection-refused", "container-runtime-down"}, func(s *scenario) {
			s.refusals(15, "u")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.healthy(5 * time.Second)
			s.unit("containerd.service", service{pid: 70}, "failed", failed3)
			s.healthy(10 * time.Second)
			tc.play(s)
			s.wait(5 * time.Second)
			var found []string
			for _, f := range s.latest() {
				if f.State == finding.StateWithdrawn {
					continue
				}
				found = append(found, f.Pattern)
				if len(tc.want) == 1 {
					assert.EqualValues(t, 15, f.Impact.FailedRequests)
					assertComplete(t, f)
				}
			}
			slices.Sort(found)
			assert.Equal(t, tc.want, found)
		})
	}
}

// TestNodeServiceLoops: systemd restarts the kubelet again and again, as the unit that
// kubeadm installs asks for: it is down all the same. Another unit's loop is its own.
func TestNodeServiceLoops(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(time.Second)
	units := []string{"kubelet.service", "other.service"}
	for _, unit := range units {
		s.unit(unit, service{}, "failed", failed3)
	}
	for _, count := range []int{1, 2, 4, 8} {
		s.wait(time.Second)
		for _, unit := range units {
			s.unit(unit, service{}, "restarting", map[string]any{"tapio.systemd.restart.count": count})
		}
	}
	s.unit("kubelet.service", service{}, "start_limit_hit", map[string]any{event.KeyErrorType: "start-limit-hit"})
	s.wait(5 * time.Second)
	all := s.latest()
	slices.SortFunc(all, func(a, b *finding.Finding) int { return strings.Compare(a.Pattern, b.Pattern) })
	require.Len(t, all, 2)
	assert.Equal(t, "kubelet-down", all[0].Pattern)
	assert.Equal(t, "node1", all[0].RootCause.Entity.Name)
	assert.Equal(t, "unit-restart-loop", all[1].Pattern)
	assert.Equal(t, "other.service", all[1].RootCause.Entity.Name)
}

// TestNodeServiceIsBack: a service of the node that runs again is down no longer, and another
// unit of the node that is started says nothing of it.
func TestNodeServiceIsBack(t *testing.T) {
	for unit, want := range map[string]string{
		"kubelet.service": "kubelet-down", "containerd.service": "container-runtime-down", "kube-proxy.service": "kube-proxy-down",
		"kube-scheduler.service": "scheduler-down", "etcd.service": "control-plane-down",
	} {
		for _, how := range []string{"failed", "deactivated"} {
			t.Run(unit+" "+how, func(t *testing.T) {
				t.Parallel()
				s := newScenario(t)
				s.healthy(time.Second)
				s.unit(unit, service{pid: 70}, how, nil)
				s.wait(5 * time.Second)
				s.unit("other.service", service{pid: 71}, "activated", nil)
				s.wait(5 * time.Second)
				assert.Equal(t, finding.StateOpen, s.one().State)
				s.unit(unit, service{pid: 72}, "activated", nil)
				s.wait(5 * time.Second)
				f := s.one()
				assert.Equal(t, want, f.Pattern)
				assert.Equal(t, finding.StateMended, f.State)
				s.wait(2 * time.Minute)
				assert.Equal(t, finding.StateResolved, s.one().State)
				s.unit(unit, service{pid: 72}, "failed", failed3)
				s.wait(5 * time.Second)
				require.Len(t, s.latest(), 2, "that it is down again is another finding")
				assert.Equal(t, finding.StateOpen, s.latest()[1].State)
			})
		}
	}
}

// TestNodeThatMissesSeveral: callers of two of its services fail while a node is away.
// Nothing says why before it comes up again; then there is one finding, and the other
// is withdrawn.
func TestNodeThatMissesSeveral(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(5 * time.Second)
	for range 10 {
		s.send(order{"u", 10, &call{from: load, to: storefront, took: time.Millisecond, err: refusedAt(storefront)}})
		s.wait(100 * time.Millisecond)
	}
	s.refusals(10, "u")
	s.wait(2 * time.Second)
	require.Len(t, s.latest(), 2, "as far as anybody can know")
	s.system("boot_completed", nil)
	s.wait(5 * time.Second)
	left := slices.DeleteFunc(s.latest(), func(f *finding.Finding) bool { return f.State == finding.StateWithdrawn })
	require.Len(t, left, 1)
	assert.Equal(t, "node-restarted", left[0].Pattern)
	assert.Equal(t, "node1", left[0].RootCause.Entity.Name)
	assert.EqualValues(t, 20, left[0].Impact.FailedRequests, "all are counted once")
	assertComplete(t, left[0])
}

// TestRedeliveredEventCountsOnce: after a crash the collector hands on the last batch
// of the journal again. What is told twice, with the same log.record.uid, has
// happened once.
func TestRedeliveredEventCountsOnce(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(5 * time.Second)
	attrs := map[string]any{event.KeyErrorType: "exit-code", "log.record.uid": "s=1;i=2a"}
	happened := s.clock
	s.unitAt(happened, "payments.service", payment, "failed", attrs)
	s.refusals(10, "u")
	s.unitAt(happened, "payments.service", payment, "failed", attrs)
	s.refusals(10, "u")
	s.wait(5 * time.Second)
	f := s.one()
	assert.Equal(t, "unit-failed", f.Pattern)
	assert.EqualValues(t, 1, f.Chain[0].Count)
	attrs["log.record.uid"] = "s=1;i=2b"
	s.unitAt(happened, "payments.service", payment, "failed", attrs)
	s.wait(5 * time.Second)
	assert.EqualValues(t, 2, s.one().Chain[0].Count, "another entry is another failure")
}

// TestUnitFailsAnew: a unit that failed was mended, and a bad release of it is rolled out
// while the finding is still open: systemd stops it, starts it, it fails again and is given
// up. The new failure is not the old one's, nor the stop's.
func TestUnitFailsAnew(t *testing.T) {
	const payments = "payments.service"
	exit78 := map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 78}
	limit := map[string]any{"tapio.systemd.unit.restarts": 5, event.KeyErrorType: "start-limit-hit"}
	anew := func(s *scenario) { // what a rollout does
		s.unit(payments, payment, "deactivated", nil)
		s.refusals(2, "u")
		s.unit(payments, payment, "activated", nil)
	}
	for name, tc := range map[string]struct {
		before bool // it had failed, and was mended
		play   func(*scenario)
		want   []string // patterns and failed requests of all findings
	}{
		"after it had failed, and was mended": {true, func(s *scenario) {
			anew(s)
			s.wait(300 * time.Millisecond)
			s.unit(payments, payment, "failed", exit78)
			s.refusals(20, "u")
			s.unit(payments, service{}, "start_limit_hit", limit)
			s.refusals(10, "u")
		}, []string{"unit-failed: 10", "unit-start-limit: 30", "unit-stopped: 2"}},
		"well for so long that it was resolved": {true, func(s *scenario) {
			s.healthy(3 * time.Minute)
			s.unit(payments, payment, "failed", map[string]any{event.KeyErrorType: "signal"})
			s.refusals(5, "u")
			s.unit(payments, service{}, "start_limit_hit", limit)
			s.refusals(5, "u")
		}, []string{"unit-failed: 10", "unit-start-limit: 10"}},
		"well for so long, and fails as before": {true, func(s *scenario) {
			s.healthy(3 * time.Minute)
			s.unit(payments, payment, "failed", failed3)
			s.refusals(20, "u")
		}, []string{"unit-failed: 10", "unit-failed: 20"}},
		"killed once, and well for less than it takes to settle": {false, func(s *scenario) {
			s.unit(payments, payment, "failed", map[string]any{event.KeyErrorType: "signal"})
			s.refusals(5, "u")
			s.wait(time.Second)
			s.unit(payments, payment, "activated", map[string]any{"tapio.systemd.unit.restarts": 1})
			s.healthy(28 * time.Second)
			anew(s)
			s.wait(300 * time.Millisecond)
			s.unit(payments, payment, "failed", exit78)
			s.refusals(20, "u")
			s.unit(payments, service{}, "start_limit_hit", limit)
			s.refusals(10, "u")
		}, []string{"unit-failed: 5", "unit-start-limit: 30", "unit-stopped: 2"}},
		"stopped while it fails, and started in vain: one that goes on": {false, func(s *scenario) {
			s.unit(payments, payment, "failed", exit78)
			s.refusals(5, "u")
			s.unit(payments, payment, "deactivated", nil)
			s.refusals(5, "u")
			s.unit(payments, payment, "activated", nil)
			s.wait(300 * time.Millisecond)
			s.unit(payments, payment, "failed", exit78)
			s.refusals(20, "u")
		}, []string{"unit-failed: 30"}},
		"after it ran well": {false, func(s *scenario) {
			anew(s)
			s.wait(300 * time.Millisecond)
			s.unit(payments, payment, "failed", exit78)
			s.refusals(20, "u")
		}, []string{"unit-failed: 20", "unit-stopped: 2"}},
		"and its start is told last": {false, func(s *scenario) {
			s.unit(payments, payment, "deactivated", nil)
			s.refusals(2, "u")
			started := s.clock
			s.wait(300 * time.Millisecond)
			s.unit(payments, payment, "failed", exit78)
			s.unitAt(started, payments, payment, "activated", nil)
			s.refusals(20, "u")
		}, []string{"unit-failed: 20", "unit-stopped: 2"}},
		"nothing fails anew: it takes its time to start": {false, func(s *scenario) {
			anew(s)
			s.refusals(20, "u")
		}, []string{"unit-stopped: 22"}},
		"it fails as before": {true, func(s *scenario) {
			s.unit(payments, payment, "failed", failed3)
			s.refusals(20, "u")
		}, []string{"unit-failed: 10", "unit-failed: 20"}},
		"its executable is not there": {true, func(s *scenario) {
			anew(s)
			s.wait(time.Millisecond)
			s.unit(payments, service{}, "exec_failed", nil)
			s.unit(payments, payment, "failed", map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 203})
			s.refusals(20, "u")
		}, []string{"unit-failed: 10", "unit-failed: 20", "unit-stopped: 2"}},
		"somebody stops it": {true, func(s *scenario) {
			s.unit(payments, payment, "deactivated", nil)
			s.refusals(20, "u")
		}, []string{"unit-failed: 10", "unit-stopped: 20"}},
		"it is started in vain several times: one that goes on": {true, func(s *scenario) {
			s.unit(payments, payment, "failed", exit78)
			s.refusals(5, "u")
			for range 3 {
				s.unit(payments, payment, "activated", nil)
				s.wait(300 * time.Millisecond)
				s.unit(payments, payment, "failed", exit78)
				s.refusals(5, "u")
			}
		}, []string{"unit-failed: 10", "unit-failed: 20"}},
		"systemd restarts it after each crash: one that goes on": {false, func(s *scenario) {
			for n := range 3 {
				s.unit(payments, payment, "failed", exit78)
				s.refusals(5, "u")
				s.unit(payments, payment, "activated", map[string]any{"tapio.systemd.unit.restarts": n + 1})
				s.healthy(20 * time.Second)
			}
		}, []string{"unit-failed: 15"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.healthy(5 * time.Second)
			if tc.before {
				s.unit(payments, payment, "failed", failed3)
				s.refusals(10, "u")
				s.wait(time.Second)
				s.unit(payments, payment, "activated", nil)
				s.healthy(20 * time.Second)
			}
			tc.play(s)
			s.wait(5 * time.Second)
			var found []string
			for _, f := range s.latest() {
				if f.State != finding.StateWithdrawn {
					found = append(found, fmt.Sprintf("%s: %d", f.Pattern, f.Impact.FailedRequests))
					assertComplete(t, f)
				}
			}
			slices.Sort(found)
			assert.Equal(t, tc.want, found)
		})
	}
}

// TestUnitWithoutItsExecutable: what systemd says of an executable that cannot be run is
// in the chain of the unit's failure.
func TestUnitWithoutItsExecutable(t *testing.T) {
	t.Parallel()
	s := newScenario(t)
	s.healthy(5 * time.Second)
	s.unit("payments.service", payment, "exec_failed", map[string]any{event.KeyErrorType: "no such file or directory"})
	s.wait(3 * time.Millisecond)
	s.unit("payments.service", payment, "failed", map[string]any{event.KeyErrorType: "exit-code", event.KeyProcessExitCode: 203})
	s.refusals(10, "u")
	s.wait(5 * time.Second)
	f := s.one()
	assert.Equal(t, "unit-failed", f.Pattern)
	assert.True(t, slices.ContainsFunc(f.Chain, func(l finding.Link) bool { return strings.Contains(l.Title+l.Detail, "exec_failed") }), "%+v", f.Chain)
	assertComplete(t, f)
}

// TestConfigurationBreaksAfterOthersFailed: calls of plugins that failed of something else,
// long before, or of another network are no effect of a configuration that breaks. What
// cannot be parsed is of no network, and no plugin is called by it.
func TestConfigurationBreaksAfterOthersFailed(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, called, broken string
		before                 time.Duration
		found                  int
	}{
		"of an address pool":          {"address_pool_exhausted", "pods", "pods", 5 * time.Second, 0},
		"long before":                 {"plugin_failed", "pods", "pods", 47 * time.Second, 0},
		"just before":                 {"plugin_failed", "pods", "pods", 5 * time.Second, 1},
		"of another network":          {"plugin_failed", "pods-2", "pods", 5 * time.Second, 0},
		"of a network, it is no JSON": {"plugin_failed", "pods", "", 5 * time.Second, 0},
		"no plugin was called":        {"plugin_failed", "", "", 5 * time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t)
			s.healthy(time.Second)
			of := func(network string, attrs map[string]any) map[string]any {
				if network != "" {
					attrs[event.KeyCNINetwork] = network
				}
				return attrs
			}
			s.about("tapio.cni.operation", of(tc.called, map[string]any{event.KeyErrorType: tc.reason}), nil)
			s.wait(tc.before)
			s.about("tapio.cni.config.invalid", of(tc.broken, map[string]any{event.KeyErrorType: "schema", event.KeyCNIConfigInUse: true}), nil)
			s.wait(5 * time.Second)
			assert.Len(t, s.latest(), tc.found)
		})
	}
}
