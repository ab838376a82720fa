// Package bench measures Punchclock and writes BENCHMARKS.md. Each figure is a ratio of two measurements in one run on
// one machine, because absolute figures of two machines cannot be compared. DESIGN.md says what each part measures. The
// package contains no load generator for mornings: package node/lab/load has it.
package bench
