package netconf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// specVersions are those of the CNI specification that there are, the oldest first.
// libcni 1.3 hands any version on, but a plugin does nothing for a version that it
// was not built for, so that no pod gets a network with another one.
var specVersions = []string{"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// version reads the version that plugins are called with: cniVersion or, in a list of
// plugins, the highest of it and cniVersions that libcni knows.
func (r *reader) version(root *node, isList bool) string {
	version, at := r.text(root, "cniVersion", ""), root.field("cniVersion")
	if choice := root.field("cniVersions"); isList && choice != nil {
		version, at = r.newestOf(choice, version, at)
	}
	if version != "" && !slices.Contains(specVersions, version) {
		r.fail(orElse(at, root), "cniVersion: %q is not a version of the CNI specification; there are %s", version, strings.Join(specVersions, ", "))
	}
	return version
}

// newestOf is the highest version of a list and of version, which stands at a node,
// that is not above those that are known; version when all are.
func (r *reader) newestOf(choice *node, version string, at *node) (string, *node) {
	if choice.kind != kindList {
		r.fail(choice, "cniVersions: is %s, not a list of versions", choice.kind)
		return version, at
	}
	newest, newestAt := version, at
	known, _ := versionNumbers(specVersions[len(specVersions)-1])
	var highest []int
	consider := func(n *node, key, text string) {
		numbers, ok := versionNumbers(text)
		if !ok {
			r.fail(n, "%s: %q is not a version such as 1.0.0", key, text)
			return
		}
		if slices.Compare(numbers, known) <= 0 && slices.Compare(numbers, highest) > 0 {
			newest, newestAt, highest = text, n, numbers
		}
	}
	for i, item := range choice.items {
		key := fmt.Sprintf("cniVersions[%d]", i)
		text, isText := item.value.(string)
		if !isText {
			r.fail(item, "%s: is %s, not a string", key, item.kind)
			continue
		}
		consider(item, key, text)
	}
	if version != "" {
		consider(at, "cniVersion", version)
	}
	return newest, newestAt
}

// versionNumbers reads up to three numbers, as libcni does: those that are not there
// are 0, and no text is 0.1.0.
func versionNumbers(text string) ([]int, bool) {
	if text == "" {
		return []int{0, 1, 0}, true
	}
	numbers := make([]int, 3)
	parts := strings.Split(text, ".")
	if len(parts) > len(numbers) {
		return nil, false
	}
	for i, part := range parts {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil, false
		}
		numbers[i] = n
	}
	return numbers, true
}
