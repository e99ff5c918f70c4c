package state

import (
	"net/netip"
	"path"
	"time"
)

// Settings say what is too much, and for how long.
type Settings struct {
	// PoolHighWater and ConntrackHighWater are parts of 1.
	PoolHighWater, ConntrackHighWater float64
	// Hold is how long an interface must be wrong.
	Hold time.Duration
	// Grace is how long a thing must have had no owner to be leaked.
	Grace time.Duration
	// NamespacePatterns are globs of names that container runtimes give to namespaces.
	NamespacePatterns []string
	// Pools, Interfaces, Leaks and Conntrack say whether to look at them at all.
	Pools, Interfaces, Leaks, Conntrack bool
	// DataDirs are where host-local keeps the addresses of networks that do not say where.
	DataDirs []string
	// ConfigDirs are where configurations belong, for messages.
	ConfigDirs []string
	// PluginDirs are where plugins are looked up, for messages.
	PluginDirs []string
	// ResultDirs, NamespaceDirs and HostNamespace are the other places that are looked at,
	// for what was kept of the time before.
	ResultDirs, NamespaceDirs []string
	HostNamespace             string
	// Boot is the id of the kernel's boot, "" when it is not known.
	Boot string
}

// Bounds of what is held. A node has some hundred pods.
const (
	maxConditions  = 8192
	maxAttachments = 16384
	maxUplinks     = 256
	// settle is how long a file must be wrong: those who write it may not do so at once.
	settle = time.Second
)

// Decider compares pictures. It is not safe for concurrent use.
type Decider struct {
	settings Settings
	tracker  *tracker
	started  bool

	// configs are digests by path, plugins identities by type.
	configs map[string]knownConfig
	plugins map[string]PluginFile
	// hadConfig says that there was a configuration, or the result of one, hadPlugin
	// that one of the plugins was.
	hadConfig, hadPlugin bool
	// facts are the attachments that were told, by key.
	facts map[string]fact
	// routed are addresses of attachments that the host could reach, uplinks the names of
	// interfaces of the host that worked, by index.
	routed  map[string]bool
	uplinks map[int]string
	// poolCount is that of the last picture.
	poolCount int
	// dropped counts what found no place, by kind.
	dropped map[string]int64
}

// knownConfig is a configuration, and whether it was in use.
type knownConfig struct {
	ConfigFile
	inUse bool
}

// NewDecider returns a decider that has seen nothing.
func NewDecider(s Settings) *Decider {
	return &Decider{
		settings: s, tracker: newTracker(maxConditions),
		configs: make(map[string]knownConfig), plugins: make(map[string]PluginFile), facts: make(map[string]fact),
		routed: make(map[string]bool), uplinks: make(map[int]string), dropped: make(map[string]int64),
	}
}

// Decide returns what is to be told after this picture: what changed, then what
// began to be wrong, then what is over.
func (d *Decider) Decide(p *Picture) []Event {
	v := newView(p, d.settings)
	events := d.changes(p)
	events = append(events, d.attachments(v)...)
	conditions := d.configConditions(p)
	if d.settings.Pools {
		conditions = append(conditions, d.poolConditions(v)...)
	}
	if d.settings.Interfaces && p.Sees(SourceNamespaces) {
		conditions = append(conditions, d.interfaceConditions(v)...)
		conditions = append(conditions, d.uplinkConditions(v)...)
		conditions = append(conditions, duplicateConditions(v)...)
	}
	if d.settings.Leaks {
		conditions = append(conditions, leakConditions(v)...)
	}
	conditions = append(conditions, conntrackConditions(v)...)
	events = append(events, d.tracker.update(p, conditions, v.explained)...)
	d.started = true
	return events
}

// Due is when to look again although nothing changed, because something will
// have lasted long enough; zero for never.
func (d *Decider) Due() time.Time { return d.tracker.due() }

// Held says how much is remembered, by kind.
func (d *Decider) Held() map[string]int64 {
	return map[string]int64{
		"conditions": int64(len(d.tracker.held)),
		"interfaces": int64(len(d.facts) + len(d.routed) + len(d.uplinks)),
		"files":      int64(len(d.configs) + len(d.plugins)),
		"pools":      int64(d.poolCount),
	}
}

// Dropped says how much found no place since the start, by kind.
func (d *Decider) Dropped() map[string]int64 {
	return map[string]int64{"conditions": d.tracker.dropped, "interfaces": d.dropped["interfaces"]}
}

// view is a picture with what follows from it.
type view struct {
	*Picture
	settings Settings
	host     *Namespace
	byPath   map[string]*Namespace
	byInode  map[uint64]*Namespace
	attached []attachment
	// bridgeNames are those of configurations.
	bridgeNames map[string]bool
	// explained are the parts of which the picture tells nothing, see tracker.update.
	explained map[string]bool
}

func newView(p *Picture, s Settings) *view {
	v := &view{
		Picture: p, settings: s, byPath: make(map[string]*Namespace), byInode: make(map[uint64]*Namespace),
		bridgeNames: bridgeNames(p.Configs), explained: make(map[string]bool),
	}
	for _, ns := range p.Namespaces {
		if ns.IsHost {
			v.host = ns
		}
		v.byInode[ns.Inode] = ns
		for _, path := range ns.Paths {
			v.byPath[path] = ns
		}
	}
	ends := v.hostEnds()
	for _, r := range p.Results {
		v.attached = append(v.attached, v.attach(r, ends))
	}
	return v
}

// isRuntimes says whether a namespace has a name that container runtimes give.
func (v *view) isRuntimes(ns *Namespace) bool {
	for _, at := range ns.Paths {
		for _, pattern := range v.settings.NamespacePatterns {
			if ok, err := path.Match(pattern, path.Base(at)); ok && err == nil {
				return true
			}
		}
	}
	return false
}

// isDead says whether a namespace is a sandbox's, without a process.
func (v *view) isDead(ns *Namespace) bool {
	return !ns.IsHost && !ns.HasProcess && v.Sees(SourceProcesses) && v.isRuntimes(ns)
}

// anySlice converts for an attribute.
func anySlice[T any](list []T, text func(T) string) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = text(v)
	}
	return out
}

func prefixText(p netip.Prefix) string { return p.String() }
