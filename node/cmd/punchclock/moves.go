package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/punchclock/punchclock/node"
	"github.com/punchclock/punchclock/node/rehome"
	"github.com/punchclock/punchclock/region"
	"github.com/punchclock/punchclock/tracing"
)

// moveTimeout only ends what nobody watches any more: a region of 100,000
// companies takes some hours, and a run that was ended is run again.
const moveTimeout = 24 * time.Hour

// moving is what both commands need around a Mover.
type moving struct {
	database
	To    string `help:"Region that becomes the home." required:""`
	Batch int    `help:"Punches carried in one transaction." default:"${move_batch}"`
}

// with runs do with a Mover that moves so many companies at once, and says what
// do has to say.
func (c *moving) with(ctx context.Context, out io.Writer, parallel int, do func(context.Context, *rehome.Mover, region.Name) (said string, err error)) (err error) {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	to, err := region.ParseName(c.To)
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	telemetry, err := tracing.Setup(ctx, tracing.Config{Service: "punchclock move", Version: node.Version, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, telemetry.Shutdown(context.WithoutCancel(ctx))) }()
	db, err := c.open(ctx, parallel)
	if err != nil {
		return err
	}
	defer db.Close()
	show := progress{terminal: term.IsTerminal(int(os.Stderr.Fd())), began: time.Now()}
	mover, err := rehome.New(rehome.Config{Batch: c.Batch, Parallel: parallel}, db, rehome.Deps{Log: log, Meter: telemetry.MeterProvider, Progress: show.add})
	if err != nil {
		return err
	}
	said, err := do(ctx, mover, to)
	if ctx.Err() != nil {
		err = errors.New("interrupted; run the same command again to go on")
	}
	show.end()
	_, writeErr := io.WriteString(out, said)
	return errors.Join(err, writeErr)
}

// progress shows on standard error how far a move is: a line that is written
// over on a terminal, and else a new one every few seconds.
type progress struct {
	terminal bool
	began    time.Time

	mu   sync.Mutex // guards the rest
	sum  rehome.Progress
	next time.Duration
}

func (s *progress) add(p rehome.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.Found, s.sum.Companies, s.sum.Rows = s.sum.Found+p.Found, s.sum.Companies+p.Companies, s.sum.Rows+p.Rows
	every, begin, end := 5*time.Second, "", "\n" // keeps a log short
	if s.terminal {
		every, begin, end = 100*time.Millisecond, "\r\x1b[K", "" // the eye's pace; from the left, and clear the line
	}
	elapsed := time.Since(s.began)
	if elapsed < s.next {
		return
	}
	s.next = elapsed + every
	companies := ""
	if s.sum.Found > 0 {
		companies = fmt.Sprintf("%d of %d companies, ", s.sum.Companies, s.sum.Found)
	}
	fmt.Fprintf(os.Stderr, "%s%.0fs: %s%d punches carried%s", begin, elapsed.Seconds(), companies, s.sum.Rows, end)
}

// end leaves the terminal's line to the result.
func (s *progress) end() {
	if s.terminal {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}

type moveCommand struct {
	moving
	ID string `arg:"" help:"Company's id."`
}

// Run implements the command.
func (c *moveCommand) Run(ctx context.Context, out io.Writer) error {
	return c.with(ctx, out, 1, func(ctx context.Context, m *rehome.Mover, to region.Name) (string, error) {
		r, err := m.Company(ctx, c.ID, to)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("company %s has its home in %s (epoch %d), %d punches carried\n", c.ID, r.Home, r.Epoch, r.Rows), nil
	})
}

type moveHomesCommand struct {
	moving
	From     string `arg:"" help:"Region to empty."`
	Parallel int    `help:"Companies moved at the same time." default:"${move_parallel}"`
}

// Run implements the command.
func (c *moveHomesCommand) Run(ctx context.Context, out io.Writer) error {
	from, err := region.ParseName(c.From)
	if err != nil {
		return err
	}
	return c.with(ctx, out, c.Parallel, func(ctx context.Context, m *rehome.Mover, to region.Name) (string, error) {
		s, err := m.Region(ctx, from, to) // some may have been moved by a run that failed
		return fmt.Sprintf("%d companies left %s, %d failed, %d punches carried\n", s.Companies, from, s.Failed, s.Rows), err
	})
}

// moveDefaults are the variables of the help texts above.
func moveDefaults() map[string]string {
	d := rehome.DefaultConfig()
	return map[string]string{"move_batch": fmt.Sprint(d.Batch), "move_parallel": fmt.Sprint(d.Parallel)}
}
