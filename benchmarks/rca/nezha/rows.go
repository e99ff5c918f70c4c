package nezha

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/yairfalse/tapio/benchmarks/rca/dataset"
)

// Files of a recording.
const (
	spansFile   = "spans.csv.gz"
	logsFile    = "logs.csv.gz"
	metricsFile = "metrics.csv.gz"
)

// source is where telemetry comes from. Fields that a file does not have are "".
type source struct {
	service, pod, container, node string
}

type span struct {
	source       source
	trace        pcommon.TraceID
	id, parent   pcommon.SpanID
	name         string
	start, finis int64
}

type record struct {
	source   source
	at       int64
	trace    pcommon.TraceID
	span     pcommon.SpanID
	severity string
	stream   string
	body     string
}

// gauges are the columns of metrics.csv.gz at one time, NaN for no value.
type gauges struct {
	source source
	at     int64
	values [len(columns)]float64
}

// rows are the contents of one folder.
type rows struct {
	spans   []span
	logs    []record
	metrics []gauges
}

func readFolder(dir string) (*rows, error) {
	r := &rows{}
	if err := dataset.Table(filepath.Join(dir, spansFile), []string{
		"trace_id", "span_id", "parent_span_id", "pod", "service", "name", "start_unix_nano", "end_unix_nano",
	}, r.span); err != nil {
		return nil, err
	}
	if err := optional(dataset.Table(filepath.Join(dir, logsFile), []string{
		"time_unix_nano", "node", "pod", "service", "container", "trace_id", "span_id", "severity", "stream", "body",
	}, r.record)); err != nil {
		return nil, err
	}
	want := []string{"time_unix", "pod", "service"}
	for _, c := range columns {
		want = append(want, c.name)
	}
	if err := optional(dataset.Table(filepath.Join(dir, metricsFile), want, r.gauges)); err != nil {
		return nil, err
	}
	slices.SortStableFunc(r.metrics, func(a, b gauges) int { return cmp.Compare(a.at, b.at) })
	r.locate()
	return r, nil
}

// optional accepts that a file is not there.
func optional(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// locate notes on which node the pods of the metrics run, as their logs tell.
func (r *rows) locate() {
	nodes := map[string]string{}
	for _, l := range r.logs {
		nodes[l.source.pod] = l.source.node
	}
	for i := range r.metrics {
		r.metrics[i].source.node = nodes[r.metrics[i].source.pod]
	}
}

func (r *rows) span(row dataset.Row) error {
	var p parser
	r.spans = append(r.spans, span{
		source: source{service: row.Get("service"), pod: row.Get("pod")},
		trace:  p.trace(row), id: p.spanID(row, "span_id"), parent: p.spanID(row, "parent_span_id"),
		name: row.Get("name"), start: p.integer(row, "start_unix_nano"), finis: p.integer(row, "end_unix_nano"),
	})
	return p.err
}

func (r *rows) record(row dataset.Row) error {
	var p parser
	r.logs = append(r.logs, record{
		source: source{service: row.Get("service"), pod: row.Get("pod"), container: row.Get("container"), node: row.Get("node")},
		at:     p.integer(row, "time_unix_nano"), trace: p.trace(row), span: p.spanID(row, "span_id"),
		severity: row.Get("severity"), stream: row.Get("stream"), body: row.Get("body"),
	})
	return p.err
}

func (r *rows) gauges(row dataset.Row) error {
	var p parser
	g := gauges{source: source{service: row.Get("service"), pod: row.Get("pod")}, at: p.integer(row, "time_unix") * 1e9}
	for i, c := range columns {
		g.values[i] = p.number(row, c.name)
	}
	r.metrics = append(r.metrics, g)
	return p.err
}

// parser keeps the first error.
type parser struct{ err error }

func (p *parser) fail(column, value, want string) {
	if p.err == nil {
		p.err = fmt.Errorf("column %s: %q: want %s", column, value, want)
	}
}

func (p *parser) integer(row dataset.Row, column string) int64 {
	n, err := strconv.ParseInt(row.Get(column), 10, 64)
	if err != nil || n < 0 {
		p.fail(column, row.Get(column), "a whole number from 0")
	}
	return n
}

// number returns NaN for an empty value.
func (p *parser) number(row dataset.Row, column string) float64 {
	if row.Get(column) == "" {
		return nan
	}
	x, err := strconv.ParseFloat(row.Get(column), 64)
	if err != nil {
		p.fail(column, row.Get(column), "a number")
	}
	return x
}

func (p *parser) trace(row dataset.Row) (id pcommon.TraceID) {
	p.id(row, "trace_id", id[:])
	return id
}

func (p *parser) spanID(row dataset.Row, column string) (id pcommon.SpanID) {
	p.id(row, column, id[:])
	return id
}

// id reads hexadecimal digits; an empty value leaves id all zero.
func (p *parser) id(row dataset.Row, column string, id []byte) {
	s := row.Get(column)
	if s == "" {
		return
	}
	if len(s) != hex.EncodedLen(len(id)) {
		p.fail(column, s, fmt.Sprintf("%d hexadecimal digits", hex.EncodedLen(len(id))))
		return
	}
	if _, err := hex.Decode(id, []byte(s)); err != nil {
		p.fail(column, s, "hexadecimal digits")
	}
}

// severities are the words of the data set, which are those of Java's loggers.
var severities = map[string]plog.SeverityNumber{
	"TRACE": plog.SeverityNumberTrace, "DEBUG": plog.SeverityNumberDebug, "INFO": plog.SeverityNumberInfo,
	"WARN": plog.SeverityNumberWarn, "WARNING": plog.SeverityNumberWarn, "ERROR": plog.SeverityNumberError, "FATAL": plog.SeverityNumberFatal,
}
