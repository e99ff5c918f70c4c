// Package operations holds the end-to-end tests of what tapio_cni tells of
// plugins: real ones, called by cnitool and by containerd, in network namespaces of
// their own. The receiver runs inside the test.
//
// The tests are skipped, with the reason, where these parts or the rights to use
// them cannot be had; with CI=true they fail instead.
package operations
