// Package bpf holds Tapio's kernel programs (*.bpf.c) and what bpf2go generates
// of them: the objects, for amd64 and arm64, and Go types of their records.
//
// The programs run on any kernel from 5.15 with BTF: they read kernel types
// through the few fields that kernel.h names, relocated when they are loaded.
// Each file is loaded by itself and its programs one by one, so that one that a
// kernel refuses takes nothing else with it. All send to the one ring buffer
// "events" and count in "lost" what did not fit.
//
// Regenerating needs clang 19, llvm-strip 19 and libbpf's headers; using needs none.
package bpf
