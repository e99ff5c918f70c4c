// Package runtimelog reads in the logs of container runtimes, of the kubelet and
// of plugins that an operation of CNI failed. It is for hosts on which kernel
// programs cannot show the operations themselves.
package runtimelog

import (
	"regexp"
	"strings"
)

// Failure is an operation that failed, as a line tells.
type Failure struct {
	// Command is ADD, DEL or CHECK.
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

// marks are in every line that is read; looking for them is cheap.
var marks = []string{" failed (", "Final result of CNI "}

var (
	// libcni puts these words around what a plugin said (libcni/api.go, since
	// 1.0), and containerd, CRI-O and the kubelet pass them on, each with
	// quotation marks of its own around.
	libcni = regexp.MustCompile(`plugin type=(\\*)"([^"\\]+)\\*"(?: name=\\*"([^"\\]+)\\*")? failed \((add|delete|check)\): `)
	// Calico's plugin says this at the end of an operation.
	calico = regexp.MustCompile(`\[ERROR\]\[\d+\] \S+ \d+: Final result of CNI (ADD|DEL) was an error\. error=(.*)`)

	// The sandbox: containerd and the kubelet; CRI-O puts it behind the pod.
	sandbox = regexp.MustCompile(`(?:for sandbox \\*"|pod network sandbox \S+\()([0-9a-f]{64})`)
	// The pod: the kubelet; containerd; CRI-O.
	kubeletPod    = regexp.MustCompile(` pod="([^"/]+)/([^"]+)"`)
	containerdPod = regexp.MustCompile(`PodSandboxMetadata\{Name:([^,]+),Uid:([^,]+),Namespace:([^,]+),`)
	crioNetwork   = regexp.MustCompile(`to CNI network \\*"([^"\\]+)\\*"`)
)

var commands = map[string]string{"add": "ADD", "delete": "DEL", "check": "CHECK"}

// maxMessage is the longest message in bytes; the rest of a longer one is cut.
const maxMessage = 1024

// Parse returns the failure that a line tells, false when it tells none.
func Parse(line string) (Failure, bool) {
	if !strings.Contains(line, marks[0]) && !strings.Contains(line, marks[1]) {
		return Failure{}, false
	}
	if m := calico.FindStringSubmatch(line); m != nil {
		return Failure{Command: m[1], Plugin: "calico", Message: cut(m[2])}, true
	}
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
	if m := crioNetwork.FindStringSubmatch(line); m != nil && f.Network == "" {
		f.Network = m[1]
	}
}
