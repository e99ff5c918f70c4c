// Package runtimelog reads in the logs of container runtimes, of the kubelet and
// of plugins that an operation of CNI failed. It is for hosts on which kernel
// programs cannot show the operations themselves.
package runtimelog

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// Failure is an operation that failed, as a line tells.
type Failure struct {
	// Command is ADD, DEL, CHECK, GC or STATUS; empty when the line does not tell.
	Command string
	// Plugin is its type, Network the name of the network; empty when the line
	// does not tell.
	Plugin, Network string
	// Message is what the plugin said.
	Message string
	// ContainerID, PodName, PodNamespace and PodUID are empty when the line does
	// not tell.
	ContainerID, PodName, PodNamespace, PodUID string
}

// Format is a way in which failures are logged.
type Format struct {
	// marks are such that one of them is in every line that tells a failure: most
	// lines are of something else, and looking for a mark is cheap.
	marks []string
	parse func(line string) []Failure
}

// Parse returns the failures that a line of the format tells, in its order: none
// for most lines, several where a runtime joins them.
func (f Format) Parse(line string) []Failure {
	for _, mark := range f.marks {
		if strings.Contains(line, mark) {
			all := f.parse(line)
			for i := range all {
				all[i].clean()
			}
			return all
		}
	}
	return nil
}

// clean leaves out what cannot be a name or an id: a line may be of anybody.
func (f *Failure) clean() {
	for _, name := range []*string{&f.Plugin, &f.Network, &f.ContainerID, &f.PodName, &f.PodNamespace, &f.PodUID} {
		*name = word(*name)
	}
}

// maxWord is the longest name in bytes, twice that of Kubernetes.
const maxWord = 512

func word(text string) string {
	isOdd := func(c rune) bool { return c <= ' ' || c == 0x7f || c == utf8.RuneError }
	if len(text) > maxWord || strings.ContainsFunc(text, isOdd) {
		return ""
	}
	return text
}

// Runtime is what containerd, CRI-O, the kubelet and others say that call plugins
// with libcni. Read from the sources of libcni 1.3 (libcni/api.go), ocicni
// (GC, GetPodNetworkStatus) and containerd 2.2 (internal/cri/server/status.go).
var Runtime = Format{
	marks: []string{" failed (", "failed to GC plugin ", "error checking pod ", "reason:NetworkPluginNotReady"},
	parse: parseRuntime,
}

var (
	// libcni puts these words around what a plugin said at ADD and DEL, and those
	// who call it pass them on, each with quotation marks of its own around.
	libcni = regexp.MustCompile(`plugin type=(\\*)"([^"\\]+)\\*"(?: name=\\*"([^"\\]+)\\*")? failed \((add|delete)\): `)
	// It says this of GC, which CRI-O asks for, and joins the failures.
	collected   = regexp.MustCompile(`failed to GC plugin (\S+): `)
	gcedNetwork = regexp.MustCompile(`Error while GCing network (\S+): `)
	// Around the failure of a CHECK it puts nothing; CRI-O says whose it was.
	checked = regexp.MustCompile(`error checking pod \S+ for CNI network (\\*)"[^"\\]+\\*": `)
	// Nor does it around the failure of a STATUS, which runtimes put into their
	// own status. The kubelet asks for that every five seconds and logs it.
	status = regexp.MustCompile(`reason:NetworkPluginNotReady message:(?:Network plugin returns error: )?`)

	// The sandbox: containerd and the kubelet; CRI-O puts it behind the pod; libcni
	// names it when it collects what is left of it.
	sandbox = regexp.MustCompile(`(?:for sandbox \\*"|pod network sandbox \S+\(|stale attachment )([0-9a-f]{64})`)
	// The pod: the kubelet; containerd; CRI-O, with the network.
	kubeletPod    = regexp.MustCompile(` pod="([^"/]+)/([^"]+)"`)
	containerdPod = regexp.MustCompile(`PodSandboxMetadata\{Name:([^,]+),Uid:([^,]+),Namespace:([^,]+),`)
	crioPod       = regexp.MustCompile(`error (?:adding|removing|checking) pod ([^_\s]+)_(\S+) (?:to|from|for) CNI network \\*"([^"\\]+)\\*"`)
)

var commands = map[string]string{"add": "ADD", "delete": "DEL"}

// unconfigured are the reasons of runtimes for not being ready that no plugin
// gave: they have no configuration, of which other events tell.
var unconfigured = []string{"cni plugin not initialized", "cni config uninitialized", "No CNI configuration file in "}

func parseRuntime(line string) []Failure {
	if m := collected.FindStringIndex(line); m != nil || gcedNetwork.MatchString(line) {
		return parseCollected(line)
	}
	if f, ok := parseLibcni(line); ok {
		return []Failure{f}
	}
	if at := checked.FindStringSubmatchIndex(line); at != nil {
		f := Failure{Command: "CHECK", Message: cut(unquote(line[at[1]:], at[3]-at[2]))}
		f.readOwner(line)
		return []Failure{f}
	}
	if at := status.FindStringIndex(line); at != nil {
		return parseStatus(line[:at[0]], line[at[1]:])
	}
	return nil
}

// parseLibcni reads a failed ADD or DEL.
func parseLibcni(line string) (Failure, bool) {
	at := libcni.FindStringSubmatchIndex(line)
	if at == nil {
		return Failure{}, false
	}
	group := func(i int) string {
		if at[2*i] < 0 {
			return ""
		}
		return line[at[2*i]:at[2*i+1]]
	}
	f := Failure{Plugin: group(2), Network: group(3), Command: commands[group(4)]}
	f.Message = cut(unquote(line[at[1]:], len(group(1))))
	f.readOwner(line)
	return f, true
}

// maxJoined bounds the failures of one line.
const maxJoined = 64

// parseCollected reads the failures of a GC, which are DELs of what nobody needs
// any more, and GCs of plugins. They are joined by a line's end, of which a
// quoted string has two characters.
func parseCollected(line string) []Failure {
	network := ""
	if m := gcedNetwork.FindStringSubmatch(line); m != nil {
		network = m[1]
	}
	var all []Failure
	for part := range strings.SplitSeq(line, `\n`) {
		f, ok := parseLibcni(part)
		if !ok {
			at := collected.FindStringSubmatchIndex(part)
			if at == nil {
				continue
			}
			f = Failure{Command: "GC", Plugin: part[at[2]:at[3]], Message: cut(unquote(part[at[1]:], quotedAround(line)))}
		}
		if f.Network == "" {
			f.Network = network
		}
		if all = append(all, f); len(all) == maxJoined {
			break
		}
	}
	return all
}

// parseStatus reads why a runtime's network is not ready.
func parseStatus(before, message string) []Failure {
	message = cut(unquote(message, quotedAround(before)))
	for _, reason := range unconfigured {
		if strings.HasPrefix(message, reason) {
			return nil
		}
	}
	if message == "" {
		return nil
	}
	return []Failure{{Command: "STATUS", Message: message}}
}

// quotedAround is how many backslashes stand before a quotation mark of the text
// that follows: one when before opens a string, as loggers do with their fields.
func quotedAround(before string) int {
	if strings.Contains(before, `="`) {
		return 1
	}
	return 0
}

// unquote returns the text up to the quotation mark that ends the string around
// it. escapes is how many backslashes stand before a mark inside of that string:
// with none there is no string around, and the text is the rest of the line.
func unquote(text string, escapes int) string {
	if escapes == 0 {
		return text
	}
	slashes := 0
	for i := range len(text) {
		switch {
		case text[i] == '\\':
			slashes++
			continue
		case text[i] == '"' && slashes < escapes:
			return unescape(text[:i-slashes], escapes)
		}
		slashes = 0
	}
	return unescape(text, escapes)
}

func unescape(text string, escapes int) string {
	return strings.ReplaceAll(text, strings.Repeat(`\`, escapes)+`"`, `"`)
}

// maxMessage is the longest message in bytes; the rest of a longer one is cut.
const maxMessage = 1024

func cut(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "")
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// readOwner reads whose operation it was.
func (f *Failure) readOwner(line string) {
	if m := sandbox.FindStringSubmatch(line); m != nil {
		f.ContainerID = m[1]
	}
	if m := containerdPod.FindStringSubmatch(line); m != nil {
		f.PodName, f.PodUID, f.PodNamespace = m[1], m[2], m[3]
	} else if m := kubeletPod.FindStringSubmatch(line); m != nil {
		f.PodNamespace, f.PodName = m[1], m[2]
	}
	m := crioPod.FindStringSubmatch(line)
	if m == nil {
		return
	}
	if f.Network == "" {
		f.Network = m[3]
	}
	if f.PodName == "" {
		f.PodNamespace, f.PodName = m[1], m[2]
	}
}
