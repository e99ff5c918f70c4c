package perturb

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
	"github.com/yairfalse/tapio/internal/finding"
)

// nameKeys are the attributes of resources that hold names.
var nameKeys = regexp.MustCompile(`^(service\.name|service\.namespace|host\.name|k8s\..*\.name|container\.name)$`)

var (
	word = regexp.MustCompile(`[A-Za-z]{3,}`)
	// token is a word or, with digits in it, an identifier, which stays: what is
	// hexadecimal must remain so.
	token = regexp.MustCompile(`[0-9A-Za-z]{3,}`)
	// vocabulary are words that say what happened whatever the system: a system with
	// other names uses them all the same.
	vocabulary = regexp.MustCompile(`(?i)^(.*(exception|error|throwable|fail|failed|failure)|.*(timeout|timed|refused|reset|denied|abort|fatal|warn|warning|info|debug|trace|panic|killed|memory|connection|unavailable|available|instances|select|insert|update|delete|from|where|into|values|http|https|get|post|put|null|true|false|java|lang|caused|status|code))$`)
)

// renamer replaces names by random words or by one another, each always by the same.
type renamer struct {
	permuted map[string]string // names of services, workloads and nodes, nil where words replace them
	words    bool
	seed     uint64
	known    sync.Map // words of texts that were met, by the old one
	to, from map[string]string
	names    *strings.Replacer
}

func newRenamer(set *dataset.Set, o Options) (*renamer, error) {
	r := &renamer{words: o.Words, seed: o.Seed, to: map[string]string{}, from: map[string]string{}}
	names := map[string]bool{}
	groups := [2]map[string]bool{{}, {}} // services and workloads, nodes
	see := func(rec *dataset.Recording) error {
		t, err := rec.Load(0)
		if err != nil {
			return err
		}
		note := func(a pcommon.Map) {
			for k, v := range a.All() {
				if nameKeys.MatchString(k) && v.Type() == pcommon.ValueTypeStr && len(v.Str()) > 2 {
					names[v.Str()] = true
					if g := groupOf(k); g >= 0 {
						groups[g][v.Str()] = true
					}
				}
			}
		}
		resources(t, note)
		records(t, func(l plog.LogRecord) { note(l.Attributes()) })
		return nil
	}
	for _, c := range set.Cases {
		if err := see(&c.Recording); err != nil {
			return nil, err
		}
	}
	for _, b := range set.Baselines {
		if err := see(b); err != nil {
			return nil, err
		}
	}
	if o.Permute {
		r.permute(groups[:])
	}
	var pairs []string
	// The longest first: the name of a pod begins with that of its workload.
	for _, name := range slices.SortedFunc(maps.Keys(names), func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) }) {
		pairs = append(pairs, name, begin+r.name(name)+end)
	}
	r.names = strings.NewReplacer(pairs...)
	return r, nil
}

// name returns the new name of an object: word by word, so that what is part of a name
// stays part of it. Numbers and hashes stay.
func (r *renamer) name(old string) string {
	if to, ok := r.to[old]; ok {
		return to
	}
	var to string
	if r.permuted != nil {
		to = r.another(old)
	} else {
		to = word.ReplaceAllStringFunc(old, r.word)
	}
	r.to[old], r.from[to] = to, old
	return to
}

// groupOf returns among which names that of an attribute changes places: 0 services and
// workloads, 1 nodes, -1 none.
func groupOf(key string) int {
	switch key {
	case "service.name", "k8s.deployment.name", "k8s.statefulset.name", "k8s.daemonset.name":
		return 0
	case "k8s.node.name", "host.name":
		return 1
	}
	return -1
}

// permute gives each name of a group that of the next one in a random order: none keeps
// its own.
func (r *renamer) permute(groups []map[string]bool) {
	r.permuted = map[string]string{}
	for n, g := range groups {
		list := slices.Sorted(maps.Keys(g))
		random := rand.New(rand.NewPCG(r.seed, uint64(n)))
		random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for i, name := range list {
			r.permuted[name] = list[(i+1)%len(list)]
		}
	}
}

// another returns the name that takes the place of one: that of a pod or a replica set
// begins with the name of its workload.
func (r *renamer) another(old string) string {
	for stem := old; ; {
		if to, ok := r.permuted[stem]; ok {
			return to + old[len(stem):]
		}
		i := strings.LastIndexByte(stem, '-')
		if i < 0 {
			return old
		}
		stem = stem[:i]
	}
}

// word returns a random word of about the same form for a word.
func (r *renamer) word(old string) string {
	g := rand.New(rand.NewPCG(r.seed, sum(r.seed, old)))
	const consonants, vowels = "bcdfghjklmnprstvwz", "aeiou"
	b := []byte(old)
	for i, c := range b {
		from := consonants
		if i%2 == 1 {
			from = vowels
		}
		b[i] = from[g.IntN(len(from))]
		if c >= 'A' && c <= 'Z' {
			b[i] -= 'a' - 'A'
		}
	}
	return string(b)
}

// begin and end enclose what was renamed already.
const begin, end = "\x02", "\x03"

var marks = strings.NewReplacer(begin, "", end, "")

// text renames in a text of a log record or of a span.
func (r *renamer) text(s string) string {
	s = r.names.Replace(s)
	if !r.words {
		return marks.Replace(s)
	}
	var out strings.Builder
	for s != "" {
		before, rest, _ := strings.Cut(s, begin)
		out.WriteString(token.ReplaceAllStringFunc(before, r.other))
		name, after, _ := strings.Cut(rest, end)
		out.WriteString(name)
		s = after
	}
	return out.String()
}

// other returns what stands for a word that is not part of a name.
func (r *renamer) other(w string) string {
	if strings.ContainsAny(w, "0123456789") {
		return w
	}
	if to, ok := r.known.Load(w); ok {
		return to.(string)
	}
	to := w
	if !vocabulary.MatchString(w) {
		to = r.word(w)
	}
	r.known.Store(w, to)
	return to
}

func (r *renamer) all(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = r.name(n)
	}
	slices.Sort(out)
	return out
}

func resources(t dataset.Telemetry, f func(pcommon.Map)) {
	for _, td := range t.Traces {
		for _, rs := range td.ResourceSpans().All() {
			f(rs.Resource().Attributes())
		}
	}
	for _, ld := range t.Logs {
		for _, rl := range ld.ResourceLogs().All() {
			f(rl.Resource().Attributes())
		}
	}
	for _, md := range t.Metrics {
		for _, rm := range md.ResourceMetrics().All() {
			f(rm.Resource().Attributes())
		}
	}
}

func (r *renamer) telemetry(t dataset.Telemetry) {
	resources(t, r.attributes)
	for _, td := range t.Traces {
		for _, rs := range td.ResourceSpans().All() {
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					s.SetName(r.text(s.Name()))
					r.attributes(s.Attributes())
				}
			}
		}
	}
	records(t, func(l plog.LogRecord) {
		if l.Body().Type() == pcommon.ValueTypeStr {
			l.Body().SetStr(r.text(l.Body().Str()))
		}
		r.attributes(l.Attributes())
	})
}

func records(t dataset.Telemetry, f func(plog.LogRecord)) {
	for _, ld := range t.Logs {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, l := range sl.LogRecords().All() {
					f(l)
				}
			}
		}
	}
}

// attributes renames names only: what else an attribute says has a meaning.
func (r *renamer) attributes(a pcommon.Map) {
	a.Range(func(_ string, v pcommon.Value) bool {
		if v.Type() == pcommon.ValueTypeStr {
			v.SetStr(marks.Replace(r.names.Replace(v.Str())))
		}
		return true
	})
}

// truth is a label of which the findings have other names.
type truth struct {
	dataset.Truth
	names *renamer
}

func (r *renamer) truth(t dataset.Truth) dataset.Truth { return truth{t, r} }

// Judge implements dataset.Truth.
func (t truth) Judge(findings []*finding.Finding) dataset.Verdict {
	old := make([]*finding.Finding, len(findings))
	for i, f := range findings {
		old[i] = t.names.old(f)
	}
	return t.Truth.Judge(old)
}

// Right implements dataset.Truth.
func (t truth) Right(f *finding.Finding) bool { return t.Truth.Right(t.names.old(f)) }

// old returns a finding with the names of before, as far as labels need them.
func (r *renamer) old(f *finding.Finding) *finding.Finding {
	copied := *f
	copied.RootCause.Entity = r.oldEntity(f.RootCause.Entity)
	copied.Rejected = slices.Clone(f.Rejected)
	for i := range copied.Rejected {
		copied.Rejected[i].Entity = r.oldEntity(copied.Rejected[i].Entity)
	}
	return &copied
}

func (r *renamer) oldEntity(e finding.Entity) finding.Entity {
	back := func(s string) string {
		if old, ok := r.from[s]; ok {
			return old
		}
		return s
	}
	e.Name = back(e.Name)
	attributes := maps.Clone(e.Attributes)
	for k, v := range attributes {
		if s, ok := v.(string); ok {
			attributes[k] = back(s)
		}
	}
	e.Attributes = attributes
	return e
}

var _ dataset.Truth = truth{}
