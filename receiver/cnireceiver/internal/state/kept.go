package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/internal/typed"
)

// Kept is a condition that was told and is not over, as it outlives the decider.
type Kept struct {
	// Key identifies it from one picture to the next.
	Key string `json:"key"`
	// Version is the one that was told.
	Version string `json:"version,omitempty"`
	// Sources are what must be seen to say that it is over.
	Sources []Source `json:"sources"`
	// Linger is how long it must be gone before it is told to be over.
	Linger time.Duration `json:"linger,omitempty"`
	// About names the part of the picture that explains it away, see condition.
	About string `json:"about,omitempty"`
	// Event is what was told.
	Event Event `json:"event"`
}

// maxLinger bounds what is read of Linger; no condition lingers for longer.
const maxLinger = 10 * time.Minute

// check says what makes it none that a decider can have kept.
func (k Kept) check() error {
	switch {
	case k.Key == "" || k.Event.Name == "" || k.Event.Time.IsZero():
		return errors.New("without key, name or time")
	case len(k.Sources) == 0:
		return errors.New("without a source")
	case k.Linger < 0 || k.Linger > maxLinger:
		return fmt.Errorf("lingers for %s", k.Linger)
	}
	for _, s := range k.Sources {
		if !slices.Contains(Sources, s) {
			return fmt.Errorf("of source %q", s)
		}
	}
	return nil
}

// UnmarshalJSON implements json.Unmarshaler. It refuses what no decider has kept.
func (k *Kept) UnmarshalJSON(data []byte) error {
	type plain Kept
	var read plain
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	*k = Kept(read)
	return k.check()
}

// storedEvent is an event in JSON. Numbers keep their type.
type storedEvent struct {
	Name       string                 `json:"name"`
	Time       time.Time              `json:"time"`
	Severity   int32                  `json:"severity"`
	Body       string                 `json:"body"`
	Pod        Pod                    `json:"pod,omitzero"`
	Attributes map[string]typed.Value `json:"attributes,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (e Event) MarshalJSON() ([]byte, error) {
	out := storedEvent{Name: e.Name, Time: e.Time.UTC(), Severity: int32(e.Severity), Body: e.Body, Pod: e.Pod, Attributes: make(map[string]typed.Value, len(e.Attributes))}
	for key, value := range e.Attributes {
		stored, err := storeAttr(value)
		if err != nil {
			return nil, fmt.Errorf("%s of %s: %w", key, e.Name, err)
		}
		out.Attributes[key] = stored
	}
	return json.Marshal(out)
}

// storeAttr stores a value; a list is one of texts.
func storeAttr(value any) (typed.Value, error) {
	list, ok := value.([]any)
	if !ok {
		return typed.Of(value)
	}
	texts := make([]string, len(list))
	for i, one := range list {
		text, ok := one.(string)
		if !ok {
			return typed.Value{}, fmt.Errorf("a list of %T", one)
		}
		texts[i] = text
	}
	return typed.Of(texts)
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *Event) UnmarshalJSON(data []byte) error {
	var in storedEvent
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	attrs := make(map[string]any, len(in.Attributes))
	for key, a := range in.Attributes {
		attrs[key] = a.Any()
		if list, ok := attrs[key].([]string); ok {
			attrs[key] = anySlice(list, func(s string) string { return s })
		}
	}
	*e = Event{Name: in.Name, Time: in.Time, Severity: plog.SeverityNumber(in.Severity), Body: in.Body, Pod: in.Pod, Attributes: attrs}
	return nil
}

// Past is what a decider knows of the time before its last picture, besides conditions:
// it says what can be missed.
type Past struct {
	// Boot is that of the kernel: another numbers its interfaces anew.
	Boot string `json:"boot,omitempty"`
	// Places are those that were looked at, by source; nothing for one of which that is
	// not known.
	Places map[Source][]string `json:"places,omitempty"`
	// HadConfig says that there was a configuration in them, or the result of one,
	// HadPlugin that a plugin was.
	HadConfig bool `json:"had_config,omitempty"`
	HadPlugin bool `json:"had_plugin,omitempty"`
	// Uplinks are the names of interfaces of the host that worked, by index.
	Uplinks map[int]string `json:"uplinks,omitempty"`
}

// Equal says whether two are the same.
func (p Past) Equal(other Past) bool {
	return p.Boot == other.Boot && p.HadConfig == other.HadConfig && p.HadPlugin == other.HadPlugin &&
		maps.EqualFunc(p.Places, other.Places, slices.Equal) && maps.Equal(p.Uplinks, other.Uplinks)
}

// Past returns what to restore in the next decider.
func (d *Decider) Past() Past {
	return Past{
		Boot: d.settings.Boot, Places: d.settings.places(), HadConfig: d.hadConfig, HadPlugin: d.hadPlugin, Uplinks: maps.Clone(d.uplinks),
	}
}

// places are where each source is read, as far as the settings say it.
func (s Settings) places() map[Source][]string {
	return map[Source][]string{
		SourceConfig: s.ConfigDirs, SourcePlugins: s.PluginDirs, SourceResults: s.ResultDirs, SourcePools: s.DataDirs,
		SourceNamespaces: append(slices.Clone(s.NamespaceDirs), s.HostNamespace),
	}
}

// looksAt says whether the settings let all places be looked at in which the past has
// seen the sources. What was in one that is not looked at any more is neither there
// nor gone.
func (s Settings) looksAt(past Past, sources ...Source) bool {
	places := s.places()
	for _, source := range sources {
		for _, place := range past.Places[source] {
			if !slices.Contains(places[source], place) {
				return false
			}
		}
	}
	return true
}

// Restore takes what another decider knew, before the first picture: its conditions are
// told again as they were when they are there still, and are over when they are not.
// What is not looked at any more, by these settings, is forgotten: Restore returns the
// keys. What was in other directories than these is not missed in them.
func (d *Decider) Restore(past Past, conditions []Kept) (forgotten []string) {
	d.hadConfig = past.HadConfig && d.settings.looksAt(past, SourceConfig)
	d.hadPlugin = past.HadPlugin && d.settings.looksAt(past, SourcePlugins)
	if d.settings.looksAt(past, SourceNamespaces) {
		d.restoreUplinks(past)
	}
	for _, k := range conditions {
		if !d.judges(k.Event.Name) || !d.settings.looksAt(past, k.Sources...) || !d.tracker.restore(k) {
			forgotten = append(forgotten, k.Key)
			continue
		}
		if address, ok := routeOfHost(k); ok {
			d.routed[k.About+"/"+address.String()] = true // it can be wrong as it was right before
		}
	}
	return forgotten
}

// restoreUplinks takes up the interfaces of the host that worked.
func (d *Decider) restoreUplinks(past Past) {
	unknown := -1
	for _, index := range slices.Sorted(maps.Keys(past.Uplinks)) {
		if len(d.uplinks) >= maxUplinks {
			break
		}
		if past.Boot == "" || past.Boot != d.settings.Boot || index < 0 {
			d.uplinks[unknown] = past.Uplinks[index]
			unknown--
			continue
		}
		d.uplinks[index] = past.Uplinks[index]
	}
}

// routeOfHost returns the address to which the host has no route, by a condition that
// hostRouteConditions made.
func routeOfHost(k Kept) (netip.Addr, bool) {
	route, _ := k.Event.Attributes[event.KeyCNIRoute].(string)
	to, err := netip.ParsePrefix(route)
	return to.Addr(), err == nil && k.Key == event.CNIRouteMissing+"/"+k.About+"/host/"+route
}

// judges says whether the settings let a condition of that event begin and end.
func (d *Decider) judges(name string) bool {
	switch name {
	case event.CNIPoolHigh, event.CNIPoolExhausted:
		return d.settings.Pools
	case event.CNIAddressLeaked, event.CNIInterfaceLeaked, event.CNINamespaceLeaked:
		return d.settings.Leaks
	case event.CNIConntrackHigh, event.CNIConntrackFull:
		return d.settings.Conntrack
	case event.CNIInterfaceDown, event.CNIInterfaceCarrierLost, event.CNIInterfaceMTUMismatch, event.CNIAddressMissing,
		event.CNIAddressDuplicate, event.CNIRouteMissing:
		return d.settings.Interfaces
	default:
		return true
	}
}

// Changed returns the conditions that were told, or told anew, since it was called last,
// and the keys of those that are over.
func (d *Decider) Changed() (told []Kept, over []string) {
	t := d.tracker
	for _, key := range slices.Sorted(maps.Keys(t.fresh)) {
		if h := t.held[key]; h != nil && h.told != nil {
			told = append(told, h.kept())
		}
	}
	over = t.over
	t.over = nil
	clear(t.fresh)
	return told, over
}

func (h *held) kept() Kept {
	return Kept{Key: h.key, Version: h.toldVersion, Sources: h.sources, Linger: h.linger, About: h.about, Event: *h.told}
}

// restore takes up a condition that was told before the start. It returns false when
// there is no place for it.
func (t *tracker) restore(k Kept) bool {
	if len(t.held) >= t.limit {
		t.dropped++
		return false
	}
	ev := k.Event
	t.held[k.Key] = &held{
		condition: condition{key: k.Key, version: k.Version, sources: k.Sources, linger: k.Linger, about: k.About, event: ev},
		since:     ev.Time, raised: true, told: &ev, toldVersion: k.Version, before: true,
	}
	return true
}
