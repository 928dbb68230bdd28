// Package bench compares stunt with what others use for the same job. It is a
// module of its own, so that what is only compared with never gets into
// stunt's go.mod. What it prints is explained in docs/benchmarks.md.
package bench
