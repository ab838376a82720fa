package drill

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/punchclock/punchclock/node/lab/load"
)

// showProgress returns a load.Config.Progress for a load without a known end. On a terminal it overwrites one line.
// Otherwise it writes a line every few seconds.
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
			begin, end = "\r\x1b[K", "" // go to the left and clear the line
			if p.Done {
				end = "\n"
			}
		}
		_, _ = fmt.Fprintf(out, "%s%s: %5.1fs, %d punches settled, %d acknowledged, %d dropped%s", // output for people
			begin, name, p.Elapsed.Seconds(), p.Settled, p.Acknowledged, p.Dropped, end)
	}
}
