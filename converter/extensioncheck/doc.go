// Package extensioncheck finds, before the collector starts, a component of Tapio that
// names an extension which does not run. The components themselves can tell only at their
// start; so `otelcol-tapio validate` tells it too.
//
// It changes nothing.
package extensioncheck
