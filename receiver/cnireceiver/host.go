package cnireceiver

import (
	"os"
	"path/filepath"
	"strings"
)

// hostInfo is the machine, for the resource of every record.
type hostInfo struct {
	name, id string
}

// machineIDFile is where systemd and dbus keep the id of an installation.
const machineIDFile = "/etc/machine-id"

// readHost takes name for the host's name, or asks the system when it is empty.
// An id that cannot be read is left out.
func readHost(name, root string) (hostInfo, error) {
	var err error
	if name == "" {
		name, err = os.Hostname()
	}
	id, readErr := os.ReadFile(filepath.Join(root, machineIDFile))
	if readErr != nil {
		id = nil
	}
	return hostInfo{name: name, id: strings.TrimSpace(string(id))}, err
}
