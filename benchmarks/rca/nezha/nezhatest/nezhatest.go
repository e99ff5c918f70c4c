// Package nezhatest writes small recordings in the schema of the Nezha data set,
// for tests: three services that call each other, one of which gets slow.
package nezhatest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Start is when the case begins, Onset when its failure does.
var (
	Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	Onset = Start.Add(30 * time.Second)
)

// Root is the service that gets slow.
const Root = "svc-c"

const (
	header = "trace_id,span_id,parent_span_id,pod,service,name,start_unix_nano,end_unix_nano\n"
	// perSecond requests, each with a span in three services.
	perSecond = 2
)

// Write makes a directory with the case "one", a fault-free folder of the day
// before, and labels if wanted.
func Write(dir string, labels bool) error {
	for _, f := range []struct {
		path     string
		contents []byte
	}{
		{"one/spans.csv.gz", spans(Start, 3*time.Minute, Onset, 1)},
		{"one/logs.csv.gz", logs()},
		{"one/metrics.csv.gz", metrics()},
		{"baseline/before/spans.csv.gz", spans(Start.Add(-24*time.Hour), 5*time.Minute, time.Time{}, 1_000_000)},
	} {
		if err := File(filepath.Join(dir, f.path), f.contents); err != nil {
			return err
		}
	}
	if !labels {
		return nil
	}
	b, err := json.Marshal([]map[string]any{{
		"case": "one", "inject_unix": Onset.Unix(), "root_cause_service": Root, "fault_type": "cpu_contention",
	}})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "labels.json"), b, 0o600)
}

// File writes contents by gzip, with the folders that are missing.
func File(path string, contents []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(contents); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// spans are requests for a while; the last service is slow from slow on, unless
// that is zero.
func spans(start time.Time, length time.Duration, slow time.Time, id int) []byte {
	b := bytes.NewBufferString(header)
	for at := start; at.Before(start.Add(length)); at = at.Add(time.Second / perSecond) {
		work := 10*time.Millisecond + time.Duration(id%7)*time.Millisecond
		if !slow.IsZero() && !at.Before(slow) {
			work += 800 * time.Millisecond
		}
		parent := ""
		for depth, service := range []string{"svc-a", "svc-b", Root} {
			span := fmt.Sprintf("%016x", id*10+depth)
			begin := at.Add(time.Duration(depth) * time.Millisecond)
			end := at.Add(time.Duration(10-depth)*time.Millisecond + work)
			fmt.Fprintf(b, "%032x,%s,%s,%s-7d5,%s,op-%d,%d,%d\n", id, span, parent, service, service, depth, begin.UnixNano(), end.UnixNano())
			parent = span
		}
		id++
	}
	return b.Bytes()
}

// logs are one record of each service.
func logs() []byte {
	b := bytes.NewBufferString("time_unix_nano,node,pod,service,container,trace_id,span_id,severity,stream,body\n")
	for depth, service := range []string{"svc-a", "svc-b", Root} {
		fmt.Fprintf(b, "%d,node-1,%s-7d5,%s,server,%032x,%016x,WARN,stdout,\"hello, world\"\n",
			Start.Add(time.Second).UnixNano(), service, service, 1, 10+depth)
	}
	return b.Bytes()
}

// metrics are those of every minute from 20 minutes before the case.
func metrics() []byte {
	b := bytes.NewBufferString("time_unix,pod,service,CpuUsage(m),CpuUsageRate(%),MemoryUsage(Mi),MemoryUsageRate(%)," +
		"SyscallRead,SyscallWrite,NetworkReceiveBytes,NetworkTransmitBytes,NodeCpuUsageRate(%)\n")
	for at := Start.Add(-20 * time.Minute); at.Before(Start.Add(3 * time.Minute)); at = at.Add(time.Minute) {
		for _, service := range []string{"svc-a", "svc-b", Root} {
			cpu := 100
			if service == Root && at.After(Onset) {
				cpu = 950
			}
			fmt.Fprintf(b, "%d,%s-7d5,%s,%d,%d,200,20,0,0,1000,2000,\n", at.Unix(), service, service, cpu, cpu/10)
		}
	}
	return b.Bytes()
}
