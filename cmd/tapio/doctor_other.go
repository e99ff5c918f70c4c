//go:build !linux

package main

import "runtime"

// readHost knows that this is not Linux; the rest follows from that.
func readHost(string) *diagnosis {
	return &diagnosis{Host: []fact{{Name: "kernel", Has: isMissing, Found: runtime.GOOS, For: "the programs need Linux"}}}
}
