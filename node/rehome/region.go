package rehome

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/punchclock/punchclock/region"
)

// Summary is the outcome of a run over a region.
type Summary struct {
	Companies int // companies that moved, or whose move was finished
	Rows      int // rows that were carried
	Failed    int // companies that failed; the error has the first reasons
}

const (
	// maxPasses limits a run while new companies are created in the region.
	maxPasses = 10
	// maxReasons is as many as an operator reads.
	maxReasons = 10
)

// Region moves all companies away that have their home in a region. It also finishes the moves under way from there to
// any region. A company that fails does not stop the others. Region may be interrupted and repeated.
func (m *Mover) Region(ctx context.Context, from, to region.Name) (Summary, error) {
	if from == to {
		return Summary{}, fmt.Errorf("the companies of %s cannot move to %s itself", from, to)
	}
	p := &pass{mover: m, from: from, to: to}
	for range maxPasses {
		list, err := m.store.MovesOf(ctx, from)
		if err != nil {
			return p.done, err
		}
		if len(list) == 0 {
			return p.done, nil
		}
		m.deps.Progress(Progress{Found: len(list)})
		p.run(ctx, list)
		if err := ctx.Err(); err != nil { // the reason for all failures
			return p.done, err
		}
		if p.done.Failed > 0 {
			return p.done, fmt.Errorf("%d companies were not moved: %w", p.done.Failed, errors.Join(p.reasons...))
		}
	}
	return p.done, fmt.Errorf("new companies are still created in %s: stop that, then run this again", from)
}

// pass moves the companies of a list, some of them at the same time.
type pass struct {
	mover    *Mover
	from, to region.Name

	mu      sync.Mutex // guards the fields below
	done    Summary
	reasons []error
}

func (p *pass) run(ctx context.Context, list []region.Move) {
	todo := make(chan region.Move)
	var workers sync.WaitGroup
	for range min(p.mover.cfg.Parallel, len(list)) {
		workers.Go(func() {
			for c := range todo {
				rows, err := p.move(ctx, c)
				p.record(ctx, rows, err)
			}
		})
	}
	defer workers.Wait()
	defer close(todo)
	for _, c := range list {
		select {
		case todo <- c:
		case <-ctx.Done():
			return
		}
	}
}

// move makes all moves that a company needs.
func (p *pass) move(ctx context.Context, c region.Move) (rows int, err error) {
	steps := []region.Name{p.to}
	switch {
	case c.Home != p.from: // it has left, but not all of its rows have
		steps = []region.Name{c.Home}
	case c.Carrying() && c.From != p.to: // its rows must arrive before they can leave
		steps = []region.Name{p.from, p.to}
	}
	if err := p.mover.awaitService(ctx, p.from); err != nil {
		return 0, err
	}
	for _, to := range steps {
		r, err := p.mover.Company(ctx, c.Company, to)
		rows += r.Rows
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func (p *pass) record(ctx context.Context, rows int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done.Rows += rows
	switch {
	case err == nil:
		p.done.Companies++
		p.mover.deps.Progress(Progress{Companies: 1})
	case ctx.Err() != nil: // interrupted, not failed
	default:
		p.done.Failed++
		if len(p.reasons) < maxReasons {
			p.reasons = append(p.reasons, err)
		}
	}
}
