package kernels

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	qemu    = "qemu-system-x86_64"
	busybox = "busybox"
	// bootTime is far above what a busy machine without acceleration takes.
	bootTime = 15 * time.Minute
	// silence is how long a guest may say nothing: far above what its slowest test takes.
	silence = 4 * time.Minute
	// testsEnv names other tests of the receiver to run, as a regular expression.
	testsEnv = "TAPIO_KERNEL_TESTS"
)

// machines are what is booted. Debian's 6.12 has no memory controller for v1.
var machines = []machine{
	{"linux-image-cloud-amd64", "v1"},
	{"linux-image-cloud-amd64", "v2"},
	{"linux-image-6.12-cloud-amd64", "v2"},
}

// machine is a kernel, by a meta package of Debian 12, and its cgroup version.
type machine struct{ metaPackage, cgroup string }

// packages are the directories whose tests run there.
var packages = []string{"bpf", "receiver/cnireceiver/internal/plugins", "receiver/ebpfreceiver"}

// tests are those of tapio_ebpf that run there, of the other packages all.
var tests = []string{
	// process and forks
	"TestProcessThatExitsWithACode", "TestProcessKilledBySignal", "TestWhoSentASignal", "TestProcessWhoseFirstThreadEndsFirst",
	"TestProcessInAPIDNamespace", "TestCommandLine", "TestEnvironmentInTheKernel", "TestNamesThatDoNotFit",
	// memory, with direct reclaim of a cgroup
	"TestMemoryOfThisProcess", "TestOOMKillInMemoryCgroup", "TestOOMKillOfAChild",
	// syscalls
	"TestSystemCallsThatRunOut",
	// network: connections, names, drops
	"TestConnectionRefused", "TestIPv4AddressOnIPv6Socket", "TestConnectionTimedOut", "TestUnreachable", "TestWhoListens", "TestReset",
	"TestRetransmit", "TestListenQueueOverflows", "TestConnectionsAreCounted",
	"TestLookupsThatFail", "TestLookupsOverTCP", "TestPacketsDropped", "TestDropsKnowTheProcess",
	// disk
	"TestBlockDeviceThatFails",
	// scheduler
	"TestCPUThrottling",
	// http
	"TestTraceOfInstrumentation", "TestTraceOfExit", "TestTraceOfOOMKill",
	// the kernel's log, and what the kernel can do
	"TestMessageOfTheKernel", "TestSupport", "TestOneProgramFailsAlone",
}

// chosen is the regular expression of the tests of a package that run there.
func chosen(name string) string {
	if name != "ebpfreceiver" {
		return "."
	}
	return cmp.Or(os.Getenv(testsEnv), "^("+strings.Join(tests, "|")+")$")
}

// modules of the kernel that those tests need.
var modules = []string{"loop", "veth", "sch_netem"}

// files are what programs expect below /etc.
var files = map[string]string{
	"etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
	"etc/nsswitch.conf": "hosts: files dns\n",
	"etc/resolv.conf":   "",
	"etc/passwd":        "root:x:0:0::/tmp:/bin/sh\n",
}

// hostFiles are copied from this machine when they are there: getent, a resolver
// of names by glibc.
var hostFiles = []string{"/usr/bin/getent", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"}

// unexercised are programs that no test makes run, and why: whoever takes all memory of a
// guest has the OOM killer in it, which may end the tests too; in a cgroup the reclaim is
// the cgroup's.
var unexercised = map[string]string{
	"direct_reclaim_begin": "the whole machine would have to run short of memory",
	"direct_reclaim_end":   "the whole machine would have to run short of memory",
}

// lacking are tests that skip on kernels whose name begins so, and what those lack; all
// others have to run.
var lacking = map[string]struct{ kernel, what string }{
	"TestDropsKnowTheProcess": {"6.1.", "the kernel says for which socket a packet was only from 6.12 on"},
}

// result is what one machine told.
type result struct {
	name                    string
	programs                map[string]programResult
	passed, skipped, failed []string
}

// programResult is what a program did in all tests of a machine.
type programResult struct {
	runs   uint64
	failed string // why it did not load or attach
}

func (p programResult) String() string {
	switch {
	case p.failed != "":
		return "FAILED"
	case p.runs == 0:
		return "never ran"
	default:
		return fmt.Sprintf("ran %d", p.runs)
	}
}

func TestMatrix(t *testing.T) {
	requireTools(t)
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	built := buildTests(t, root)

	results := make([]*result, len(machines))
	t.Run("machines", func(t *testing.T) { // returns when all of them have ended
		for i, m := range machines {
			k, err := fetch(m.metaPackage, filepath.Join(cache, "tapio", "kernels"))
			require.NoError(t, err)
			name := k.release + " cgroup " + m.cgroup
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				log, runs := boot(t, makeInitrd(t, k, built), k, m)
				results[i] = readResult(t, name, log, runs)
				check(t, results[i], log)
			})
		}
	})
	t.Log("\n" + table(slices.DeleteFunc(results, func(r *result) bool { return r == nil })))
}

func requireTools(t *testing.T) {
	t.Helper()
	var missing []string
	for _, tool := range []string{qemu, busybox, "apt-get", "apt-cache", "dpkg"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if runtime.GOARCH != "amd64" {
		missing = append(missing, "an amd64 machine")
	}
	switch {
	case missing == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("missing: %s; make deps installs what Debian has", strings.Join(missing, ", "))
	default:
		t.Skipf("missing: %s; make deps installs what Debian has", strings.Join(missing, ", "))
	}
}

// builtTest is a test binary and where its package is.
type builtTest struct{ binary, source string }

// buildTests compiles the tests and the first process for a machine without
// libraries.
func buildTests(t *testing.T, root string) map[string]builtTest {
	t.Helper()
	dir := t.TempDir()
	build := func(in string, args ...string) {
		cmd := exec.Command("go", args...)
		cmd.Dir = in
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	built := map[string]builtTest{"init": {binary: filepath.Join(dir, "init")}}
	build(".", "build", "-o", built["init"].binary, "./guest")
	for _, p := range packages {
		name := filepath.Base(p)
		built[name] = builtTest{filepath.Join(dir, name+".test"), filepath.Join(root, p)}
		build(root, "test", "-c", "-ldflags=-s -w", "-o", built[name].binary, "./"+p)
	}
	return built
}

func makeInitrd(t *testing.T, k *kernel, built map[string]builtTest) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "initrd")
	i, err := createInitrd(path)
	require.NoError(t, err)
	for _, dir := range []string{"bin", "dev", "proc", "sys", "tmp", "run", "etc", "tests", "modules", "usr", "usr/bin", "lib", "lib/x86_64-linux-gnu", "lib64"} {
		i.dir(dir)
	}
	for name, content := range files {
		i.add(name, []byte(content))
	}
	for _, file := range hostFiles {
		if _, err := os.Stat(file); err == nil {
			i.addFile(file[1:], file)
		}
	}
	tool, err := exec.LookPath(busybox)
	require.NoError(t, err)
	i.addFile("bin/busybox", tool)
	loaded, err := k.load(modules, map[string]bool{})
	require.NoError(t, err)
	for n, m := range loaded {
		i.add(fmt.Sprintf("modules/%02d-%s", n, m.name), m.content)
	}
	for name, b := range built {
		if name == "init" {
			i.addFile("init", b.binary)
			continue
		}
		i.addTree("tests/"+name, b.source)
		i.addFile("tests/"+name+"/"+name+".test", b.binary)
		i.add("tests/"+name+"/tests", []byte(chosen(name)))
	}
	require.NoError(t, i.close())
	return path
}

// boot runs a machine until it turns itself off. It returns what was on its
// console and at its second serial port.
func boot(t *testing.T, initrd string, k *kernel, m machine) (log, results []byte) {
	t.Helper()
	dir := t.TempDir()
	console, port := filepath.Join(dir, "console"), filepath.Join(dir, "results")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go watch(ctx, console, cancel)
	begin := time.Now()
	cmd := exec.CommandContext(ctx, qemu, "-M", "pc", "-cpu", "max", "-accel", "tcg,thread=multi", "-m", "1536",
		// One CPU: emulated ones do not always see at once what another wrote into the
		// kernel's code, which it does when a tracepoint goes on or off.
		"-smp", "1", "-display", "none", "-no-reboot", "-nodefaults", "-net", "none", "-serial", "file:"+console, "-serial", "file:"+port,
		"-kernel", k.image, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tapio.cgroup="+m.cgroup)
	out, err := cmd.CombinedOutput()
	t.Logf("%s: %s", k.release, time.Since(begin).Round(time.Second))
	log, readErr := os.ReadFile(console)
	require.NoError(t, readErr, string(out))
	require.NoError(t, cmp.Or(context.Cause(ctx), err), "%s\nlast of the console:\n%s", out, tail(log, 50))
	results, err = os.ReadFile(port)
	require.NoError(t, err)
	return log, results
}

// watch ends a guest that hangs.
func watch(ctx context.Context, console string, end context.CancelCauseFunc) {
	begin := time.Now()
	said, size := begin, int64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		if info, err := os.Stat(console); err == nil && info.Size() > size {
			said, size = time.Now(), info.Size()
		}
		switch {
		case time.Since(said) > silence:
			end(fmt.Errorf("the guest hangs: it said nothing for %s", silence))
		case time.Since(begin) > bootTime:
			end(fmt.Errorf("the guest is not done after %s", bootTime))
		}
	}
}

var testResult = regexp.MustCompile(`^--- (PASS|SKIP|FAIL): (\S+)`)

func readResult(t *testing.T, name string, log, runs []byte) *result {
	t.Helper()
	r := &result{name: name, programs: map[string]programResult{}}
	for line := range bytes.Lines(log) {
		found := testResult.FindSubmatch(line)
		if found == nil {
			continue
		}
		test := string(found[2])
		switch string(found[1]) {
		case "PASS":
			r.passed = append(r.passed, test)
		case "SKIP":
			r.skipped = append(r.skipped, test)
		default:
			r.failed = append(r.failed, test)
		}
	}
	lines := bufio.NewScanner(bytes.NewReader(runs))
	for lines.Scan() {
		var ran struct {
			Program string
			Runs    uint64
			Failed  string
		}
		require.NoError(t, json.Unmarshal(lines.Bytes(), &ran), lines.Text())
		p := r.programs[ran.Program]
		p.runs += ran.Runs
		if ran.Failed != "" {
			p.failed = ran.Failed
		}
		r.programs[ran.Program] = p
	}
	return r
}

// check fails when a test failed there or a program did not do its work.
func check(t *testing.T, r *result, log []byte) {
	t.Helper()
	assert.NotEmpty(t, r.passed, "%s", tail(log, 50))
	assert.NotEmpty(t, r.programs)
	for name, p := range r.programs {
		assert.Empty(t, p.failed, "%s does not load or attach", name)
		if why := unexercised[name]; why == "" {
			assert.NotZero(t, p.runs, "%s loaded and never ran: nothing exercises it", name)
		} else if p.runs == 0 {
			t.Logf("%s loaded, attached and never ran: %s", name, why)
		}
	}
	if os.Getenv(testsEnv) == "" {
		assert.Empty(t, notRun(r), "did not run: skipped, no such tests, or the guest ended before them")
	}
	t.Logf("%d tests passed, %d skipped: %s", len(r.passed), len(r.skipped), strings.Join(r.skipped, ", "))
	if len(r.failed) > 0 || !bytes.Contains(log, []byte("=== END ebpfreceiver.test ok")) {
		t.Errorf("failed: %s\n%s", strings.Join(r.failed, ", "), log)
	}
}

// notRun are the tests that should have run and did not.
func notRun(r *result) (out []string) {
	for _, name := range tests {
		l, ran := lacking[name], slices.Concat(r.passed, r.failed)
		if !slices.Contains(ran, name) && (l.kernel == "" || !strings.HasPrefix(r.name, l.kernel)) {
			out = append(out, name)
		}
	}
	return out
}

func tail(text []byte, lines int) []byte {
	all := bytes.SplitAfter(text, []byte{'\n'})
	return bytes.Join(all[max(0, len(all)-lines):], nil)
}

// table shows programs by kernels.
func table(results []*result) string {
	names := map[string]bool{}
	header := []string{"program"}
	for _, r := range results {
		header = append(header, r.name)
		for name := range r.programs {
			names[name] = true
		}
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(header, "\t"))
	for _, name := range slices.Sorted(maps.Keys(names)) {
		row := []string{name}
		for _, r := range results {
			row = append(row, r.programs[name].String())
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
	for _, r := range results {
		for name, p := range r.programs {
			if p.failed != "" {
				fmt.Fprintf(&text, "%s: %s: %s\n", r.name, name, p.failed)
			}
		}
	}
	return text.String()
}

// TestASkipIsNoRun: a test that was skipped is one that did not run, unless the kernel lacks what it needs.
func TestASkipIsNoRun(t *testing.T) {
	for kernel, fails := range map[string]bool{"6.1.0-56-cloud-amd64 cgroup v1": false, "6.12.117-cloud-amd64 cgroup v2": true} {
		r := &result{name: kernel, passed: slices.DeleteFunc(slices.Clone(tests), func(name string) bool { return name == "TestDropsKnowTheProcess" }), skipped: []string{"TestDropsKnowTheProcess"}}
		assert.Equal(t, fails, len(notRun(r)) > 0, kernel)
	}
	assert.Equal(t, []string{"TestReset"}, notRun(&result{passed: slices.DeleteFunc(slices.Clone(tests), func(name string) bool { return name == "TestReset" }), skipped: []string{"TestReset"}}))
}
