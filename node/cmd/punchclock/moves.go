package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/punchclock/punchclock/node"
	"github.com/punchclock/punchclock/node/move"
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

// with runs do with a Mover.
func (c *moving) with(ctx context.Context, parallel int, progress func(move.Progress), do func(context.Context, *move.Mover, region.Name) error) (err error) {
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
	db, err := c.openToMove(ctx, parallel)
	if err != nil {
		return err
	}
	defer db.Close()
	mover, err := move.New(move.Config{Batch: c.Batch, Parallel: parallel}, db, move.Deps{Log: log, Meter: telemetry.MeterProvider, Progress: progress})
	if err != nil {
		return err
	}
	if err = do(ctx, mover, to); ctx.Err() != nil {
		err = errors.New("interrupted; run the same command again to go on")
	}
	return err
}

type moveCommand struct {
	moving
	ID string `arg:"" help:"Company's id."`
}

// Run implements the command.
func (c *moveCommand) Run(ctx context.Context, out io.Writer) error {
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("punches"),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
	progress := func(p move.Progress) { _ = bar.Add(p.Rows) } // a bar that cannot be drawn is no reason to fail
	return c.with(ctx, 1, progress, func(ctx context.Context, m *move.Mover, to region.Name) error {
		r, err := m.Company(ctx, c.ID, to)
		_ = bar.Finish()
		if err == nil {
			_, err = fmt.Fprintf(out, "company %s has its home in %s (epoch %d), %d punches carried\n", c.ID, r.Home, r.Epoch, r.Rows)
		}
		return err
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
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription("companies"),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
	progress := func(p move.Progress) {
		if p.Found > 0 {
			bar.ChangeMax(max(bar.GetMax(), 0) + p.Found)
		}
		_ = bar.Add(p.Companies)
	}
	return c.with(ctx, c.Parallel, progress, func(ctx context.Context, m *move.Mover, to region.Name) error {
		s, err := m.Region(ctx, from, to)
		_ = bar.Finish()
		fmt.Fprintf(out, "%d companies left %s, %d failed, %d punches carried\n", s.Companies, from, s.Failed, s.Rows)
		return err
	})
}

// moveDefaults are the variables of the help texts above.
func moveDefaults() map[string]string {
	d := move.DefaultConfig()
	return map[string]string{"move_batch": fmt.Sprint(d.Batch), "move_parallel": fmt.Sprint(d.Parallel)}
}
