// Package machine says which machine this is: host.name and host.id of all that the
// receivers of kernel, units and container network tell, so that they agree.
package machine

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/internal/event"
)

// Info is the machine, for the resource of a record.
type Info struct {
	// Name is host.name, ID host.id: the machine id of machine-id(5), "" when unknown.
	Name, ID string
}

// Read takes name for the machine's name, or asks the system when it is empty; the error
// is that of asking. The id is that of the file system whose root is mounted at root, or
// "" where there is no such mount; else of the first process that can be seen, which in a
// container that shares the host's pid namespace is the host's; else of the collector's own.
// An id that cannot be read is left out: most containers have none.
func Read(name, root string) (Info, error) {
	var err error
	if name == "" {
		name, err = os.Hostname()
	}
	return Info{Name: name, ID: firstID(root, "/proc/1/root", "/")}, err
}

// files are where systemd, and D-Bus where there is no systemd, keep the id.
var files = []string{"etc/machine-id", "var/lib/dbus/machine-id"}

// valid is what they hold. While a machine boots for the first time, it is another word.
var valid = regexp.MustCompile(`^[0-9a-f]{32}$`)

func firstID(roots ...string) string {
	for _, root := range roots {
		for _, file := range files {
			if root == "" {
				continue
			}
			text, err := os.ReadFile(filepath.Join(root, file))
			if id := strings.TrimSpace(string(text)); err == nil && valid.MatchString(id) {
				return id
			}
		}
	}
	return ""
}

// Describe puts the machine into the attributes of a resource.
func (i Info) Describe(attrs pcommon.Map) {
	attrs.PutStr(event.KeyHostName, i.Name)
	if i.ID != "" {
		attrs.PutStr(event.KeyHostID, i.ID)
	}
}
