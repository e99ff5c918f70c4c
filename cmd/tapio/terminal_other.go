//go:build !unix

package main

import "os"

// columnsOf knows no terminals on this system: output is plain.
func columnsOf(*os.File) (columns int, ok bool) { return 0, false }
