// Package template finds the statement behind a log line: lines that differ only
// in their values get the same number.
//
// It works online and in bounded memory, in the manner of Drain (He et al., ICWS
// 2017): a line is split into words, what looks like a value is masked, and the
// masked words are compared with the templates that begin with the same two
// words. Unlike Drain it does not demand the same number of words, since lists
// are of any length, and it looks at the beginning of a line only, since that is
// where a statement says what it is.
package template
