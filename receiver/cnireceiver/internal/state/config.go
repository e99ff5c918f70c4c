package state

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
)

// changes compares configurations and plugins with those of the picture before.
func (d *Decider) changes(p *Picture) []Event {
	if !p.Sees(SourceConfig) {
		return nil
	}
	var events []Event
	now := make(map[string]knownConfig, len(p.Configs))
	for i, c := range p.Configs {
		known := knownConfig{ConfigFile: c, inUse: isInUse(p.Configs, i)}
		now[c.Path] = known
		if old, ok := d.configs[c.Path]; d.started && (!ok || old.Digest != c.Digest) {
			events = append(events, configEvent(p, known, changeOf(ok, old.ConfigFile, c)))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(d.configs)) {
		if _, ok := now[path]; !ok {
			events = append(events, configEvent(p, d.configs[path], "was removed"))
		}
	}
	d.configs = now
	d.hadConfig = d.hadConfig || len(now) > 0 || len(p.Results) > 0
	return append(events, d.pluginChanges(p)...)
}

// isInUse says of the configuration of that index whether it is the one that
// runtimes take, or comes before any that they could take: containerd then uses none.
func isInUse(configs []ConfigFile, index int) bool {
	return !slices.ContainsFunc(configs[:index], func(c ConfigFile) bool { return c.Err == nil })
}

func changeOf(existed bool, old, now ConfigFile) string {
	switch {
	case !existed:
		return "was added"
	case old.Err == nil && now.Err == nil && !slices.Equal(old.Network.Types(), now.Network.Types()):
		return fmt.Sprintf("was changed: plugins were %s", strings.Join(old.Network.Types(), ", "))
	default:
		return "was changed"
	}
}

func configEvent(p *Picture, c knownConfig, change string) Event {
	attrs := map[string]any{event.KeyFilePath: c.Path, event.KeyCNIConfigInUse: c.inUse, event.KeyCNIReason: change}
	if c.Network != nil {
		attrs[event.KeyCNINetwork] = c.Network.Name
		attrs[event.KeyCNIPlugins] = anySlice(c.Network.Types(), func(s string) string { return s })
	}
	return Event{
		Name: event.CNIConfigChanged, Time: p.At, Severity: plog.SeverityNumberInfo,
		Body: fmt.Sprintf("Network configuration %s %s", c.Path, change), Attributes: attrs,
	}
}

// pluginChanges tells which executables are others than before. One that was
// missing for a while is compared with what it was.
func (d *Decider) pluginChanges(p *Picture) []Event {
	if !p.Sees(SourcePlugins) {
		return nil
	}
	var events []Event
	for _, plugin := range slices.Sorted(maps.Keys(p.Plugins)) {
		f := p.Plugins[plugin]
		if f == nil {
			continue
		}
		if old, ok := d.plugins[plugin]; ok && (old.Path != f.Path || old.Identity != f.Identity) {
			events = append(events, Event{
				Name: event.CNIPluginReplaced, Time: p.At, Severity: plog.SeverityNumberInfo,
				Body: fmt.Sprintf("CNI plugin %s is another file than before (%s)", plugin, f.Path),
				Attributes: map[string]any{
					event.KeyCNIPlugin: plugin, event.KeyCNINetwork: networkOf(p, plugin), event.KeyFilePath: f.Path,
				},
			})
		}
		d.plugins[plugin], d.hadPlugin = *f, true
	}
	for plugin := range d.plugins {
		if _, ok := p.Plugins[plugin]; !ok { // no configuration names it any more
			delete(d.plugins, plugin)
		}
	}
	return events
}

// networkOf is the first network whose configuration names a plugin.
func networkOf(p *Picture, plugin string) string {
	for _, c := range p.Configs {
		if c.Network != nil && slices.Contains(c.Network.Types(), plugin) {
			return c.Network.Name
		}
	}
	return ""
}

// configConditions are those of configurations and of their plugins.
func (d *Decider) configConditions(p *Picture) []condition {
	var out []condition
	if d.hadConfig && len(p.Configs) == 0 && len(d.settings.ConfigDirs) > 0 {
		dir := d.settings.ConfigDirs[0]
		out = append(out, condition{
			key: "config.missing", sources: []Source{SourceConfig}, hold: settle,
			event: Event{
				Name: event.CNIConfigMissing, Severity: plog.SeverityNumberError,
				Body:       fmt.Sprintf("No network configuration in %s: no pod can be set up", dir),
				Attributes: map[string]any{event.KeyFilePath: dir, event.KeyCNIConfigInUse: true},
			},
		})
	}
	for i, c := range p.Configs {
		if c.Err != nil {
			out = append(out, invalidCondition(c, isInUse(p.Configs, i)))
		}
	}
	// Where no plugin was ever found, it may be plugin_dirs that is wrong: that is one
	// event, and none about each plugin.
	if !d.hadPlugin {
		return append(out, d.pluginsMissing(p)...)
	}
	for i, c := range p.Configs {
		if c.Network != nil {
			out = append(out, missingPlugins(p, c, isInUse(p.Configs, i))...)
		}
	}
	return out
}

// pluginsMissing is when no plugin of any configuration was ever found. It is a
// warning: pods may well get their network from plugins in other directories.
func (d *Decider) pluginsMissing(p *Picture) []condition {
	if len(p.Plugins) == 0 {
		return nil
	}
	dirs := strings.Join(d.settings.PluginDirs, ", ")
	reason := fmt.Sprintf("none is in %s; plugin_dirs must be the bin_dir of the container runtime", dirs)
	plugins := slices.Sorted(maps.Keys(p.Plugins))
	return []condition{{
		key: "plugins.missing", version: reason + strings.Join(plugins, ","), sources: []Source{SourceConfig, SourcePlugins}, hold: settle,
		event: Event{
			Name: event.CNIPluginsMissing, Severity: plog.SeverityNumberWarn,
			Body:       fmt.Sprintf("No CNI plugin that a configuration names is there (%s): %s", strings.Join(plugins, ", "), reason),
			Attributes: map[string]any{event.KeyCNIPlugins: anySlice(plugins, func(s string) string { return s }), event.KeyCNIReason: reason},
		},
	}}
}

// invalidCondition is of a configuration with a mistake. It is told again when it
// comes into use, or is no longer.
func invalidCondition(c ConfigFile, inUse bool) condition {
	attrs := map[string]any{
		event.KeyFilePath: c.Path, event.KeyErrorType: c.Err.Type, event.KeyCNIReason: c.Err.Reason, event.KeyCNIConfigInUse: inUse,
	}
	if c.Err.Line > 0 {
		attrs[event.KeyCNIConfigLine] = int64(c.Err.Line)
	}
	if c.Err.Network != "" {
		attrs[event.KeyCNINetwork] = c.Err.Network
	}
	severity := plog.SeverityNumberWarn
	if inUse {
		severity = plog.SeverityNumberError
	}
	return condition{
		key: "config.invalid/" + c.Path, version: fmt.Sprint(inUse, c.Digest), sources: []Source{SourceConfig}, hold: settle,
		event: Event{
			Name: event.CNIConfigInvalid, Severity: severity,
			Body: fmt.Sprintf("Network configuration %s is invalid: %s", c.Path, c.Err.Error()), Attributes: attrs,
		},
	}
}

// missingPlugins are those of a configuration. They are told again when it comes into
// use, or is no longer.
func missingPlugins(p *Picture, c ConfigFile, inUse bool) []condition {
	var out []condition
	severity := plog.SeverityNumberWarn
	if inUse {
		severity = plog.SeverityNumberError
	}
	for _, plugin := range c.Network.Types() {
		reason := "it is in none of the plugin directories"
		if f := p.Plugins[plugin]; f != nil {
			if f.Problem == "" {
				continue
			}
			reason = f.Path + ": " + f.Problem
		}
		out = append(out, condition{
			key: "plugin.missing/" + c.Network.Name + "/" + plugin, version: fmt.Sprint(inUse, reason), sources: []Source{SourceConfig, SourcePlugins}, hold: settle,
			event: Event{
				Name: event.CNIPluginMissing, Severity: severity,
				Body: fmt.Sprintf("CNI plugin %s of network %s cannot be run: %s", plugin, c.Network.Name, reason),
				Attributes: map[string]any{
					event.KeyCNIPlugin: plugin, event.KeyCNINetwork: c.Network.Name, event.KeyFilePath: c.Path, event.KeyCNIReason: reason,
					event.KeyCNIConfigInUse: inUse,
				},
			},
		})
	}
	return out
}
