package systemdreceiver

import (
	"os"
	"strings"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/yairfalse/tapio/internal/journal"
	"github.com/yairfalse/tapio/internal/machine"
)

// hostInfo is the machine, for the resource of every record. It is safe for
// concurrent use.
type hostInfo struct {
	name string
	// boot is the id of the kernel's boot, zero when it cannot be read.
	boot journal.ID

	mu sync.Mutex
	// machine is the id of the machine, "" while it is not known; sure says that it
	// is not only that of a file.
	machine string
	sure    bool
}

// bootIDFile is the kernel's, and the same in most containers.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// readHost takes name for the host's name, or asks the system when it is empty.
// Ids that cannot be read are left out.
func readHost(name string) (*hostInfo, error) {
	info, err := machine.Read(name, "")
	text, _ := os.ReadFile(bootIDFile)
	boot, bootErr := journal.ParseID(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if bootErr != nil {
		boot = journal.ID{}
	}
	return &hostInfo{name: info.Name, boot: boot, machine: info.ID}, err
}

// id is the id of the machine, "" while it is not known.
func (h *hostInfo) id() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.machine
}

// told takes the id that systemd tells.
func (h *hostInfo) told(machine string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.machine, h.sure = machine, true
}

// wrote takes the id of the machine that wrote an entry, if it did so in the boot of
// this kernel: then it is this one. What systemd tells is surer.
func (h *hostInfo) wrote(e *journal.Entry) {
	if e.Boot != h.boot || h.boot.IsZero() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sure {
		return
	}
	if machine := e.Get("_MACHINE_ID"); machine != "" {
		h.machine, h.sure = machine, true
	}
}

// describe puts the host into the attributes of a resource.
func (h *hostInfo) describe(attrs pcommon.Map) {
	machine.Info{Name: h.name, ID: h.id()}.Describe(attrs)
}
