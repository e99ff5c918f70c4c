package main

import "github.com/yairfalse/tapio/internal/finding"

// style says how to lay text out.
type style struct {
	width int
	color bool
}

func (t terminal) style() style { return style{width: t.width, color: t.color} }

// Select Graphic Rendition codes of ECMA-48.
const (
	sgrBold    = "1"
	sgrDim     = "2"
	sgrRed     = "1;31"
	sgrGreen   = "32"
	sgrYellow  = "33"
	sgrBlue    = "34"
	sgrMagenta = "35"
	sgrCyan    = "36"
)

var layerColors = map[finding.Layer]string{
	finding.LayerKernel:     sgrRed,
	finding.LayerNetwork:    sgrYellow,
	finding.LayerSystem:     sgrBlue,
	finding.LayerKubernetes: sgrCyan,
	finding.LayerApp:        sgrGreen,
	finding.LayerBusiness:   sgrMagenta,
}

func stateColor(s finding.State) string {
	switch s {
	case finding.StateOpen:
		return sgrRed
	case finding.StatePredicted, finding.StateMended:
		return sgrYellow
	}
	return sgrGreen
}

// paint colours s, which holds no escape sequence.
func (s style) paint(sgr, text string) string {
	if !s.color || sgr == "" || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}
