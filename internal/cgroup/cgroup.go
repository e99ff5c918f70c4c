// Package cgroup reads out of the path of a cgroup who lives in it: a
// container, a pod, a systemd unit. It looks at the text alone, so it works for
// processes that are gone. Known are the layouts of docker, podman, containerd
// and CRI-O under the kubelet's cgroupfs and systemd drivers, on cgroup v1, v2
// and hybrid hosts, also nested (kind, docker in docker).
package cgroup

import "strings"

// Identity is what a path says. A field that the path does not tell is empty.
type Identity struct {
	// ContainerID is the id that the container runtime gave, without prefix.
	ContainerID string
	// PodUID is the UID that the kubelet uses: the UID of the pod object, or for
	// a static pod the hash of its file, 32 hexadecimal digits.
	PodUID string
	// Unit is the innermost systemd service, scope or other unit that is not a
	// slice and not the scope of a container.
	Unit string
}

// Parse reads a path such as /proc/PID/cgroup shows it. The innermost name of
// each kind wins, because containers and service managers nest.
func Parse(path string) Identity {
	var id Identity
	for path != "" {
		var name string
		path, name = cutLast(path)
		// containerd writes "slice:cri-containerd:id" where the kubelet has the
		// systemd driver and containerd has not. Units may hold colons too.
		if parts := strings.Split(name, ":"); len(parts) == 3 && containerID(parts[2]) != "" {
			id.add(parts[2])
			name = parts[0]
		}
		id.add(name)
	}
	return id
}

// add takes one name of a path; names come from the leaf up.
func (id *Identity) add(name string) {
	if c := containerID(name); c != "" {
		if id.ContainerID == "" {
			id.ContainerID = c
		}
		return
	}
	if uid := podUID(name); uid != "" {
		if id.PodUID == "" {
			id.PodUID = uid
		}
		return
	}
	if id.Unit == "" && isUnit(name) {
		// systemd puts an underscore before names that the kernel uses itself.
		id.Unit = strings.TrimPrefix(name, "_")
	}
}

// containerPrefixes come before the id in the name of a scope. crio-conmon and
// libpod-conmon are not there: those scopes hold the runtime's monitor process.
var containerPrefixes = []string{"docker-", "cri-containerd-", "containerd-", "crio-", "libpod-", "nerdctl-"}

func containerID(name string) string {
	name = strings.TrimSuffix(name, ".scope")
	for _, prefix := range containerPrefixes {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			name = rest
			break
		}
	}
	if isHex(name, 64) || isFargate(name) {
		return name
	}
	return ""
}

// isFargate recognizes the ids of AWS Fargate: 32 hexadecimal digits, a hyphen
// and up to 10 decimal ones.
func isFargate(name string) bool {
	task, number, ok := strings.Cut(name, "-")
	if !ok || !isHex(task, 32) || number == "" || len(number) > 10 {
		return false
	}
	return strings.Trim(number, "0123456789") == ""
}

// podUID reads "pod<uid>" (cgroupfs) and "kubepods-burstable-pod<uid>.slice"
// (systemd, which writes the hyphens of the uid as underscores).
func podUID(name string) string {
	uid, isSlice := strings.CutSuffix(name, ".slice")
	if isSlice {
		i := strings.LastIndex(uid, "-pod")
		if i < 0 || !strings.Contains(uid[:i], "kubepods") {
			return ""
		}
		uid = strings.ReplaceAll(uid[i+len("-pod"):], "_", "-")
	} else if rest, ok := strings.CutPrefix(uid, "pod"); ok {
		uid = rest
	} else {
		return ""
	}
	if isUUID(uid) || isHex(uid, 32) {
		return uid
	}
	return ""
}

// unitSuffixes are the types of systemd units that have a cgroup, but slices.
var unitSuffixes = []string{".service", ".scope", ".socket", ".mount", ".swap"}

func isUnit(name string) bool {
	if strings.HasPrefix(name, "crio-conmon-") || strings.HasPrefix(name, "libpod-conmon-") {
		return false
	}
	for _, suffix := range unitSuffixes {
		if len(name) > len(suffix) && strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch i {
		case 8, 13, 18, 23:
			if s[i] != '-' {
				return false
			}
		default:
			if !isHexDigit(s[i]) {
				return false
			}
		}
	}
	return true
}

func isHex(s string, digits int) bool {
	if len(s) != digits {
		return false
	}
	for i := range len(s) {
		if !isHexDigit(s[i]) {
			return false
		}
	}
	return true
}

func isHexDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
}

func cutLast(path string) (before, name string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}
