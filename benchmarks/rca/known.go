package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/yairfalse/tapio/internal/finding"
)

// known is a failure that somebody found in a fault-free recording, by other means
// than the engine: a finding that names it is right.
type known struct {
	// Recording is the folder, Entity the name of the root cause, Peer the other service
	// that the finding names, "" for any.
	Recording string `json:"recording"`
	Entity    string `json:"entity"`
	Peer      string `json:"peer"`
	// Reason is how it is known to be real.
	Reason string `json:"reason"`
}

// readKnown reads a JSON list of known failures. Each must say where, who and how one
// knows.
func readKnown(path string) ([]known, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []known
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i, k := range out {
		if k.Recording == "" || k.Entity == "" || k.Reason == "" {
			return nil, fmt.Errorf("%s: element %d: want recording, entity and reason", path, i)
		}
	}
	return out, nil
}

// reason returns how the failure that a finding names is known, "" when it is not.
func reason(all []known, recording string, f *finding.Finding) string {
	peer, _ := f.RootCause.Evidence["tapio.peer"].(string)
	for _, k := range all {
		if k.Recording == recording && k.Entity == f.RootCause.Entity.Name && (k.Peer == "" || k.Peer == peer) {
			return k.Reason
		}
	}
	return ""
}
