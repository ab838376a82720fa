package load

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Progress says how far a run has come.
type Progress struct {
	Planned      int // punches in the whole run
	Settled      int // acknowledged, refused or given up
	Acknowledged int
	Dropped      int
	Elapsed      time.Duration
	Duration     time.Duration // of the arrivals; answers may take longer
	Done         bool          // no further report follows
}

// progressEvery looks smooth and costs the processor nothing.
const progressEvery = 200 * time.Millisecond

// reportProgress calls Config.Progress until the returned function is called. That function reports the end and
// returns after the last call.
func (g *generator) reportProgress() (stop func()) {
	if g.cfg.Progress == nil {
		return func() {}
	}
	report := func(done bool) { g.cfg.Progress(g.tally.progress(g.cfg, len(g.arrivals), done)) }
	done := make(chan struct{})
	var reporter sync.WaitGroup
	reporter.Go(func() {
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				report(false)
			case <-done:
				report(true)
				return
			}
		}
	})
	return func() {
		close(done)
		reporter.Wait()
	}
}

// plainEvery keeps the log of a long run short.
const plainEvery = 5 * time.Second

// ShowProgress returns a Config.Progress. It draws a bar if out is a terminal, and otherwise writes a line every few
// seconds.
func ShowProgress(out *os.File) func(Progress) {
	if !term.IsTerminal(int(out.Fd())) {
		return plainProgress(out)
	}
	var bar *progressbar.ProgressBar
	return func(p Progress) {
		if bar == nil {
			bar = progressbar.NewOptions(p.Planned,
				progressbar.OptionSetWriter(out), progressbar.OptionSetDescription("load"),
				progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetItsString("punches"),
				progressbar.OptionSetWidth(30), progressbar.OptionSetPredictTime(false))
		}
		_ = bar.Set(p.Settled + p.Dropped) // output for people, like the next line
		if p.Done {
			_, _ = fmt.Fprintln(out)
		}
	}
}

func plainProgress(out io.Writer) func(Progress) {
	var next time.Duration
	return func(p Progress) {
		if p.Elapsed < next && !p.Done {
			return
		}
		next = p.Elapsed + plainEvery
		_, _ = fmt.Fprintf(out, "load: %5.1fs of %s, %d of %d punches, %d acknowledged\n", // output for people
			p.Elapsed.Seconds(), p.Duration, p.Settled+p.Dropped, p.Planned, p.Acknowledged)
	}
}
