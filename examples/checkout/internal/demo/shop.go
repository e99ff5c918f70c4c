package demo

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/yairfalse/tapio/examples/checkout/internal/load"
	"github.com/yairfalse/tapio/examples/checkout/internal/memlimit"
	"github.com/yairfalse/tapio/examples/checkout/internal/shop"
)

// startShop starts the services, each once the one that it calls is ready.
func (d *demo) startShop(ctx context.Context) error {
	a, err := freeAddresses(ctx, 3)
	if err != nil {
		return err
	}
	ledger, payment, storefront := a[0], a[1], a[2]
	if _, err := d.startService(ctx, shop.Ledger, ledger, nil); err != nil {
		return err
	}
	if err := d.startPayment(ctx, payment, "http://"+ledger); err != nil {
		return err
	}
	if _, err := d.startService(ctx, shop.Storefront, storefront, nil, "--payment-url", "http://"+payment); err != nil {
		return err
	}
	d.state.Storefront = "http://" + storefront
	return d.writeState()
}

func (d *demo) startPayment(ctx context.Context, address, ledgerURL string) error {
	version := d.paymentVersion()
	leak := memlimit.Bytes(0)
	if d.Fault == FaultLeak {
		leak = d.Leak
	}
	confine := d.limitPayment()
	p, err := d.startService(ctx, shop.Payment, address, confine,
		"--ledger-url", ledgerURL, "--version", version, "--leak", strconv.FormatInt(int64(leak), 10))
	if err != nil {
		return err
	}
	d.payment = p
	s := &d.state.Payment
	s.PID, s.Address, s.Version = p.pid(), address, version
	d.say("payment %s is process %d, limited to %s of memory (%s)", version, s.PID, memlimit.Bytes(s.LimitBytes), s.Limit)
	return nil
}

// limitPayment chooses how payment's memory is limited and returns the
// arguments of the helper command that does it.
func (d *demo) limitPayment() []string {
	s := &d.state.Payment
	parents, err := memlimit.FindParents("/")
	if err == nil {
		for _, dir := range memlimit.RemoveStale(parents) {
			d.say("removed %s, left by a run that was killed", dir)
		}
		d.cgroup, err = memlimit.Create(parents, d.MemoryLimit)
	}
	if err != nil {
		d.say("no memory cgroup here, so payment runs under RLIMIT_DATA: an allocation will fail where the kernel would have killed it (%v)", err)
		s.Limit, s.LimitBytes = "RLIMIT_DATA", int64(d.MemoryLimit)
		return []string{"confine", "--data-limit", strconv.FormatInt(int64(d.MemoryLimit), 10), "--"}
	}
	s.Limit, s.LimitBytes, s.Cgroup = fmt.Sprintf("cgroup v%d", d.cgroup.Version), d.cgroup.Limit, d.cgroup.Dir
	return []string{"confine", "--cgroup", d.cgroup.Dir, "--"}
}

// startService starts one of this program's own commands, behind the arguments
// of a helper command when confine has any, and waits until it answers.
func (d *demo) startService(ctx context.Context, name, address string, confine []string, args ...string) (*process, error) {
	argv := []string{d.self}
	if len(confine) > 0 {
		argv = append(append(argv, confine...), d.self)
	}
	argv = append(argv, name, "--listen", address)
	p, err := d.start(name, append(argv, args...), d.shopEnv())
	if err != nil {
		return nil, err
	}
	return p, waitReady(ctx, p, "http://"+address+"/healthz", serviceStart)
}

func (d *demo) startLoad() (*process, error) {
	argv := []string{
		d.self, "load", "--url", d.state.Storefront, "--report", d.file(ReportFile),
		"--rate", strconv.FormatFloat(d.Rate, 'f', -1, 64), "--users", strconv.Itoa(d.Users), "--duration", d.Duration.String(),
	}
	return d.start(load.ServiceName, argv, d.shopEnv())
}

func (d *demo) shopEnv() []string {
	return append(cleanEnviron(), "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+d.state.Collector.OTLPGRPC)
}

// start starts a process that cleanup stops.
func (d *demo) start(name string, argv, env []string) (*process, error) {
	p, err := d.launcher.start(name, argv, env, filepath.Join(d.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	d.started = append(d.started, p)
	d.state.PIDs[name] = p.pid()
	return p, d.writeState()
}

// self is the path of this program, to run its other commands.
func self() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("this program's own path: %w", err)
	}
	return path, nil
}
