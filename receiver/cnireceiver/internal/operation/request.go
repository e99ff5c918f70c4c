package operation

import (
	"bytes"
	"path"
	"slices"
	"strings"
)

// Request is what a plugin was asked, from its environment. Values are valid
// UTF-8 without control characters; "" means not said.
type Request struct {
	// Command is ADD, DEL, CHECK, GC, STATUS or VERSION.
	Command string
	// ContainerID names the sandbox.
	ContainerID string
	// Netns is the path of its network namespace.
	Netns string
	// Interface is the name that the interface gets inside.
	Interface string
	// PodName, PodNamespace and PodUID are those of Kubernetes, from CNI_ARGS.
	PodName, PodNamespace, PodUID string
	// InfraContainerID is K8S_POD_INFRA_CONTAINER_ID of CNI_ARGS.
	InfraContainerID string

	// searchPath is CNI_PATH.
	searchPath string
}

// commands are those of the CNI specification, version 1.1.0.
var commands = map[string]bool{"ADD": true, "DEL": true, "CHECK": true, "GC": true, "STATUS": true, "VERSION": true}

// maxVariable is how much of a variable the kernel program keeps (TAPIO_CNI_VAR in
// bpf/cni.h, without the NUL): one of that length may have been longer.
const maxVariable = 1023

// parseRequest reads the variables of an environment. Of a name that is there
// twice the first counts, as for getenv(3). Of a variable that was cut, the value that
// ends there is left out: half a name is another's.
func parseRequest(env []byte) Request {
	var r Request
	var args string
	fields := map[string]*string{
		"CNI_COMMAND": &r.Command, "CNI_CONTAINERID": &r.ContainerID, "CNI_NETNS": &r.Netns,
		"CNI_IFNAME": &r.Interface, "CNI_ARGS": &args, "CNI_PATH": &r.searchPath,
	}
	for variable := range bytes.SplitSeq(env, []byte{0}) {
		name, value, _ := strings.Cut(string(variable), "=")
		if field, ok := fields[name]; ok {
			if len(variable) >= maxVariable {
				value = value[:strings.LastIndexAny(value, separators[name])+1]
			}
			*field = clean(value)
			delete(fields, name)
		}
	}
	r.parseArgs(args)
	return r
}

// separators are what is between the values of the variables that have several.
var separators = map[string]string{"CNI_ARGS": ";", "CNI_PATH": ":"}

// parseArgs reads CNI_ARGS: NAME=value, separated by semicolons. Of a name that is there
// twice the last counts, as for plugins (LoadArgs in pkg/types of containernetworking/cni).
func (r *Request) parseArgs(args string) {
	fields := map[string]*string{
		"K8S_POD_NAME": &r.PodName, "K8S_POD_NAMESPACE": &r.PodNamespace, "K8S_POD_UID": &r.PodUID,
		"K8S_POD_INFRA_CONTAINER_ID": &r.InfraContainerID,
	}
	for arg := range strings.SplitSeq(args, ";") {
		name, value, _ := strings.Cut(arg, "=")
		if field, ok := fields[name]; ok {
			*field = value
		}
	}
}

// executable returns the path of the plugin that began, false when it is none.
// Plugins are found in CNI_PATH; what else inherits their environment, such as the
// iptables that portmap runs, is not. They may be called by a relative path, or
// through a symbolic link, which resolve follows. Without CNI_PATH whoever is not the
// child of a plugin is one.
func (r *Request) executable(e Exec, hasParent bool, resolve func(string) string) (string, bool) {
	cwd := clean(e.Dir)
	executed := absolute(clean(e.Path), cwd)
	if r.searchPath == "" {
		return executed, !hasParent
	}
	var dirs []string
	for d := range strings.SplitSeq(r.searchPath, ":") {
		if d != "" {
			dirs = append(dirs, absolute(d, cwd))
		}
	}
	if slices.Contains(dirs, path.Dir(executed)) {
		return executed, true
	}
	if !path.IsAbs(executed) || strings.HasPrefix(executed, byDescriptor) {
		return executed, false
	}
	file, dir := resolve(executed), resolve(path.Dir(executed))
	for _, d := range dirs {
		switch resolve(d) {
		case dir:
			return executed, true
		case path.Dir(file):
			return file, true
		}
	}
	return executed, false
}

// byDescriptor begins the kernel's name of what was executed by a file descriptor: a
// link that means another file to everybody.
const byDescriptor = "/dev/fd/"

// absolute makes a path absolute, as far as it is known from where it begins.
func absolute(to, cwd string) string {
	if path.IsAbs(to) || cwd == "" {
		return path.Clean(to)
	}
	return path.Join(cwd, to)
}

// clean makes bytes of anybody fit for people: valid UTF-8 and, in place of a
// control character, a space.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
