package systemdreceiver

import (
	"errors"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"

	"github.com/yairfalse/tapio/internal/section"
	"github.com/yairfalse/tapio/receiver/systemdreceiver/internal/metadata"
)

// Config says what to watch.
type Config struct {
	metadata.LogsBuilderConfig `mapstructure:",squash"`

	// HostName is the host.name of all records; empty for that of the system.
	HostName string `mapstructure:"host_name"`
	// StorageID names the extension that remembers across restarts of the
	// collector what has been reported. Without one, units that have failed are
	// reported again at every start, and the journal is read as at the first.
	StorageID *component.ID `mapstructure:"storage"`
	// Units are read over D-Bus.
	Units UnitsConfig `mapstructure:"units"`
	// Journal is read from its files.
	Journal JournalConfig `mapstructure:"journal"`
}

func createDefaultConfig() component.Config {
	return &Config{
		LogsBuilderConfig: metadata.DefaultLogsBuilderConfig(),
		Units:             defaultUnitsConfig(),
		Journal:           defaultJournalConfig(),
	}
}

// Unmarshal implements confmap.Unmarshaler.
func (c *Config) Unmarshal(conf *confmap.Conf) error { return section.Unmarshal(conf, c) }

// Validate names every key that is wrong, its value and what is allowed.
func (c *Config) Validate() error {
	var errs []error
	if !c.Units.Enabled && !c.Journal.Enabled {
		errs = append(errs, errors.New("units::enabled and journal::enabled: false leaves nothing to watch; enable one or remove the receiver"))
	}
	errs = append(errs, c.Units.validate()...)
	return errors.Join(append(errs, c.Journal.validate()...)...)
}
