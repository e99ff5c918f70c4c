package ebpfreceiver

import "reflect"

// GroupSupport is what this machine supports of one group of programs.
type GroupSupport struct {
	// Name is the group's key below programs in the configuration.
	Name string `json:"name"`
	// Default says that the group is on unless the configuration disables it.
	Default bool `json:"default"`
	// Programs are in the order in which the receiver attaches them.
	Programs []ProgramSupport `json:"programs"`
}

// ProgramSupport is what this machine supports of one program.
type ProgramSupport struct {
	Name string `json:"name"`
	// Tells is what nobody sees without the program.
	Tells string `json:"tells"`
	// Hook is where it is attached, such as tp_btf/sched_process_exec; empty for what
	// is no kernel program.
	Hook string `json:"hook,omitempty"`
	// Needs are the features of the kernel that it uses, as its object file has them.
	Needs []Need `json:"needs,omitempty"`
	// Runs says that it was loaded and attached, and is detached again.
	Runs bool `json:"runs"`
	// Denied says that this process may not try, which says nothing about the kernel.
	Denied bool `json:"denied,omitempty"`
	// Reason is, of what does not run, what is missing and how to get it.
	Reason string `json:"reason,omitempty"`
}

// Need is a feature of the kernel that a program uses.
type Need struct {
	// Kind is tracepoint, helper or map.
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Has says whether this kernel has it: yes, no or unknown.
	Has string `json:"has"`
}

// Values of Need.Has.
const (
	NeedIsThere   = "yes"
	NeedIsMissing = "no"
	NeedIsUnknown = "unknown"
)

// groupNames are the keys of ProgramsConfig.
func groupNames() (names []string) {
	for field := range reflect.TypeFor[ProgramsConfig]().Fields() {
		names = append(names, field.Tag.Get("mapstructure"))
	}
	return names
}

// isEnabled is the key enabled of a group.
func isEnabled(p *ProgramsConfig, group string) bool {
	return groupOf(p, group).FieldByName("Enabled").Bool()
}

// onlyGroup is the default configuration with one group, and all that can be
// switched on in it.
func onlyGroup(group string) *Config {
	cfg := createDefaultConfig().(*Config)
	for _, name := range groupNames() {
		groupOf(&cfg.Programs, name).FieldByName("Enabled").SetBool(false)
	}
	for field, value := range groupOf(&cfg.Programs, group).Fields() {
		if field.Type.Kind() == reflect.Bool {
			value.SetBool(true)
		}
	}
	if cfg.Programs.TLS.Enabled { // it looks for requests where that one keeps them
		cfg.Programs.HTTP.Enabled = true
	}
	return cfg
}

func groupOf(p *ProgramsConfig, group string) reflect.Value {
	value := reflect.ValueOf(p).Elem()
	for field, v := range value.Fields() {
		if field.Tag.Get("mapstructure") == group {
			return v
		}
	}
	panic("no group " + group) // names come from groupNames
}
