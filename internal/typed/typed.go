// Package typed keeps values of attributes in JSON so that they have the same type when they
// are read: JSON itself does not tell 1 from 1.0.
package typed

import "fmt"

// Value is the value of an attribute; at most one of its members is set.
type Value struct {
	Text   *string  `json:"s,omitempty"`
	Int    *int64   `json:"i,omitempty"`
	Double *float64 `json:"d,omitempty"`
	Bool   *bool    `json:"b,omitempty"`
	List   []string `json:"l,omitempty"`
}

// Of returns a string, int64, float64, bool or []string as a Value. The error names any
// other type.
func Of(v any) (Value, error) {
	switch v := v.(type) {
	case string:
		return Value{Text: &v}, nil
	case int64:
		return Value{Int: &v}, nil
	case float64:
		return Value{Double: &v}, nil
	case bool:
		return Value{Bool: &v}, nil
	case []string:
		return Value{List: v}, nil
	}
	return Value{}, fmt.Errorf("a %T", v)
}

// Any returns what Of was given; an empty list is nil.
func (v Value) Any() any {
	switch {
	case v.Text != nil:
		return *v.Text
	case v.Int != nil:
		return *v.Int
	case v.Double != nil:
		return *v.Double
	case v.Bool != nil:
		return *v.Bool
	}
	return v.List
}
