// Package exitstatus names the exit codes with which systemd says that it could not even
// run the process of a unit: 200 to 244, as in systemd.exec(5) and in the output of
// "systemctl status". A program can end with such a code by itself, too.
package exitstatus

import "fmt"

type status struct{ name, meaning string }

// statuses are those of systemd.exec(5), "Process Exit Codes".
var statuses = map[int64]status{
	200: {"CHDIR", "its working directory could not be entered"},
	201: {"NICE", "its nice level could not be set"},
	202: {"FDS", "its file descriptors could not be arranged"},
	203: {"EXEC", "its executable could not be run"},
	204: {"MEMORY", "there was no memory to start it"},
	205: {"LIMITS", "its resource limits could not be set"},
	206: {"OOM_ADJUST", "its OOM score could not be set"},
	207: {"SIGNAL_MASK", "its signal mask could not be set"},
	208: {"STDIN", "its standard input could not be opened"},
	209: {"STDOUT", "its standard output could not be opened"},
	210: {"CHROOT", "its root directory could not be entered"},
	211: {"IOPRIO", "its I/O priority could not be set"},
	212: {"TIMERSLACK", "its timer slack could not be set"},
	213: {"SECUREBITS", "its secure bits could not be set"},
	214: {"SETSCHEDULER", "its CPU scheduling could not be set"},
	215: {"CPUAFFINITY", "its CPU affinity could not be set"},
	216: {"GROUP", "its group or supplementary groups could not be determined or taken on"},
	217: {"USER", "its user could not be determined or taken on, or its user namespace could not be set up"},
	218: {"CAPABILITIES", "its capabilities could not be set"},
	219: {"CGROUP", "its control group could not be set up"},
	220: {"SETSID", "a session of its own could not be made"},
	221: {"CONFIRM", "its start was cancelled"},
	222: {"STDERR", "its standard error could not be opened"},
	224: {"PAM", "its PAM session could not be set up"},
	225: {"NETWORK", "its network namespace could not be set up"},
	226: {"NAMESPACE", "its mount, UTS or IPC namespace could not be set up: often a path of its sandbox is not there"},
	227: {"NO_NEW_PRIVILEGES", "new privileges could not be ruled out for it"},
	228: {"SECCOMP", "its system call filter could not be set"},
	229: {"SELINUX_CONTEXT", "its SELinux context could not be determined or set"},
	230: {"PERSONALITY", "its execution domain could not be set"},
	231: {"APPARMOR", "its AppArmor profile could not be prepared"},
	232: {"ADDRESS_FAMILIES", "its address families could not be restricted"},
	233: {"RUNTIME_DIRECTORY", "its runtime directory could not be set up"},
	235: {"CHOWN", "the owner of its socket could not be changed"},
	236: {"SMACK_PROCESS_LABEL", "its SMACK label could not be set"},
	237: {"KEYRING", "its kernel keyring could not be set up"},
	238: {"STATE_DIRECTORY", "its state directory could not be set up"},
	239: {"CACHE_DIRECTORY", "its cache directory could not be set up"},
	240: {"LOGS_DIRECTORY", "its logs directory could not be set up"},
	241: {"CONFIGURATION_DIRECTORY", "its configuration directory could not be set up"},
	242: {"NUMA_POLICY", "its NUMA policy could not be set"},
	243: {"CREDENTIALS", "its credentials could not be set up"},
	244: {"BPF", "its BPF programs could not be set up"},
}

// Name returns how systemd calls an exit code and what it could not do, "" and "" for
// those to which it gives no meaning.
func Name(code int64) (name, meaning string) {
	s := statuses[code]
	return s.name, s.meaning
}

// Words writes an exit code with its meaning: "203 (EXEC: its executable could not be run)".
func Words(code int64) string {
	if s, ok := statuses[code]; ok {
		return fmt.Sprintf("%d (%s: %s)", code, s.name, s.meaning)
	}
	return fmt.Sprint(code)
}
