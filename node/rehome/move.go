// Package rehome carries companies to another home: it makes the region the home
// in one step and then brings the rows after it, while punches go on. It is a
// tool of the operator's and no part of a node; it holds no state, so that any
// run ends what another began. DESIGN.md says why no punch is lost or doubled.
package rehome

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// Store is where homes and rows are. Its refusals are *punch.Error.
type Store interface {
	// Where returns where a company is.
	Where(ctx context.Context, company string) (region.Move, error)
	// MovesOf returns the companies that have their home in a region, or rows.
	MovesOf(ctx context.Context, name region.Name) ([]region.Move, error)
	// Flip makes a region the company's home, in one transaction, and returns
	// what is to be carried; nothing when the company is there already.
	Flip(ctx context.Context, company string, to region.Name) (region.Move, error)
	// Carry takes up to limit rows to the home, in one transaction, and returns
	// how many, or the keys that two unlike rows have. It is NotHome when the
	// move is no longer under way.
	Carry(ctx context.Context, m region.Move, limit int) (carried int, differing []punch.Key, err error)
	// Finish ends a move of which nothing is left to carry, or reports false.
	// It is NotHome when the move is no longer under way.
	Finish(ctx context.Context, m region.Move) (done bool, err error)
}

// Config bounds what a Mover does.
type Config struct {
	// Batch is how many rows a transaction carries.
	Batch int
	// Parallel is how many companies of a region are moved at the same time.
	Parallel int
}

// DefaultConfig is what the commands begin with. Some hundred rows take a
// transaction between regions hardly longer than one row does, and hold their
// locks not much longer than a punch. Eight companies keep a small database
// busy with work of which most is waiting for other regions.
func DefaultConfig() Config { return Config{Batch: 500, Parallel: 8} }

// Validate names the field that is wrong.
func (c Config) Validate() error {
	if c.Batch < 1 || c.Batch > 10_000 { // more than that many rows is no small transaction
		return fmt.Errorf("move: Batch must be 1 to 10000, is %d", c.Batch)
	}
	if c.Parallel < 1 || c.Parallel > 64 { // so many connections
		return fmt.Errorf("move: Parallel must be 1 to 64, is %d", c.Parallel)
	}
	return nil
}

// Deps is what a Mover reports to.
type Deps struct {
	Log   *slog.Logger
	Meter metric.MeterProvider
	// Progress may be nil. It is called from several goroutines.
	Progress func(Progress)
}

// Progress is what was done since the last call.
type Progress struct {
	Found     int // companies of a region that are to be moved
	Companies int // of them that were
	Rows      int // that were carried
}

// Mover moves companies. It is safe for concurrent use, also beside others in
// other processes.
type Mover struct {
	cfg   Config
	store Store
	deps  Deps
	rows  metric.Int64Counter
	alarm metric.Int64Counter
}

// New makes a Mover.
func New(cfg Config, store Store, deps Deps) (*Mover, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m := &Mover{cfg: cfg, store: store, deps: deps}
	if m.deps.Progress == nil {
		m.deps.Progress = func(Progress) {}
	}
	meter := deps.Meter.Meter("punchclock/move")
	var err error
	if m.rows, err = meter.Int64Counter("punchclock.move.rows", metric.WithUnit("{punch}"),
		metric.WithDescription("Rows carried to another home, by both.")); err != nil {
		return nil, fmt.Errorf("move: %w", err)
	}
	m.alarm, err = meter.Int64Counter("punchclock.move.conflicts", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches found at both homes of a company with unlike rows. Any is an alarm: the move has stopped."))
	if err != nil {
		return nil, fmt.Errorf("move: %w", err)
	}
	return m, nil
}

// ErrDiffers is returned when a punch has two unlike rows. Neither is touched;
// the company stays usable, and its move under way, until somebody has looked.
var ErrDiffers = errors.New("a punch is stored at both homes, and not the same: nothing was changed")

// Result is what became of a company.
type Result struct {
	region.Move
	Rows int // carried by this run
}

// waitForOthers is how soon to look again for rows that another mover has in
// hand: about what a transaction between regions takes.
const waitForOthers = 100 * time.Millisecond

// Company moves a company and returns when all of its rows are at its home. It
// ends a move to that region that was cut off, and turns one round that came
// from there; any other must be ended first, and is refused as Conflict.
func (m *Mover) Company(ctx context.Context, company string, to region.Name) (Result, error) {
	move, err := m.store.Flip(ctx, company, to)
	r := Result{Move: move}
	if err != nil {
		return r, err
	}
	if move.Carrying() {
		m.deps.Log.InfoContext(ctx, "home", "company", company, "from", string(move.From), "to", string(move.Home), "epoch", move.Epoch)
		if r.Rows, err = m.carry(ctx, move); err != nil {
			return r, err
		}
	}
	return r, nil
}

// carry brings the rows after the home.
func (m *Mover) carry(ctx context.Context, move region.Move) (rows int, err error) {
	route := metric.WithAttributes(attribute.String("from", string(move.From)), attribute.String("to", string(move.Home)))
	for {
		n, differing, err := m.store.Carry(ctx, move, m.cfg.Batch)
		switch {
		case len(differing) > 0:
			m.alarm.Add(ctx, int64(len(differing)), route)
			m.deps.Log.ErrorContext(ctx, "a punch is stored at both homes, and not the same",
				"company", move.Company, "from", string(move.From), "to", string(move.Home), "employee", differing[0].Employee, "id", differing[0].ID.String())
			return rows, fmt.Errorf("company %s, employee %s, punch %s, in %s and %s: %w",
				move.Company, differing[0].Employee, differing[0].ID, move.From, move.Home, ErrDiffers)
		case err != nil:
			return rows, m.over(ctx, move, err)
		case n > 0:
			rows += n
			m.rows.Add(ctx, int64(n), route)
			m.deps.Progress(Progress{Rows: n})
			continue
		}
		if done, err := m.store.Finish(ctx, move); err != nil || done {
			return rows, m.over(ctx, move, err)
		}
		select {
		case <-ctx.Done():
			return rows, ctx.Err()
		case <-time.After(waitForOthers):
		}
	}
}

// over is nil when somebody else has ended the very move.
func (m *Mover) over(ctx context.Context, move region.Move, err error) error {
	if punch.CodeOf(err) != punch.NotHome {
		return err
	}
	now, unknown := m.store.Where(ctx, move.Company)
	if unknown == nil && now.Epoch == move.Epoch && !now.Carrying() {
		return nil
	}
	return errors.Join(err, unknown)
}
