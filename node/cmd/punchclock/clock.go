//go:build !lab_clock

package main

import "time"

// nodeClock returns the clock of a node. A released binary always uses the machine's.
func nodeClock() func() time.Time { return time.Now }
