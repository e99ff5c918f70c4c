package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"gopkg.in/yaml.v3"
)

// metadata is the part of a component's metadata.yaml that the page shows. What
// mdatagen also knows and the page does not is left out; mdatagen itself checks
// the file as a whole.
type metadata struct {
	Type               string               `yaml:"type"`
	Description        string               `yaml:"description"`
	Status             status               `yaml:"status"`
	ResourceAttributes map[string]attribute `yaml:"resource_attributes"`
	Attributes         map[string]attribute `yaml:"attributes"`
	Events             map[string]event     `yaml:"events"`
	Telemetry          struct {
		Metrics map[string]metric `yaml:"metrics"`
	} `yaml:"telemetry"`

	// folder is where it was found, below the root, with slashes.
	folder string
}

type status struct {
	Class     string              `yaml:"class"`
	Stability map[string][]string `yaml:"stability"`
}

type attribute struct {
	Description      string   `yaml:"description"`
	NameOverride     string   `yaml:"name_override"`
	Type             string   `yaml:"type"`
	Enum             []string `yaml:"enum"`
	RequirementLevel string   `yaml:"requirement_level"`
}

type event struct {
	Enabled               bool     `yaml:"enabled"`
	Description           string   `yaml:"description"`
	ExtendedDocumentation string   `yaml:"extended_documentation"`
	Attributes            []string `yaml:"attributes"`
}

// metric is one that a component counts of itself. Which of the three kinds it is, the
// key that is there tells.
type metric struct {
	Enabled               bool      `yaml:"enabled"`
	Description           string    `yaml:"description"`
	ExtendedDocumentation string    `yaml:"extended_documentation"`
	Unit                  string    `yaml:"unit"`
	Attributes            []string  `yaml:"attributes"`
	Sum                   *struct{} `yaml:"sum"`
	Gauge                 *struct{} `yaml:"gauge"`
	Histogram             *struct{} `yaml:"histogram"`
}

// load reads the metadata.yaml of every component below root (class/component/
// metadata.yaml) that declares events or metrics of its own, sorted by folder. It fails
// for a file that is no YAML and for one with an attribute that the file does not
// declare.
func load(root string) ([]metadata, error) {
	files, err := filepath.Glob(filepath.Join(root, "*", "*", "metadata.yaml"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var components []metadata
	for _, file := range files {
		m, err := read(root, file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(m.Events) > 0 || len(m.Telemetry.Metrics) > 0 {
			components = append(components, m)
		}
	}
	return components, nil
}

func read(root, file string) (metadata, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return metadata{}, err
	}
	var m metadata
	if err := yaml.Unmarshal(b, &m); err != nil {
		return metadata{}, err
	}
	folder, err := filepath.Rel(root, filepath.Dir(file))
	if err != nil {
		return metadata{}, err
	}
	m.folder = filepath.ToSlash(folder)
	return m, m.check()
}

func (m *metadata) check() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(m.Events)) {
		for _, key := range m.Events[name].Attributes {
			if _, ok := m.Attributes[key]; !ok {
				errs = append(errs, fmt.Errorf("events::%s::attributes: %q is not declared under attributes", name, key))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Telemetry.Metrics)) {
		for _, key := range m.Telemetry.Metrics[name].Attributes {
			if _, ok := m.Attributes[key]; !ok {
				errs = append(errs, fmt.Errorf("telemetry::metrics::%s::attributes: %q is not declared under attributes", name, key))
			}
		}
	}
	return errors.Join(errs...)
}
