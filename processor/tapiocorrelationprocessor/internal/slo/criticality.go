package slo

// Criticality is the value of service.criticality, as a rank.
type Criticality uint8

// The criticalities of the semantic conventions, the least first.
const (
	CriticalityUnknown Criticality = iota
	CriticalityLow
	CriticalityMedium
	CriticalityHigh
	CriticalityCritical
)

var criticalities = [...]string{"", "low", "medium", "high", "critical"}

// ParseCriticality reads the value of service.criticality; anything but the four
// values of the conventions is unknown.
func ParseCriticality(s string) Criticality {
	for i, name := range criticalities[1:] {
		if s == name {
			return Criticality(i + 1)
		}
	}
	return CriticalityUnknown
}

// String returns the value of the conventions, "" when it is unknown.
func (c Criticality) String() string {
	if int(c) >= len(criticalities) {
		return ""
	}
	return criticalities[c]
}
