package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/finding"
)

// unknown stands for what no telemetry carried.
const unknown = "unknown"

func (p *page) summary(f *finding.Finding) {
	cause := f.RootCause.Description
	if cause == "" {
		cause = f.Title
	}
	p.field("Root cause", clean(cause), sgrBold)
	for _, row := range causeRows(f.RootCause) {
		p.field(row.label, row.text, "")
	}
	p.field("Business impact", impactText(f.Impact), sgrBold)
	p.field("Affected users", usersText(f.Impact), "")
	p.field("Services", listText(f.Impact.Services, "none besides the root cause"), "")
	p.field("Operations", listText(f.Impact.Operations, unknown), "")
	if f.Impact.Criticality != "" {
		p.field("Criticality", clean(f.Impact.Criticality), "")
	}
	for _, o := range f.Impact.Objectives {
		p.field("Objective", objectiveText(o), "")
	}
	p.field("Started", f.StartedAt.UTC().Format(dateTime+".000")+" UTC", "")
	p.field("Time to detection", detectionText(f), "")
	p.field("Confidence", confidenceText(f.Confidence), "")
	p.field("State", stateText(f), stateColor(f.State))
	if f.Ending != "" {
		p.field("Over because", clean(f.Ending), "")
	}
	p.field("Finding", f.ID.String()+" (also a trace id in Jaeger or Tempo)", "")
}

type labelled struct{ label, text string }

// causeRows says what the telemetry knows of the root cause: first what every
// cause has, then the evidence with its units, then what is left of it by key.
func causeRows(c finding.RootCause) []labelled {
	rows := []labelled{{kindLabel(c.Entity.Kind), whoText(c.Entity)}}
	add := func(label, text string) {
		if text != "" {
			rows = append(rows, labelled{label, text})
		}
	}
	id := c.Entity.Attributes
	add("Version", clean(textOf(id[event.KeyServiceVersion])))
	add("In container", containerText(id))
	cgroup := textOf(c.Evidence[event.KeyMemoryCgroup])
	if cgroup == "" {
		cgroup = textOf(id[event.KeyProcessCgroup])
	}
	add("Cgroup", clean(cgroup))
	if host := clean(firstText(id, event.KeyNodeName, event.KeyHostName)); host != rows[0].text {
		add("Host", host)
	}
	if c.Event == event.OOMKill {
		add("Memory limit", sizeText(c.Evidence, event.KeyMemoryLimit))
		add("Memory peak", sizeText(c.Evidence, event.KeyMemoryPeak))
	}
	add("Ended by", clean(textOf(c.Evidence[event.KeyExitSignalName])))
	add("Exit code", clean(textOf(c.Evidence[event.KeyProcessExitCode])))
	add("In its words", clean(textOf(c.Evidence["body"])))
	add("Evidence", evidenceText(c))
	return rows
}

// shown are the attributes that have a row of their own.
var shown = map[string]bool{
	event.KeyMemoryCgroup: true, event.KeyExitSignalName: true, event.KeyExitSignal: true, event.KeyProcessExitCode: true,
	"body": true, // of the record
}

// sizes are the attributes that count bytes.
var sizes = map[string]bool{
	event.KeyOOMRSS: true, event.KeyMemoryLimit: true, event.KeyMemoryUsage: true, event.KeyMemoryPeak: true,
}

// evidenceText lists the evidence without a row of its own, by key.
func evidenceText(c finding.RootCause) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(c.Evidence)) {
		own := shown[k] || c.Event == event.OOMKill && (k == event.KeyMemoryLimit || k == event.KeyMemoryPeak)
		if own {
			continue
		}
		text := textOf(c.Evidence[k])
		if n, ok := integer(c.Evidence[k]); ok && sizes[k] {
			text = bytesText(n)
		}
		parts = append(parts, clean(k)+"="+clean(text))
	}
	return strings.Join(parts, ", ")
}

// kindLabel names the row of the entity after its kind.
func kindLabel(kind string) string {
	switch kind {
	case "process", "container", "pod", "service", "host", "node", "unit", "network", "address", "workload", "namespace":
		return strings.ToUpper(kind[:1]) + kind[1:]
	}
	return "Entity"
}

// whoText names the entity, without its kind where the label has it.
func whoText(e finding.Entity) string {
	text := entityText(e)
	if kindLabel(e.Kind) != "Entity" && e.Name != "" {
		text = clean(e.Name)
	}
	if pid, ok := integer(e.Attributes[event.KeyProcessPID]); ok {
		text += fmt.Sprintf(", pid %d", pid)
	}
	if service := clean(textOf(e.Attributes[event.KeyServiceName])); service != "" && service != clean(e.Name) {
		text += ", service " + service
	}
	if text == "" {
		return unknown
	}
	return text
}

// containerText names container and pod, as far as known.
func containerText(id map[string]any) string {
	text := clean(firstText(id, event.KeyContainerName, event.KeyContainerID))
	if pod := clean(textOf(id[event.KeyPodName])); pod != "" {
		if ns := clean(textOf(id[event.KeyNamespaceName])); ns != "" {
			pod = ns + "/" + pod
		}
		text = strings.TrimSpace(text + " in pod " + pod)
	}
	return text
}

func sizeText(evidence map[string]any, key string) string {
	n, ok := integer(evidence[key])
	if !ok {
		return unknown
	}
	if text := bytesText(n); !strings.HasSuffix(text, " B") {
		return fmt.Sprintf("%s (%d bytes)", text, n)
	}
	return fmt.Sprintf("%d bytes", n)
}

func impactText(m finding.Impact) string {
	text := countText(m.FailedRequests, "failed request")
	if m.SlowRequests > 0 {
		text += ", " + countText(m.SlowRequests, "slow request")
	}
	key := clean(m.ValueAttribute)
	switch {
	case m.Value != nil && key != "" && m.ValueRequests > 0 && m.ValueRequests < m.FailedRequests:
		text += fmt.Sprintf("; %s in total (sum of %s over the %s of %s that carry it)", amountText(*m.Value), key,
			thousands(strconv.FormatInt(m.ValueRequests, 10)), countText(m.FailedRequests, "failed request"))
	case m.Value != nil && key != "":
		text += fmt.Sprintf("; %s in total (sum of %s over the failed requests)", amountText(*m.Value), key)
	case m.Value != nil:
		text += fmt.Sprintf("; %s in total", amountText(*m.Value))
	case key != "":
		text += fmt.Sprintf("; value unknown (no request carried %s)", key)
	default:
		text += "; value unknown (no impact.value_attribute is configured)"
	}
	for _, g := range m.Gaps {
		text += fmt.Sprintf("; requests between %s and %s UTC may be missing: no collector ran", g.From.UTC().Format(dateTime), g.To.UTC().Format(dateTime))
	}
	return text
}

// objectiveText says how fast an objective's budget goes.
func objectiveText(o finding.Objective) string {
	text := fmt.Sprintf("%s: %s; ", clean(o.Service), clean(o.Promise))
	if o.Burn < 1 {
		return text + fmt.Sprintf("the budget lasts, %s of it is left", percentText(o.Left))
	}
	over := windowText(o.BurnSeconds)
	if o.CoveredSeconds < o.BurnSeconds { // nobody knows how the rest of the window went
		over = fmt.Sprintf("the %s that were seen of %s", windowText(o.CoveredSeconds), over)
	}
	return text + fmt.Sprintf("burning %.1f times too fast over %s (%s), %s of the budget is left",
		o.Burn, over, clean(o.Severity), percentText(o.Left))
}

// windowText writes a length of time that is whole minutes, hours or days.
func windowText(seconds float64) string {
	switch {
	case seconds >= 172800:
		return fmt.Sprintf("%.0f days", seconds/86400)
	case seconds >= 7200:
		return fmt.Sprintf("%.0f hours", seconds/3600)
	}
	return fmt.Sprintf("%.0f minutes", seconds/60)
}

func usersText(m finding.Impact) string {
	key := clean(m.UserAttribute)
	switch {
	case m.Users != nil && key != "":
		return fmt.Sprintf("%d (distinct %s)", *m.Users, key)
	case m.Users != nil:
		return fmt.Sprint(*m.Users)
	case key != "":
		return fmt.Sprintf("unknown (no request carried %s)", key)
	}
	return "unknown (no request carried a user)"
}

// confidenceText says of what the score is made. It is the mean of the parts, unless
// requests showed it: then it is the reliability itself, or above the mean.
func confidenceText(c finding.Confidence) string {
	parts := fmt.Sprintf("completeness %s, reliability %s, timing %s", percentText(c.Completeness), percentText(c.Reliability), percentText(c.Timing))
	switch {
	case c.Score == c.Reliability && (c.Completeness != c.Score || c.Timing != c.Score):
		parts = fmt.Sprintf("by how clearly requests changed; completeness %s, timing %s", percentText(c.Completeness), percentText(c.Timing))
	case c.Score > max(c.Completeness, c.Reliability, c.Timing):
		parts += "; more, by how clearly requests changed"
	}
	return percentText(c.Score) + " (" + parts + ")"
}

func detectionText(f *finding.Finding) string {
	d := f.TimeToDetection()
	if d < 0 && len(f.EarlierCauses) > 0 {
		return "none: this finding named an earlier cause " + durationText(-d) + " before this one began"
	}
	if d < 0 {
		return "unknown: the clock that timed the start is " + durationText(-d) + " or more ahead of the collector's"
	}
	return durationText(d) + ", from the start to the first revision of this finding"
}

func stateText(f *finding.Finding) string {
	text := clean(string(f.State))
	if f.MendedAt != nil && f.State == finding.StateMended {
		text += ": its cause is over since " + f.MendedAt.UTC().Format(dateTime+".000") + " UTC"
	}
	if f.ResolvedAt != nil {
		text += " at " + f.ResolvedAt.UTC().Format(dateTime) + " UTC"
		if lasted := f.ResolvedAt.Sub(f.StartedAt).Round(time.Second); lasted > 0 {
			text += " after " + lasted.String()
		}
	}
	return fmt.Sprintf("%s; revision %d, evidence until %s UTC", text, f.Revision, f.UpdatedAt.UTC().Format(dateTime))
}

func listText(vs []string, none string) string {
	if len(vs) == 0 {
		return none
	}
	out := make([]string, len(vs))
	for i, v := range vs {
		out[i] = clean(v)
	}
	return strings.Join(out, ", ")
}

// firstText returns the first attribute that is there.
func firstText(m map[string]any, keys ...string) string {
	for _, k := range keys {
		if s := textOf(m[k]); s != "" {
			return s
		}
	}
	return ""
}

// textOf writes an attribute's value; nothing for one that is absent.
func textOf(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// integer reads a whole number, which a receiver may have sent as a double.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case float64:
		return int64(v), v == float64(int64(v))
	}
	return 0, false
}
