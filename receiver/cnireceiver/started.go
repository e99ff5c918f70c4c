package cnireceiver

import (
	"fmt"
	"strings"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/internal/event"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/snapshot"
	"github.com/yairfalse/tapio/receiver/cnireceiver/internal/state"
)

// started is the event that says what is watched, and what cannot be seen: unseen
// and what the picture tells.
func started(cfg *Config, p *state.Picture, links *snapshot.Notifier, unseen []string) state.Event {
	watched := cfg.watched()
	unseen = append(unseenParts(p, links), unseen...)
	body := "The container network is watched: " + networks(cfg, p)
	if len(unseen) > 0 {
		body += "; not seen: " + strings.Join(unseen, "; ")
	}
	return state.Event{
		Name: event.CNIStarted, Time: p.At, Severity: plog.SeverityNumberInfo, Body: body,
		Attributes: map[string]any{event.KeyCNIWatched: texts(watched), event.KeyCNIUnseen: texts(unseen)},
	}
}

// networks says which there are, for people.
func networks(cfg *Config, p *state.Picture) string {
	var names []string
	for _, c := range p.Configs {
		if c.Network != nil {
			names = append(names, fmt.Sprintf("%s (%s)", c.Network.Name, strings.Join(titles(c.Network.Types()), ", ")))
		}
	}
	if len(names) == 0 {
		return "there is no network configuration in " + strings.Join(cfg.ConfigDirs, ", ")
	}
	return strings.Join(names, ", ")
}

// titles are the names by which people know the plugins.
func titles(plugins []string) []string {
	out := make([]string, len(plugins))
	for i, plugin := range plugins {
		out[i] = plugin
		if k, ok := state.Known(plugin); ok {
			out[i] = k.Title
		}
	}
	return out
}

// unseenParts are "part: reason", in the order of the sources.
func unseenParts(p *state.Picture, links *snapshot.Notifier) []string {
	var out []string
	for _, source := range state.Sources {
		if reason := p.Unseen[source]; reason != "" {
			out = append(out, fmt.Sprintf("%s: %s", source, reason))
		}
	}
	if links != nil && links.OnlyHost != nil {
		out = append(out, fmt.Sprintf("changes inside pods at once: %s", links.OnlyHost))
	}
	return append(out, unknownPools(p)...)
}

// unknownPools names the networks whose addresses are kept where no file tells.
func unknownPools(p *state.Picture) []string {
	var out []string
	for _, c := range p.Configs {
		if c.Network == nil {
			continue
		}
		for _, plugin := range c.Network.Types() {
			if k, ok := state.Known(plugin); ok && k.IPAM != "" && !k.InFiles() {
				out = append(out, fmt.Sprintf("address pool of network %s: %s keeps it in %s", c.Network.Name, k.Title, k.IPAM))
			}
		}
	}
	return out
}

func texts(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}
