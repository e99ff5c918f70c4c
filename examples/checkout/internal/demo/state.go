package demo

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// Names of the files in the output directory. Each process also has NAME.log.
const (
	// StateFile says where everything listens and how payment ended (State).
	StateFile = "run.json"
	// ReportFile is the load generator's (load.Report).
	ReportFile = "report.json"
	// FindingFile is the finding that was printed, FindingsFile is all that there
	// were at the end.
	FindingFile  = "finding.json"
	FindingsFile = "findings.json"
	// DatabaseFile is where the collector keeps its findings.
	DatabaseFile = "findings.db"
)

// State is what one needs to look around during a run, and what happened.
type State struct {
	Fault Fault `json:"fault"`
	// PID is that of the orchestrator.
	PID       int            `json:"pid"`
	Collector CollectorState `json:"collector"`
	Payment   PaymentState   `json:"payment"`
	// Storefront is the base URL at which orders are taken.
	Storefront string `json:"storefront,omitempty"`
	// PIDs are those of all processes by name.
	PIDs map[string]int `json:"pids"`
}

// CollectorState says where the collector listens; addresses are host:port.
type CollectorState struct {
	OTLPGRPC string `json:"otlp_grpc"`
	OTLPHTTP string `json:"otlp_http"`
	// API is the base URL of the findings, for tapio --endpoint.
	API      string `json:"api"`
	Health   string `json:"health"`
	ZPages   string `json:"zpages"`
	Metrics  string `json:"metrics"`
	Database string `json:"database"`
}

// PaymentState describes the process that breaks.
type PaymentState struct {
	PID     int    `json:"pid,omitempty"`
	Address string `json:"address,omitempty"`
	Version string `json:"version,omitempty"`
	// Limit is "cgroup v1", "cgroup v2" or "RLIMIT_DATA", LimitBytes its size as
	// the kernel has it.
	Limit      string `json:"limit,omitempty"`
	LimitBytes int64  `json:"limit_bytes,omitempty"`
	// Cgroup is the directory of its memory cgroup.
	Cgroup string `json:"cgroup,omitempty"`
	// Ended says how the process ended ("signal: killed"), empty while it runs.
	Ended   string     `json:"ended,omitempty"`
	EndedAt *time.Time `json:"ended_at,omitempty"`
	// OOMKills is what the cgroup's own counter says, nil without a cgroup.
	OOMKills *int64 `json:"oom_kills,omitempty"`
}

// writeJSON replaces a file as a whole.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return nil
}
