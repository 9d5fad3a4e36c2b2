// Package bench measures what only ratios tell: the program beside something
// simpler that does the same work. Its programs are those simpler ones, and the
// database server that some of them need; `make bench` runs all of it in turn and
// writes docs/benchmarks.md.
package bench
