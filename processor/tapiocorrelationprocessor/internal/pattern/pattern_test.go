package pattern

import (
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// typical are values as an engine fills them in, for every key that the library names.
func typical() *Values {
	return &Values{
		Service: "payment", Version: "v2.1.0", Entity: "payment v2.1.0 (process checkout, pid 42)", Caller: "storefront",
		Address: "10.0.0.7:8081", Failed: 37, Slow: 5, Since: "12:00:05.000 UTC",
		Attributes: map[string]any{
			"tapio.memory.cgroup": "/shop/payment", "tapio.memory.limit": int64(64 << 20), "tapio.memory.peak": int64(64 << 20),
			"tapio.memory.usage": int64(64 << 20), "tapio.oom.victim.rss": int64(60 << 20), "tapio.oom.scope": "cgroup",
			"tapio.process.exit.signal": int64(9), "tapio.process.exit.signal_name": "SIGKILL", "process.exit.code": int64(2),
			"process.pid": int64(42), "host.name": "node1", "tapio.operation": "POST /charge",
			"tapio.window.requests": int64(100), "tapio.calls.unanswered": int64(16), "tapio.calls.waited": "2s",
			"tapio.window.failed": int64(50), "tapio.window.slow": int64(40),
			"tapio.reference.requests": int64(1000), "tapio.reference.failed": int64(1), "tapio.reference.slow": int64(2),
			"tapio.slow.threshold": "25ms",
			"tapio.step":           "Order placed", "tapio.step.before": "Order checked", "tapio.herd.after": "a recovery", "tapio.peer": "storefront",
			"tapio.window.visits": int64(40), "tapio.window.with": int64(3), "tapio.reference.visits": int64(900),
			"tapio.reference.with": int64(899), "tapio.duration.limit": "40ms", "tapio.duration.median": "4ms",
			"tapio.duration.mean": "310ms", "tapio.score": 7.3,
			event.KeyMetricClass: "memory", event.KeyMetricInstance: "heap", event.KeyMetricUnit: "By",
			event.KeyMetricValue: 700e6, event.KeyMetricBefore: 300e6, event.KeyMetricLimit: 1000e6, event.KeyMetricETA: 480.0, event.KeyMetricLimitAt: "14:46 UTC", event.KeyDNSDuration: 2.1, event.KeyWorkloadRevision: "8", event.KeyMetricFactor: 12.0,
			"tapio.process.signal.origin": "user", "tapio.process.signal.name": "SIGTERM", "tapio.process.signal.sender.name": "kubelet",
			"k8s.namespace.name": "shop", "k8s.node.name": "node1", "k8s.container.name": "app", "k8s.service.name": "payment",
			"k8s.container.restart_count": int64(4), "k8s.resourcequota.name": "compute", "k8s.resourcequota.resource_name": "services",
			"k8s.node.condition.type": "Ready", "k8s.node.condition.status": "false", "k8s.persistentvolumeclaim.name": "data",
			"tapio.k8s.quota.hard": "10", "tapio.k8s.port": "8081", "tapio.k8s.ports.declared": []string{"8080", "8090"},
			"tapio.k8s.reference.name": "ledger", "tapio.k8s.reference.kind": "service", "tapio.k8s.reference.from": "env LEDGER_ADDR",
			"tapio.k8s.service.selector": "app=payment", "tapio.k8s.probe.budget": 2.0, "tapio.k8s.pod.node_selector": "disk=ssd",
			"tapio.k8s.claim.storage_class": "fast", "systemd.unit.name": "kubelet.service", "error.type": "exit_code", "dns.question.name": "payment.shop", "server.address": "10.96.0.10", KeyBody: "what it says",
			"tapio.systemd.unit.restarts": int64(5), "tapio.systemd.start_limit.burst": int64(5),
			"tapio.systemd.unit.command": "ExecStartPre", "tapio.systemd.unit.status_text": "opening the database", "tapio.systemd.dependencies": []string{"postgresql.service"},
			"tapio.block.device": "sda", "tapio.block.operation": "READ", "tapio.block.requests.usual": 150.0,
			"tapio.memory.time_to_limit": 450.0, "tapio.memory.used_share": 0.775, "tapio.memory.rss": int64(300 << 20), "tapio.memory.growth": int64(60 << 20), "tapio.cpu.limit": 0.5,
			"tapio.block.busiest.cgroup":      "/system.slice/backup.service",
			"tapio.process.signal.sender.pid": int64(77), "tapio.process.signal.sender.unit": "kubelet.service",
			"tapio.cni.network": "pods", "tapio.cni.pool.used": int64(253), "tapio.cni.pool.size": int64(253), "tapio.cni.pool.leaked": int64(41),
			"file.path": "/etc/cni/net.d/10-pods.conflist", "tapio.cni.config.line": int64(3), "tapio.cni.reason": "unexpected end of JSON input",
			"tapio.cni.plugin": "bridge", "network.interface.name": "eth0", "tapio.cni.mtu": int64(1500), "tapio.cni.mtu.expected": int64(1400),
			"tapio.cni.conntrack.max": int64(65536), "tapio.cni.interface.state": "down", "tapio.cni.address": "10.88.0.7",
			"tapio.cni.other": "pod shop/ledger", "tapio.cni.route": "0.0.0.0/0",
			"tapio.system.shutdown.kind": "reboot", "tapio.syscall.name": "write",
		},
	}
}

// texts returns all that a pattern says with those values.
func (p *Pattern) allTexts(v *Values) []string {
	a := p.ActionsFor(v)
	out := append([]string{p.TitleFor(v), p.DescriptionFor(v)}, p.NotObservedFor(v)...)
	out = append(append(append(out, a.Immediate...), a.ShortTerm...), a.LongTerm...)
	for i := range p.Effects {
		if e := &p.Effects[i]; !e.Optional || e.Missing != "" {
			out = append(out, e.MissingFor(v))
		}
	}
	return out
}

func TestLibraryRendersEveryField(t *testing.T) {
	patterns, err := Library()
	require.NoError(t, err)
	attribute := regexp.MustCompile(`\{\{[^}]*(?:attr|bytes|has|raise) \\?"([^"\\]+)`)
	for _, p := range patterns {
		t.Run(p.ID, func(t *testing.T) {
			v := typical()
			v.Seen = map[string]*Seen{}
			for i := range p.Effects {
				if name := p.Effects[i].Event; name != "tapio.systemd.unit.exec_failed" { // which comes in place of other texts
					v.Seen[name] = NewSeen(0, &record.Detail{Body: "what it says", Attrs: []record.Attr{
						{Key: "tapio.systemd.unit.restarts", Value: int64(5)}, {Key: "tapio.systemd.restart.count", Value: int64(4)},
					}})
				}
			}
			for _, text := range p.allTexts(v) {
				assert.NotEmpty(t, text)
				for _, bad := range []string{"{{", "}}", "unknown", "<no value>", "<nil>", "template:", "  ", "%!"} {
					assert.NotContains(t, text, bad)
				}
			}
			b, err := library.ReadFile("library/" + p.ID + ".yaml")
			require.NoError(t, err, "a file has the name of its pattern")
			for _, m := range attribute.FindAllStringSubmatch(string(b), -1) {
				assert.Contains(t, v.Attributes, m[1], "a key that no engine fills in")
			}
			a := p.ActionsFor(v)
			assert.NotEmpty(t, a.Immediate)
			assert.NotEmpty(t, a.ShortTerm)
			assert.NotEmpty(t, a.LongTerm)
		})
	}
}

// Nothing is known but the service: no text is empty or ends in an error.
func TestLibraryRendersWithoutValues(t *testing.T) {
	patterns, err := Library()
	require.NoError(t, err)
	for _, p := range patterns {
		for _, text := range p.allTexts(&Values{Service: "payment", Attributes: map[string]any{}}) {
			assert.NotEmpty(t, text, p.ID)
			assert.NotContains(t, text, "template:", p.ID)
			assert.NotContains(t, text, "<", p.ID)
		}
	}
}

func TestActionsHaveTheNumbersOfTheCase(t *testing.T) {
	patterns, err := Library()
	require.NoError(t, err)
	for _, p := range patterns {
		if p.ID != "memory-limit-oom-kill" {
			continue
		}
		all := strings.Join(p.allTexts(typical()), "\n")
		for _, want := range []string{"64.0 MiB", "96.0 MiB", "51.2 MiB", "60.0 MiB", "37 requests", "v2.1.0", "/shop/payment"} {
			assert.Contains(t, all, want)
		}
		return
	}
	t.Fatal("no memory-limit-oom-kill")
}

const valid = `
id: x
title: "{{.Service}} broke"
description: "{{attr \"a\"}}"
cause: {event: e, layer: KERNEL, within: 5m, reliability: 0.9}
min_traces: 1
effects:
  - {event: f, layer: APP, relation: trace, within: 1m, weight: 1}
`

func TestParseValid(t *testing.T) {
	p, err := Parse([]byte(valid))
	require.NoError(t, err)
	assert.Equal(t, ScopeProcess, p.Cause.Scope, "the default")
	assert.Equal(t, "payment broke", p.TitleFor(typical()))
	assert.Equal(t, "unknown", p.DescriptionFor(&Values{}))
}

func TestParseNamesTheWrongKey(t *testing.T) {
	for want, change := range map[string][2]string{
		"id: missing":                                                                     {"id: x", "id: ''"},
		"title: missing":                                                                  {`"{{.Service}} broke"`, `""`},
		"description: missing":                                                            {`"{{attr \"a\"}}"`, `""`},
		"cause.event: missing":                                                            {"event: e,", "event: '',"},
		"cause.layer: missing":                                                            {"layer: KERNEL,", ""},
		"cause.within: 0s: want a duration above 0":                                       {"within: 5m", "within: 0s"},
		"cause.reliability: 1.5: want a number above 0":                                   {"reliability: 0.9", "reliability: 1.5"},
		"cause.reliability: 0: want a number above 0":                                     {"reliability: 0.9", "reliability: 0"},
		`cause.scope: "planet": want process, container or name`:                          {"reliability: 0.9", "reliability: 0.9, scope: planet"},
		"min_traces: 0: want at least 1, or alone: true":                                  {"min_traces: 1", "min_traces: 0"},
		"effects[0]: want event and layer":                                                {"event: f,", ""},
		`effects[0].relation: "love": want one of`:                                        {"relation: trace", "relation: love"},
		"effects[0].within: -1s: want a duration above 0":                                 {"within: 1m", "within: -1s"},
		"effects[0].weight: 0: want a number above 0":                                     {"weight: 1", "weight: 0"},
		"effects[0].workloads: 2: want 1 or more, of an effect that is required":          {"weight: 1", "weight: 1, workloads: 2"},
		"lasts: 1m0s: want a duration above 0, of a pattern that is harmful or not alone": {"title:", "alone: true\nlasts: 1m\ntitle:"},
		"lasts_where: want lasts, too":                                                    {"title:", "lasts_where: [{key: a, in: [1]}]\ntitle:"},
		"apart: 10s: want a duration above 0, of a pattern with until":                    {"title:", "apart: 10s\ntitle:"},
		"effects[0].unless: \"f\": want the event of another effect":                      {"weight: 1", "weight: 1, unless: f"},
		"effects: want at least one":                                                      {"effects:\n  - {event: f, layer: APP, relation: trace, within: 1m, weight: 1}", "effects: []"},
		"cause.where[0]: want key and exactly one of":                                     {"layer: KERNEL", "where: [{key: a}], layer: KERNEL"},
		"effects[0].where[0]: want key and exactly one of":                                {"layer: APP", "where: [{key: a, in: [1], not: [2]}], layer: APP"},
		"tilte: no such key; want one of [actions alone":                                  {"title:", "tilte:"},
		"can't evaluate field Servce":                                                     {".Service", ".Servce"},
		`function "atr" not defined`:                                                      {"attr", "atr"},
		"title":                                                                           {"{{.Service}}", "{{.Service"},
	} {
		t.Run(want, func(t *testing.T) {
			text := strings.Replace(valid, change[0], change[1], 1)
			require.NotEqual(t, valid, text)
			_, err := Parse([]byte(text))
			assert.ErrorContains(t, err, want)
		})
	}
}

func TestLoad(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	two := strings.Replace(valid, "id: x", "id: y", 1)
	ps, err := Load(fstest.MapFS{"d/b.yaml": file(valid), "d/a.yaml": file(two), "d/notes.txt": file("no pattern")}, "d")
	require.NoError(t, err)
	require.Len(t, ps, 2)
	assert.Equal(t, "y", ps[0].ID, "in the order of the files")

	for want, files := range map[string]fstest.MapFS{
		"no *.yaml file":                              {},
		"b.yaml: min_traces: 0":                       {"d/a.yaml": file(two), "d/b.yaml": file(strings.Replace(valid, "min_traces: 1", "", 1))},
		`b.yaml: id: "x" is already the id of a.yaml`: {"d/a.yaml": file(valid), "d/b.yaml": file(valid)},
		"a.yaml: line 1: no valid YAML: did not find": {"d/a.yaml": file("[")},
		"a.yaml: EOF":                                 {"d/a.yaml": file("")},
		"a.yaml: a second YAML document":              {"d/a.yaml": file(valid + "\n---\n" + two)},
	} {
		_, err := Load(files, "d")
		assert.ErrorContains(t, err, want)
	}
}

func TestConditions(t *testing.T) {
	yes, no := true, false
	d := &record.Detail{Attrs: []record.Attr{{Key: "n", Value: int64(9)}, {Key: "s", Value: "cgroup"}, {Key: "b", Value: true}, {Key: "f", Value: 0.5}}}
	for _, tc := range []struct {
		name  string
		c     Condition
		holds bool
	}{
		{"in, a number of another type", Condition{Key: "n", In: []any{1, 9}}, true},
		{"in, a text", Condition{Key: "s", In: []any{"node", "cgroup"}}, true},
		{"in, not listed", Condition{Key: "s", In: []any{"node"}}, false},
		{"in, a number is no text", Condition{Key: "n", In: []any{"9"}}, false},
		{"in, not there", Condition{Key: "x", In: []any{1}}, false},
		{"in, a truth", Condition{Key: "b", In: []any{true}}, true},
		{"in, a fraction", Condition{Key: "f", In: []any{0.5}}, true},
		{"not, another", Condition{Key: "n", Not: []any{1, 2}}, true},
		{"not, listed", Condition{Key: "n", Not: []any{9}}, false},
		{"not, not there", Condition{Key: "x", Not: []any{9}}, false},
		{"present", Condition{Key: "n", Present: &yes}, true},
		{"present, not there", Condition{Key: "x", Present: &yes}, false},
		{"absent", Condition{Key: "x", Present: &no}, true},
		{"absent, there", Condition{Key: "n", Present: &no}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			why, ok := Differs([]Condition{tc.c}, d), Holds([]Condition{tc.c}, d)
			assert.Equal(t, tc.holds, ok)
			if tc.holds {
				assert.Empty(t, why)
			} else {
				assert.Contains(t, why, tc.c.Key, "says which attribute")
			}
		})
	}
	ok := Holds([]Condition{{Key: "n", In: []any{9}}, {Key: "s", In: []any{"node"}}}, d)
	assert.False(t, ok, "all must hold")
	ok = Holds(nil, nil)
	assert.True(t, ok)
	ok = Holds([]Condition{{Key: "n", In: []any{9}}}, nil)
	assert.False(t, ok)
}

func TestBytes(t *testing.T) {
	for in, want := range map[float64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 64 << 20: "64.0 MiB", 1.5 * (1 << 30): "1.5 GiB", 1 << 60: "1048576.0 TiB"} {
		assert.Equal(t, want, Bytes(in))
	}
}

// A runbook is the first thing to do, and must be a link.
func TestRunbook(t *testing.T) {
	read := func(link string) (*Pattern, error) {
		b, err := library.ReadFile("library/process-killed.yaml")
		require.NoError(t, err)
		return Parse(append(b, "\nrunbook: "+link+"\n"...))
	}
	p, err := read("https://wiki.example.com/killed")
	require.NoError(t, err)
	assert.Equal(t, "Follow the runbook: https://wiki.example.com/killed", p.ActionsFor(&Values{}).Immediate[0])
	for _, bad := range []string{"wiki/killed", "javascript:alert(1)", "https://"} {
		_, err := read("\"" + bad + "\"")
		require.ErrorContains(t, err, "runbook: ", bad)
	}
}
