// Package docscheck holds tests that keep the repository's pages true: links
// lead somewhere, the make targets and files they name exist, and
// docs/dependencies.md lists what go.mod and builder-config.yaml require.
package docscheck
