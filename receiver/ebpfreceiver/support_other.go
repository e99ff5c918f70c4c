//go:build !linux || !(amd64 || arm64)

package ebpfreceiver

// Support has nothing to try on this system: no program runs.
func Support() []GroupSupport {
	defaults := createDefaultConfig().(*Config)
	var out []GroupSupport
	for _, name := range groupNames() {
		out = append(out, GroupSupport{Name: name, Default: isEnabled(&defaults.Programs, name)})
	}
	return out
}
