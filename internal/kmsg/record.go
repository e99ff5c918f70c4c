package kmsg

import (
	"bytes"
	"fmt"
	"strconv"
	"time"
)

// Record is one record of /dev/kmsg.
type Record struct {
	// Level is the syslog level, 0 (emergency) to 7 (debug).
	Level int
	// Facility is 0 when the kernel itself wrote it; programs that write to
	// /dev/kmsg cannot choose 0.
	Facility int
	// Sequence is the number of the record; a gap is a loss.
	Sequence uint64
	// SinceBoot is the kernel's clock when it was written.
	SinceBoot time.Duration
	// Message is the line, without the escapes of /dev/kmsg.
	Message string
	// Device and Subsystem say which device it is about, in the kernel's form
	// (b8:0 for a block device, n2 for a network interface, +pci:0000:00:1f.2).
	Device, Subsystem string
}

// ParseRecord reads what one read(2) of /dev/kmsg returns, as described in the
// kernel's Documentation/ABI/testing/dev-kmsg: "level,sequence,µs,flags;text",
// and lines of " KEY=value" after it.
func ParseRecord(b []byte) (Record, error) {
	prefix, rest, ok := bytes.Cut(b, []byte(";"))
	fields := bytes.SplitN(prefix, []byte(","), 4)
	if !ok || len(fields) < 3 {
		return Record{}, fmt.Errorf("kernel record without a prefix: %.64q", b)
	}
	priority, err := strconv.ParseUint(string(fields[0]), 10, 16)
	if err != nil {
		return Record{}, fmt.Errorf("kernel record: priority %.16q", fields[0])
	}
	sequence, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return Record{}, fmt.Errorf("kernel record: sequence number %.32q", fields[1])
	}
	micros, err := strconv.ParseUint(string(fields[2]), 10, 53)
	if err != nil {
		return Record{}, fmt.Errorf("kernel record: time %.32q", fields[2])
	}
	message, dictionary, _ := bytes.Cut(rest, []byte("\n"))
	r := Record{
		Level: int(priority & 7), Facility: int(priority >> 3), Sequence: sequence,
		SinceBoot: time.Duration(micros) * time.Microsecond, Message: unescape(message),
	}
	for pair := range bytes.SplitSeq(dictionary, []byte("\n")) {
		key, value, _ := bytes.Cut(bytes.TrimPrefix(pair, []byte(" ")), []byte("="))
		switch string(key) {
		case "DEVICE":
			r.Device = unescape(value)
		case "SUBSYSTEM":
			r.Subsystem = unescape(value)
		}
	}
	return r, nil
}

// unescape turns \xNN into the byte that it stands for.
func unescape(b []byte) string {
	if !bytes.Contains(b, []byte(`\x`)) {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+3 < len(b) && b[i+1] == 'x' {
			if n, err := strconv.ParseUint(string(b[i+2:i+4]), 16, 8); err == nil {
				out = append(out, byte(n))
				i += 3
				continue
			}
		}
		out = append(out, b[i])
	}
	return string(out)
}
