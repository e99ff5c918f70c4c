package findingsexporter

import (
	"errors"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/exporter/exporterhelper"

	"github.com/yairfalse/tapio/internal/section"
)

// Config configures the exporter.
type Config struct {
	// Extension is the id of the tapio extension that keeps the findings.
	Extension component.ID `mapstructure:"extension"`
	// AcceptForeign keeps findings of other processes too. They cannot be told from
	// forged ones: whoever may send logs to this pipeline can then write and
	// overwrite findings.
	AcceptForeign bool `mapstructure:"accept_foreign"`
	// Timeout bounds one attempt to save what one request carries.
	TimeoutConfig exporterhelper.TimeoutConfig `mapstructure:",squash"`
	// Retry says how a database in trouble is tried again.
	Retry configretry.BackOffConfig `mapstructure:"retry_on_failure"`
	// Queue holds findings while the database is in trouble, so that it never
	// holds up the pipeline.
	Queue configoptional.Optional[exporterhelper.QueueBatchConfig] `mapstructure:"sending_queue"`
}

// Unmarshal implements confmap.Unmarshaler.
func (c *Config) Unmarshal(conf *confmap.Conf) error { return section.Unmarshal(conf, c) }

// Validate names the key that is wrong and what is allowed. The parts from
// exporterhelper and configretry validate themselves.
func (c *Config) Validate() error {
	if c.Extension == (component.ID{}) {
		return errors.New("extension: must not be empty, want the id of a tapio extension, such as tapio")
	}
	return nil
}
