package kmsg

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// saying are lines in which the kernel names a process (%s), as it prints them, and the
// event that each is; in all of them the process has the number 77.
var saying = []struct{ format, event string }{
	{"%s[77]: segfault at 8 ip 0000000000401136 sp 00007ffe8c1 error 6 in crash[401000+1000] likely on CPU 1 (core 1, socket 0)", "tapio.kernel.segfault"},
	{"%s[77]: segfault at 8 ip 0000000000401136 sp 00007ffe8c1 error 15", "tapio.kernel.segfault"},
	{"traps: %s[77] trap invalid opcode ip:55f0 sp:7ffd error:0 in chrome[55f00+1000]", "tapio.kernel.segfault"},
	{"traps: %s[77] general protection fault ip:7f1c2 sp:7ffc1 error:0 in libphp.so[7f1c00+400000]", "tapio.kernel.segfault"},
	{"Out of memory: Killed process 77 (%s) total-vm:1kB, anon-rss:1kB, file-rss:1kB, shmem-rss:1kB, UID:1000 pgtables:1kB oom_score_adj:300", "tapio.oom.kill"},
	{"Memory cgroup out of memory: Killed process 77 (%s) total-vm:1kB, anon-rss:1kB, file-rss:1kB, shmem-rss:1kB, UID:1000 pgtables:1kB oom_score_adj:300", "tapio.oom.kill"},
	{"watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [%s:77]", "tapio.kernel.soft_lockup"},
	{"INFO: task %s:77 blocked for more than 120 seconds.", "tapio.kernel.hung_task"},
	{"%s: page allocation failure: order:4, mode:0x40dc0(GFP_KERNEL|__GFP_COMP|__GFP_ZERO), nodemask=(null),cpuset=/,mems_allowed=0", "tapio.kernel.page_allocation_failed"},
	{"BUG: Bad page state in process %s  pfn:12345", "tapio.kernel.oops"},
	{"WARNING: kernel/sched/core.c:8511 at sched_init+0x20/0x410, CPU#3: %s/77", "tapio.kernel.warning"},
	{"oom_reaper: reaped process 77 (%s), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB", ""},
	{"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=%s,pid=77,uid=0", ""},
	{"[     77]     0    77      701      338    69632        0             0 %s", ""},
	{"[4194304] 65534 4194304      701      338    69632        0             0 %s", ""},
	{"%s invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0", ""},
	{"%s: vmalloc error: size 4096, page order 0, failed to allocate pages, mode:0xcc0(GFP_KERNEL), nodemask=(null)", ""},
	{"%s: potentially unexpected fatal signal 11.", ""},
	{"%s[77]: unhandled signal 11 code 0x1 at 0x0000000000000000 in crash[401000+1000]", ""},
	{"%s[77]: unhandled exception: DABT (lower EL), ESR 0x0000000092000046, level 2 translation fault in crash[400000+1000]", ""},
	{"%s[77] bad frame in rt_sigreturn frame:00007ffd ip:401136 sp:7ffe8c1 orax:ffffffffffffffff in crash[401000+1000]", ""},
	{"%s[77] vsyscall attempted with vsyscall=none ip:ffffffffff600000 cs:33 sp:7ffe8c1 ax:0 si:0 di:0", ""},
	{"%s (77): drop_caches: 3", ""},
	{"%s (77) used greatest stack depth: 11000 bytes left", ""},
	{"%s (77) uses deprecated remap_file_pages() syscall. See Documentation/mm/remap_file_pages.rst.", ""},
	{"warning: `%s' uses 32-bit capabilities (legacy support in use)", ""},
	{"process '%s' started with executable stack", ""},
	{"CPU: 1 UID: 0 PID: 77 Comm: %s Not tainted 6.18.0 #1 PREEMPT(none)", ""},
	{"task:%s          state:D stack:0     pid:77    tgid:77    ppid:1      task_flags:0x400000 flags:0x00004002", ""},
	{"audit: type=1701 audit(1790000000.100:33): auid=0 uid=0 gid=0 ses=1 pid=77 comm=\"%s\" exe=\"/bin/x\" sig=11 res=1", ""},
}

// told says what is wrong with the event of a line about a process with a name; empty if
// it is the same as of one with a harmless name.
func told(rules Rules, format, event, name string) string {
	line := fmt.Sprintf(format, name)
	ev, _ := rules.Match(line)
	if ev.Name != event {
		return fmt.Sprintf("%q is %q", line, ev.Name)
	}
	for _, a := range ev.Attributes {
		if a.Key == "process.pid" && a.Int != 77 {
			return fmt.Sprintf("%q is of process %d", line, a.Int)
		}
	}
	return ""
}

// names are all that fits into a process's name of the lines that rules know, of the
// words that rules look for, and of the lines that have a name.
func names(t *testing.T, rules Rules) []string {
	t.Helper()
	texts := []string{"", "x", "a\nb", "\xff\xfe", "[1]: segfault a", "1 blocked for:1", ") total-vm", "Oops: 0000 [#1]", "EDAC MC0: 1 CE ", "ata1: SError: {", "eth0: Link down", "a: Link up,1Mbp", "NVRM: Xid (PCI:", "WARNING: PID: 1"}
	for _, c := range readLines(t) {
		texts = append(texts, c.Line)
	}
	for i := range rules {
		texts = append(texts, rules[i].Contains)
	}
	for _, s := range saying {
		texts = append(texts, fmt.Sprintf(s.format, "x"))
	}
	var out []string
	for _, text := range texts {
		for at := 0; at == 0 || at < len(text); at++ {
			out = append(out, text[at:min(at+15, len(text))])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Whatever a process calls itself: the line is what it is, and of the process that it is of.
func TestNamesOfProcesses(t *testing.T) {
	rules := BuiltIn()
	for _, name := range names(t, rules) {
		for _, s := range saying {
			if wrong := told(rules, s.format, s.event, name); wrong != "" {
				t.Error(wrong)
			}
		}
	}
}

func FuzzNameOfProcess(f *testing.F) {
	rules := BuiltIn()
	for _, name := range []string{"x", "Oops: disk dead", "BUG: Bad page", "Oops: 0000 [#1]", "a[1]: segfault ", "traps: a[1]"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		name, _, _ = strings.Cut(name[:min(len(name), 15)], "\x00")
		for _, s := range saying {
			if wrong := told(rules, s.format, s.event, name); wrong != "" {
				t.Error(wrong)
			}
		}
	})
}

// Names of files and cgroups are longer, and stand where the kernel has begun the line.
func TestNamesOfFilesAndCgroups(t *testing.T) {
	rules := BuiltIn()
	said := "segfault at 0 ip 1 sp 2 error 4"
	for _, c := range readLines(t) {
		for format, event := range map[string]string{
			"crash[77]: " + said + " in %s[401000+1000]":                                      "tapio.kernel.segfault",
			"traps: crash[77] trap int3 ip:1 sp:2 error:0 in %s[401000+1000]":                 "tapio.kernel.segfault",
			"cgroup: fork rejected by pids controller in /a/%s":                               "tapio.kernel.fork_rejected",
			"oom-kill:constraint=CONSTRAINT_MEMCG,oom_memcg=/%s,task_memcg=/%s,task=x,pid=77": "",
			"Memory cgroup stats for /%s:":                                                    "",
			"Tasks in /%s are going to be killed due to memory.oom.group set":                 "",
			"process '%s' started with executable stack":                                      "",
			"process 'x' launched '%s' with NULL argv: empty string added":                    "",
			"process '/%s[1]: " + said + "' started with executable stack":                    "",
		} {
			line := strings.ReplaceAll(format, "%s", strings.ReplaceAll(c.Line, "/", "_"))
			ev, _ := rules.Match(line)
			assert.Equal(t, event, ev.Name, line)
		}
	}
	ev, _ := rules.Match("process 'x[1]: " + said + "' started with executable stack")
	assert.Empty(t, ev.Name)
	ev, _ = rules.Match("crash[77]: " + said + " in a[1]: " + said + "[401000+1000]")
	assert.Equal(t, map[string]any{"tapio.process.comm": "crash", "process.pid": 77, "tapio.kernel.object": "a[1]: " + said, "error.type": "segfault"}, attributesOf(ev))
}

// A user's rule need not be anchored to be safe from a name that begins the line.
func TestNamesOfProcessesBeforeRulesOfUsers(t *testing.T) {
	rules, err := ParseRules([]byte(`
rules:
- {event: acme.dead, severity: fatal, contains: "acme: dead"}
- {event: acme.crash, severity: warn, contains: "segfault", pattern: '\[(?P<pid>\d+)\]: segfault', attributes: {process.pid: int(pid)}}`))
	assert.NoError(t, err)
	for _, name := range []string{"acme: dead", "a[1]"} {
		ev, _ := rules.Match(name + "[77]: segfault at 8 ip 1 sp 2 error 6 in acme: dead[1+1]")
		assert.Equal(t, "acme.crash", ev.Name)
	}
	ev, _ := rules.Match("acme: dead")
	assert.Equal(t, "acme.dead", ev.Name)
}
