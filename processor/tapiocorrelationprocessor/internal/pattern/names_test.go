package pattern

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// constants returns the names of events that the files of a package declare.
func constants(t *testing.T, files string) (out []string) {
	t.Helper()
	names, err := filepath.Glob(files)
	require.NoError(t, err)
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !spec.Names[0].IsExported() || strings.HasPrefix(spec.Names[0].Name, "Key") {
				return true
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil && strings.HasPrefix(text, ownPrefix) {
					out = append(out, text)
				}
			}
			return true
		})
	}
	return out
}

// Every event that the code declares is one that a pattern can name, but for findings,
// which the processor does not read.
func TestEveryEventIsKnown(t *testing.T) {
	names := append(constants(t, "../../../../internal/event/*.go"), constants(t, "pattern.go")...)
	require.Greater(t, len(names), 100)
	for _, name := range names {
		err := Unknown(&Pattern{Cause: Cause{Event: name}})
		if name == "tapio.finding" {
			assert.Error(t, err)
		} else {
			assert.NoError(t, err, name)
		}
	}
	assert.NoError(t, Unknown(&Pattern{Cause: Cause{Event: "shop.quota.exceeded"}}))
	assert.ErrorContains(t, Unknown(&Pattern{Cause: Cause{Event: "a", Or: []string{"tapio.oom.kill", "tapio.oom.kil"}}}),
		`cause.or[1]: "tapio.oom.kil": there is no such event; do you mean tapio.oom.kill?`)
	assert.ErrorContains(t, Unknown(&Pattern{Cause: Cause{Event: "a"}, StartsOver: StartsOver{Event: "b", Stopped: "tapio.systemd.unit.deactivate"}}),
		`starts_over.stopped: "tapio.systemd.unit.deactivate": there is no such event; do you mean tapio.systemd.unit.deactivated?`)
}
