package systemdreceiver

import (
	"os"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/internal/event"
)

// hostInfo is the machine, for the resource of every record.
type hostInfo struct {
	name, id string
}

// machineIDFile is where systemd keeps the id of an installation.
const machineIDFile = "/etc/machine-id"

// readHost takes name for the host's name, or asks the system when it is empty.
// An id that cannot be read is left out: most containers have none.
func readHost(name string) (hostInfo, error) {
	var err error
	if name == "" {
		name, err = os.Hostname()
	}
	id, readErr := os.ReadFile(machineIDFile)
	if readErr != nil {
		id = nil
	}
	return hostInfo{name: name, id: strings.TrimSpace(string(id))}, err
}

// describe puts the host into the attributes of a resource.
func (h hostInfo) describe(attrs pcommon.Map) {
	attrs.PutStr(event.KeyHostName, h.name)
	if h.id != "" {
		attrs.PutStr(event.KeyHostID, h.id)
	}
}
