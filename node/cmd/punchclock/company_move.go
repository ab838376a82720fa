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

// moveTimeout ends a forgotten command. A region of 100,000 companies takes some hours, and an ended command can be run
// again.
const moveTimeout = 24 * time.Hour

// moving holds the flags of both commands that move companies.
type moving struct {
	database
	To    string `help:"Region that becomes the home." required:""`
	Batch int    `help:"Most punches that a transaction moves." default:"${move_batch}"`
}

// run calls do with a Mover that moves up to parallel companies at the same time. It prints the result of do.
func (c *moving) run(
	ctx context.Context, out io.Writer, parallel int,
	do func(context.Context, *rehome.Mover, region.Name) (result string, err error),
) (err error) {
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
	bar := progress{terminal: term.IsTerminal(int(os.Stderr.Fd())), began: time.Now()}
	deps := rehome.Deps{Log: log, Meter: telemetry.MeterProvider, Progress: bar.add}
	mover, err := rehome.New(rehome.Config{Batch: c.Batch, Parallel: parallel}, db, deps)
	if err != nil {
		return err
	}
	result, err := do(ctx, mover, to)
	if ctx.Err() != nil {
		err = errors.New("interrupted; run the same command again to continue")
	}
	bar.end()
	_, writeErr := io.WriteString(out, result)
	return errors.Join(err, writeErr)
}

// progress shows the state of a move on standard error: one line that changes on a terminal, or else a line every few
// seconds.
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
	every, begin, end := 5*time.Second, "", "\n" // a log stays short
	if s.terminal {
		every, begin, end = 100*time.Millisecond, "\r\x1b[K", "" // ten times a second, over the last line
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

// end clears the line of a terminal, for the result.
func (s *progress) end() {
	if s.terminal {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}

// moveCommand is `punchclock company move`.
type moveCommand struct {
	moving
	ID string `arg:"" help:"Company's id."`
}

// Run implements the command.
func (c *moveCommand) Run(ctx context.Context, out io.Writer) error {
	return c.run(ctx, out, 1, func(ctx context.Context, m *rehome.Mover, to region.Name) (string, error) {
		r, err := m.Company(ctx, c.ID, to)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("company %s has its home in %s (epoch %d), %d punches carried\n", c.ID, r.Home, r.Epoch, r.Rows), nil
	})
}

// moveHomesCommand is `punchclock region move-homes`.
type moveHomesCommand struct {
	moving
	From     string `arg:"" help:"Region whose companies move."`
	Parallel int    `help:"Companies that move at the same time." default:"${move_parallel}"`
}

// Run implements the command.
func (c *moveHomesCommand) Run(ctx context.Context, out io.Writer) error {
	from, err := region.ParseName(c.From)
	if err != nil {
		return err
	}
	return c.run(ctx, out, c.Parallel, func(ctx context.Context, m *rehome.Mover, to region.Name) (string, error) {
		s, err := m.Region(ctx, from, to) // on an error as well: some companies may have moved
		return fmt.Sprintf("%d companies left %s, %d failed, %d punches carried\n", s.Companies, from, s.Failed, s.Rows), err
	})
}

// moveDefaults are the variables in the flags above.
func moveDefaults() map[string]string {
	d := rehome.DefaultConfig()
	return map[string]string{"move_batch": fmt.Sprint(d.Batch), "move_parallel": fmt.Sprint(d.Parallel)}
}
