package bench

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also runs the generator's command, because the benchmark starts its own executable for it.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "generate" {
		if err := (&Generate{}).Run(context.Background(), os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
