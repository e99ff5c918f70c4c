package patterns

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSeriesErrors(t *testing.T) {
	for text, want := range map[string]string{
		"metrics: [{every: 1s, levels: [{at: 0s, value: 1}]}]":                                        "metrics[0]: metric: must be set",
		"metrics: [{metric: a, levels: [{at: 0s, value: 1}]}]":                                        "metrics[0]: every: 0s, until: 0s: want every above 0s",
		"metrics: [{metric: a, every: 1s}]":                                                           "metrics[0]: want at least one level, the first at 0s",
		"metrics: [{metric: a, every: 1s, levels: [{at: 5s, value: 1}]}]":                             "the first at 0s",
		"metrics: [{metric: a, every: 1s, levels: [{at: 0s, value: 1}, {at: 0s, value: 2}]}]":         "level 1, at 0s: want the order of time",
		"metrics: [{metric: a, every: 1ms, until: 10h, levels: [{at: 0s, value: 1}]}]":                "every: 1ms: want at most 100000 until 10h0m0s",
		"requests: [{every: 1s, seconds: [{at: 0s, value: 1}]}]":                                      "requests[0]: name: must be set",
		"requests: [{name: a, every: 1s}]":                                                            "requests[0]: want at least one level",
		"requests: [{name: a, every: 1s, seconds: [{at: 0s, value: 1}], failing: [{at: 1s}]}]":        "requests[0]: want at least one level, the first at 0s",
		"requests: [{name: a, every: 1s, seconds: [{at: 0s, value: 1}], failing: [{at: 0s, is: 1}]}]": "is: no such key; want one of [at value]",
		"about: nothing": "events, metrics, requests: want at least one",
	} {
		_, err := ReadScenario([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}
