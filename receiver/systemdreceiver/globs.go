package systemdreceiver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/yairfalse/tapio/internal/section"
)

// unitTypes are the ends of the names of units (systemd.unit(5)).
var unitTypes = []string{
	".service", ".socket", ".mount", ".swap", ".target", ".device", ".automount", ".timer", ".path", ".slice", ".scope",
}

// globList is a list of globs of the configuration.
type globList struct {
	key   string
	globs []string
	// units says that they are of names of units.
	units bool
}

// validate returns one error for each glob that is none or, of units, that no unit can have.
func (l globList) validate() (errs []error) {
	for i, glob := range l.globs {
		if _, err := match(glob, ""); err != nil || glob == "" {
			errs = append(errs, fmt.Errorf("%s[%d]: %q is not a pattern of *, ?, [a-z] and plain characters", l.key, i, glob))
		} else if l.units && !canBeUnit(glob) {
			errs = append(errs, fmt.Errorf("%s[%d]: %q matches no unit: names end in %s and the like; do you mean %q?",
				l.key, i, glob, strings.Join(unitTypes[:3], ", "), withType(glob)))
		}
	}
	return errs
}

// canBeUnit says that a glob can match the name of some unit: its plain end is that of a
// type of units, or the other way round.
func canBeUnit(glob string) bool {
	end := glob[strings.LastIndexAny(glob, "*?]")+1:]
	return slices.ContainsFunc(unitTypes, func(unitType string) bool {
		return strings.HasSuffix(end, unitType) && glob != unitType || end != glob && strings.HasSuffix(unitType, end)
	})
}

// withType is what was meant by a glob without a type of units.
func withType(glob string) string {
	if dot := strings.LastIndexByte(glob, '.'); dot > 0 {
		if meant := section.Nearest(glob[dot:], unitTypes); meant != "" {
			return glob[:dot] + meant
		}
	}
	return glob + unitTypes[0]
}

// unmatched returns "key[index]: glob" of those of the user's own, which are not among the
// defaults, that match none of the names.
func (l globList) unmatched(defaults, names []string) (out []string) {
	for i, glob := range l.globs {
		if !slices.Contains(defaults, glob) && !slices.ContainsFunc(names, func(name string) bool { return mayMatch(glob, name) }) {
			out = append(out, fmt.Sprintf("%s[%d]: %s", l.key, i, glob))
		}
	}
	return out
}

// mayMatch says that a glob matches a unit, or an instance of a template such as
// getty@.service.
func mayMatch(glob, name string) bool {
	if ok, err := match(glob, name); ok && err == nil {
		return true
	}
	before, unitType, isTemplate := strings.Cut(name, "@.")
	start, instance, isInstance := strings.Cut(glob, "@")
	if !isTemplate || !isInstance {
		return false
	}
	same, err := match(start, before)
	return same && err == nil && (strings.HasSuffix(instance, "."+unitType) || strings.ContainsAny(instance, "*?]"))
}
