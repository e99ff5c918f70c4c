package finding

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// UnmarshalJSON reads the entity with its attributes as string, int64, float64
// or bool: encoding/json alone would make every number a float64 and round
// sizes above 2^53. A float64 without a fraction comes back as an int64.
func (e *Entity) UnmarshalJSON(b []byte) error {
	type plain Entity
	if err := unmarshalNumbers(b, (*plain)(e)); err != nil {
		return err
	}
	var err error
	e.Attributes, err = typedNumbers(e.Attributes)
	return err
}

// UnmarshalJSON reads the root cause with its evidence typed as the attributes
// of an Entity are.
func (c *RootCause) UnmarshalJSON(b []byte) error {
	type plain RootCause
	if err := unmarshalNumbers(b, (*plain)(c)); err != nil {
		return err
	}
	var err error
	c.Evidence, err = typedNumbers(c.Evidence)
	return err
}

// unmarshalNumbers is json.Unmarshal with numbers kept as json.Number.
func unmarshalNumbers(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(into)
}

// decodeAttributes reads a JSON object with its numbers typed.
func decodeAttributes(b []byte) (map[string]any, error) {
	var m map[string]any
	if err := unmarshalNumbers(b, &m); err != nil {
		return nil, err
	}
	return typedNumbers(m)
}

// typedNumbers replaces each json.Number in m by an int64 or float64, in place.
func typedNumbers(m map[string]any) (map[string]any, error) {
	for k, v := range m {
		t, err := typed(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		m[k] = t
	}
	return m, nil
}

func typed(v any) (any, error) {
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			if i, err := v.Int64(); err == nil {
				return i, nil
			}
		}
		return v.Float64()
	case map[string]any:
		return typedNumbers(v)
	case []any:
		for i := range v {
			t, err := typed(v[i])
			if err != nil {
				return nil, err
			}
			v[i] = t
		}
	}
	return v, nil
}
