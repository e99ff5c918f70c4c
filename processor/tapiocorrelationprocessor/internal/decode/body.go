package decode

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/processor/tapiocorrelationprocessor/internal/record"
)

// body returns the text of a record's body, "" when it is no text.
func body(r plog.LogRecord) string {
	if r.Body().Type() != pcommon.ValueTypeStr {
		return ""
	}
	return record.Text(r.Body().Str())
}
