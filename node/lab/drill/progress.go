package drill

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/punchclock/punchclock/node/lab/load"
)

// showProgress returns a load.Config.Progress for a load whose end is not known
// beforehand: a line that is written over on a terminal, and else a new one
// every few seconds.
func showProgress(out *os.File, name string) func(load.Progress) {
	terminal := term.IsTerminal(int(out.Fd()))
	const plainEvery = 5 * time.Second // keeps a log short
	var next time.Duration
	return func(p load.Progress) {
		if !terminal && p.Elapsed < next && !p.Done {
			return
		}
		next = p.Elapsed + plainEvery
		begin, end := "", "\n"
		if terminal {
			begin, end = "\r\x1b[K", "" // from the left, and clear the line
			if p.Done {
				end = "\n"
			}
		}
		_, _ = fmt.Fprintf(out, "%s%s: %5.1fs, %d punches settled, %d acknowledged, %d dropped%s", // only for the eye
			begin, name, p.Elapsed.Seconds(), p.Settled, p.Acknowledged, p.Dropped, end)
	}
}
