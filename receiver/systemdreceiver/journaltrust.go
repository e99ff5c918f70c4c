package systemdreceiver

import (
	"path"
	"strings"
)

// sender is who wrote an entry, by what journald says of it: no client can forge these
// fields. Those of a process that ended at once may be empty, but for pid, uid and
// transport.
type sender struct {
	pid, uid, comm, unit, cgroup, transport string
}

// read takes one field.
func (s *sender) read(name, value string) {
	switch name {
	case "_PID":
		s.pid = value
	case "_UID":
		s.uid = value
	case "_COMM":
		s.comm = value
	case "_SYSTEMD_UNIT":
		s.unit = value
	case "_SYSTEMD_CGROUP":
		s.cgroup = value
	case "_TRANSPORT":
		s.transport = value
	}
}

// isManager says that it is the systemd of the machine, not that of a user.
func (s *sender) isManager() bool { return s.pid == "1" && s.uid == "0" }

// isService says that it is root in one of these units, which only the manager starts.
func (s *sender) isService(units ...string) bool {
	for _, unit := range units {
		if s.uid == "0" && s.unit == unit && s.isAlone() {
			return true
		}
	}
	return false
}

// isAlone says that it is in the control group of its unit itself, not in one that the
// unit made below it: those of containers are.
func (s *sender) isAlone() bool {
	group := strings.TrimSuffix(s.cgroup, "/.control") // of ExecStartPre and the like
	return s.unit != "" && path.Base(group) == s.unit
}

// isCoredump says that it is systemd-coredump: its service, which has a user of its own,
// or what the kernel starts for a crash of systemd itself.
func (s *sender) isCoredump() bool {
	if strings.HasPrefix(s.unit, "systemd-coredump@") && strings.HasSuffix(s.unit, ".service") {
		return true
	}
	return s.uid == "0" && s.comm == "systemd-coredum" && (s.cgroup == "/" || s.cgroup == "/init.scope")
}

// isExecuting says that it is a process that the manager made in order to execute a
// program of unit. Such a process ends at once: journald often finds nothing of it but
// its user.
func (s *sender) isExecuting(unit string) bool {
	switch {
	case s.uid != "0":
		return false
	case s.unit == "" && s.cgroup == "", s.unit == "init.scope":
		return true
	}
	return s.unit == unit && s.isAlone()
}

// isLogDriver says that it may tell of which container an entry is: root outside of all
// containers, as dockerd and conmon are.
func (s *sender) isLogDriver(container string) bool {
	return s.uid == "0" && s.cgroup != "" && container == ""
}

// sleepUnits are the services that suspend the machine.
var sleepUnits = []string{
	"systemd-suspend.service", "systemd-hibernate.service", "systemd-hybrid-sleep.service", "systemd-suspend-then-hibernate.service",
}

// fromSystemd says that the part of systemd wrote an entry that writes those with its
// message id: anybody can send any id.
func fromSystemd(e *entry) bool {
	switch e.messageID {
	case messageJournalDropped, messageJournalMissed:
		return e.sender.transport == "driver"
	case messageCoredump:
		return e.sender.isCoredump()
	case messageSpawnFailed:
		return e.sender.isExecuting(e.objectUnit)
	case messageTimeChange:
		return e.sender.isManager() || e.sender.isService("systemd-timedated.service")
	case messageShutdown:
		return e.sender.isService("systemd-logind.service")
	case messageSleepStart, messageSleepStop:
		return e.sender.isService(sleepUnits...)
	}
	return e.sender.isManager()
}
