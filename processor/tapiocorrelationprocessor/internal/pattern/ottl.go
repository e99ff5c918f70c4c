package pattern

import (
	"context"
	"fmt"
	"slices"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl/contexts/ottllog"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/ottl/ottlfuncs"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"
)

// ottlKey begins the key under which an event holds that an OTTL condition is met.
const ottlKey = "ottl:"

// compileOTTL turns a condition in OTTL into a test of the key that Records writes.
func (c *Condition) compileOTTL() error {
	p, err := ottlParser()
	if err == nil {
		_, err = p.ParseCondition(c.OTTL)
	}
	c.Key, c.In = ottlKey+c.OTTL, []any{true}
	return err
}

func ottlParser() (ottl.Parser[*ottllog.TransformContext], error) {
	return ottllog.NewParser(ottlfuncs.StandardConverters[*ottllog.TransformContext](), component.TelemetrySettings{Logger: zap.NewNop()})
}

// Records evaluates the OTTL conditions of patterns on log records, where the record
// is still whole. It is safe for concurrent use.
type Records struct {
	byEvent map[string][]recordCondition
}

type recordCondition struct {
	key  string
	cond *ottl.Condition[*ottllog.TransformContext]
}

// RecordsOf collects the OTTL conditions of patterns, nil when there is none.
func RecordsOf(patterns []*Pattern) (*Records, error) {
	r := &Records{byEvent: map[string][]recordCondition{}}
	var errs error
	add := func(events []string, where []Condition) {
		for i := range where {
			if where[i].OTTL == "" {
				continue
			}
			p, err := ottlParser()
			if err != nil {
				errs = err
				return
			}
			cond, err := p.ParseCondition(where[i].OTTL)
			if err != nil {
				errs = fmt.Errorf("ottl %q: %w", where[i].OTTL, err)
				return
			}
			for _, e := range events {
				known := slices.ContainsFunc(r.byEvent[e], func(k recordCondition) bool { return k.key == where[i].Key })
				if !known {
					r.byEvent[e] = append(r.byEvent[e], recordCondition{where[i].Key, cond})
				}
			}
		}
	}
	for _, p := range patterns {
		add(append([]string{p.Cause.Event}, p.Cause.Or...), p.Cause.Where)
		add(append([]string{p.Cause.Event}, p.Cause.Or...), p.LastsWhere)
		for i := range p.Effects {
			add([]string{p.Effects[i].Event}, p.Effects[i].Where)
		}
		for i := range p.Until {
			add([]string{p.Until[i].Event}, p.Until[i].Where)
		}
	}
	if errs != nil || len(r.byEvent) == 0 {
		return nil, errs
	}
	return r, nil
}

// Met returns the keys of the conditions that a record of an event meets. failed
// counts those that could not be evaluated on it, which are not met.
func (r *Records) Met(event string, rl plog.ResourceLogs, sl plog.ScopeLogs, lr plog.LogRecord) (keys []string, failed int) {
	conditions := r.byEvent[event]
	if len(conditions) == 0 {
		return nil, 0
	}
	ctx := ottllog.NewTransformContextPtr(rl, sl, lr)
	defer ctx.Close()
	for _, c := range conditions {
		ok, err := c.cond.Eval(context.Background(), ctx)
		switch {
		case err != nil:
			failed++
		case ok:
			keys = append(keys, c.key)
		}
	}
	return keys, failed
}
