// Package rehome moves companies to another home region. It changes the home in one step and then carries the rows
// there, while devices go on punching. It is an operator's tool and no part of a node. All state is in the database, so
// any run can finish the move of another. DESIGN.md says why no punch is lost or doubled.
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

// Store stores homes and rows. It returns its refusals as *punch.Error.
type Store interface {
	// Where returns the home of a company and its move.
	Where(ctx context.Context, company string) (region.Move, error)
	// MovesOf returns the companies with their home or with rows in a region.
	MovesOf(ctx context.Context, name region.Name) ([]region.Move, error)
	// Flip makes a region the company's home in one transaction, and returns the move. The move carries nothing when
	// the region was the home already.
	Flip(ctx context.Context, company string, to region.Name) (region.Move, error)
	// Carry takes up to limit rows to the home in one transaction, and returns their number. If the homes have unlike
	// rows, it returns their keys. NotHome means that the move is no longer under way.
	Carry(ctx context.Context, m region.Move, limit int) (carried int, differing []punch.Key, err error)
	// Finish ends a move when no row is left to carry, and returns false otherwise. NotHome means that the move is no
	// longer under way.
	Finish(ctx context.Context, m region.Move) (done bool, err error)
	// Switches returns the operators' switches.
	Switches(ctx context.Context) ([]region.Switch, error)
}

// Config limits the work of a Mover.
type Config struct {
	// Batch is the number of rows per transaction.
	Batch int
	// Parallel is the number of companies of a region that move at the same time.
	Parallel int
}

// DefaultConfig returns the settings of the commands. Between regions a transaction of some hundred rows takes hardly
// longer than one of a single row. It holds its locks not much longer than a punch does. Eight companies keep a small
// database busy, because most of the work is waiting for other regions.
func DefaultConfig() Config { return Config{Batch: 500, Parallel: 8} }

// Validate returns an error that names the wrong field.
func (c Config) Validate() error {
	if c.Batch < 1 || c.Batch > 10_000 { // a larger transaction would block punches
		return fmt.Errorf("move: Batch must be 1 to 10000, is %d", c.Batch)
	}
	if c.Parallel < 1 || c.Parallel > 64 { // each takes connections
		return fmt.Errorf("move: Parallel must be 1 to 64, is %d", c.Parallel)
	}
	return nil
}

// Deps are the sinks for logs, metrics and progress.
type Deps struct {
	Log   *slog.Logger
	Meter metric.MeterProvider
	// Progress may be nil. It is called from several goroutines.
	Progress func(Progress)
}

// Progress is the work since the last call.
type Progress struct {
	Found     int // companies of a region that must move
	Companies int // companies that have moved
	Rows      int // rows that were carried
}

// Mover moves companies. It is safe for concurrent use, and beside movers in other processes.
type Mover struct {
	cfg       Config
	store     Store
	deps      Deps
	rows      metric.Int64Counter
	conflicts metric.Int64Counter
}

// New returns a Mover.
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
	m.conflicts, err = meter.Int64Counter("punchclock.move.conflicts", metric.WithUnit("{punch}"),
		metric.WithDescription("Punches found at both homes of a company with unlike rows. Any is an alarm: the move has stopped."))
	if err != nil {
		return nil, fmt.Errorf("move: %w", err)
	}
	return m, nil
}

// ErrDiffers means that the two homes have unlike rows for one punch. Neither row is changed. The company stays usable
// and its move under way until an operator has decided.
var ErrDiffers = errors.New("the two homes have unlike rows for one punch: nothing was changed")

// Result is the outcome for one company.
type Result struct {
	region.Move
	Rows int // rows that this run carried
}

// othersInterval is the wait for rows that another mover has locked, about as long as a transaction between regions.
const othersInterval = 100 * time.Millisecond

// Company moves a company and returns when all of its rows are at its home. It finishes an interrupted move to that
// region, and reverses a move from it. Any other move must end first and is refused with Conflict.
func (m *Mover) Company(ctx context.Context, company string, to region.Name) (Result, error) {
	if err := m.awaitService(ctx, to); err != nil { // a company must not stay between two homes meanwhile
		return Result{}, err
	}
	move, err := m.store.Flip(ctx, company, to)
	r := Result{Move: move}
	if err != nil {
		return r, err
	}
	if move.Carrying() {
		m.deps.Log.InfoContext(ctx, "the home of a company changed", "company", company, "from", string(move.From),
			"to", string(move.Home), "epoch", move.Epoch)
		if r.Rows, err = m.carry(ctx, move); err != nil {
			return r, err
		}
	}
	return r, nil
}

// carry carries rows until none is left at the old home.
func (m *Mover) carry(ctx context.Context, move region.Move) (rows int, err error) {
	route := metric.WithAttributes(attribute.String("from", string(move.From)), attribute.String("to", string(move.Home)))
	for {
		if err := m.awaitService(ctx, move.From, move.Home); err != nil {
			return rows, err
		}
		n, differing, err := m.store.Carry(ctx, move, m.cfg.Batch)
		switch {
		case len(differing) > 0:
			m.conflicts.Add(ctx, int64(len(differing)), route)
			m.deps.Log.ErrorContext(ctx, "the two homes have unlike rows for one punch",
				"company", move.Company, "from", string(move.From), "to", string(move.Home),
				"employee", differing[0].Employee, "id", differing[0].ID.String())
			return rows, fmt.Errorf("company %s, employee %s, punch %s, in %s and %s: %w",
				move.Company, differing[0].Employee, differing[0].ID, move.From, move.Home, ErrDiffers)
		case err != nil:
			return rows, m.ignoreFinished(ctx, move, err)
		case n > 0:
			rows += n
			m.rows.Add(ctx, int64(n), route)
			m.deps.Progress(Progress{Rows: n})
			continue
		}
		if done, err := m.store.Finish(ctx, move); err != nil || done {
			return rows, m.ignoreFinished(ctx, move, err)
		}
		select {
		case <-ctx.Done():
			return rows, ctx.Err()
		case <-time.After(othersInterval):
		}
	}
}

// ignoreFinished returns nil when another mover has finished this move.
func (m *Mover) ignoreFinished(ctx context.Context, move region.Move, err error) error {
	if punch.CodeOf(err) != punch.NotHome {
		return err
	}
	now, unknown := m.store.Where(ctx, move.Company)
	if unknown == nil && now.Epoch == move.Epoch && !now.Carrying() {
		return nil
	}
	return errors.Join(err, unknown)
}
