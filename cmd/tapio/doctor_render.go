package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/yairfalse/tapio/receiver/ebpfreceiver"
)

// renderDiagnosis writes a diagnosis for people. Every line is at most
// style.width characters long.
func renderDiagnosis(d *diagnosis, s style) string {
	p := &page{style: s}
	p.heading("HOST")
	p.facts(d.Host)
	p.heading("CAPABILITIES OF THIS PROCESS")
	p.facts(d.Capabilities)
	p.heading("KERNEL FEATURES THAT PROGRAMS USE")
	p.features(d.Groups)
	p.heading("PROGRAMS, TRIED JUST NOW (tapio_ebpf)")
	for _, g := range d.Groups {
		p.group(&g)
	}
	p.heading("WHAT OTHER RECEIVERS READ")
	p.facts(d.Sources)
	return p.text.String()
}

// markWidth is the width of yes, no and unknown with their margins.
const markWidth = 11

// mark writes a line that begins with whether something is there.
func (p *page) mark(has, text string) {
	colors := map[string]string{isThere: sgrGreen, isMissing: sgrRed, isUnknown: sgrYellow}
	p.hanging("  "+p.style.paint(colors[has], pad(has, markWidth-2)), markWidth, text, "")
}

func (p *page) below(text, color string) {
	p.hanging(strings.Repeat(" ", markWidth), markWidth, text, color)
}

func (p *page) facts(facts []fact) {
	for _, f := range facts {
		text := clean(f.Name)
		if f.Found != "" {
			text += ": " + clean(f.Found)
		}
		p.mark(f.Has, text)
		if f.For != "" {
			p.below(clean(f.For), sgrDim)
		}
	}
}

// features counts what all programs need of the kernel and names what is missing.
func (p *page) features(groups []ebpfreceiver.GroupSupport) {
	all := map[string]map[string]string{} // has, by name, by kind
	users := map[ebpfreceiver.Need][]string{}
	for _, g := range groups {
		for _, program := range g.Programs {
			for _, n := range program.Needs {
				if all[n.Kind] == nil {
					all[n.Kind] = map[string]string{}
				}
				all[n.Kind][n.Name] = n.Has
				users[n] = append(users[n], program.Name)
			}
		}
	}
	for _, kind := range []string{"tracepoint", "helper", "map"} {
		plural := map[string]string{"map": "kinds of maps"}[kind]
		if plural == "" {
			plural = kind + "s"
		}
		var there, missing, unasked []string
		for name, has := range all[kind] {
			switch has {
			case isThere:
				there = append(there, name)
			case isMissing:
				missing = append(missing, name)
			default:
				unasked = append(unasked, name)
			}
		}
		for _, of := range []struct {
			has   string
			names []string
		}{{isThere, there}, {isUnknown, unasked}} {
			if names := of.names; len(names) > 0 {
				slices.Sort(names)
				p.mark(of.has, fmt.Sprintf("%d of %d %s: %s", len(names), len(all[kind]), plural, clean(strings.Join(names, ", "))))
			}
		}
		slices.Sort(missing)
		for _, name := range missing {
			n := ebpfreceiver.Need{Kind: kind, Name: name, Has: isMissing}
			p.mark(isMissing, clean(fmt.Sprintf("%s %s, which %s needs", kind, name, strings.Join(users[n], ", "))))
		}
	}
}

func (p *page) group(g *ebpfreceiver.GroupSupport) {
	run := 0
	for _, program := range g.Programs {
		if program.Runs {
			run++
		}
	}
	state := "off by default"
	if g.Default {
		state = "on by default"
	}
	p.put(p.style.paint(sgrBold, cut(fmt.Sprintf("%s (%s): %d of %d run", clean(g.Name), state, run, len(g.Programs)), p.style.width)) + "\n")
	said := ""
	for _, program := range g.Programs {
		p.program(&program, said)
		said = program.Reason
	}
}

// program says what is known of a program, but not again the reason said above it.
func (p *page) program(s *ebpfreceiver.ProgramSupport, said string) {
	has, label := isMissing, "lost without it: "
	switch {
	case s.Runs:
		has = isThere
	case s.Denied:
		has = isUnknown
	}
	text := clean(s.Name)
	if s.Hook != "" {
		text += ", " + clean(s.Hook)
	}
	if s.Runs {
		label = "tells: "
	}
	p.mark(has, text)
	if s.Reason != said && s.Reason != "" {
		p.below(clean(s.Reason), "")
	}
	p.below(label+clean(s.Tells), sgrDim)
}
