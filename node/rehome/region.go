package rehome

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/punchclock/punchclock/region"
)

// Summary is what a run over a region did.
type Summary struct {
	Companies int // moved, or whose move was ended
	Rows      int // carried
	Failed    int // companies; the error says why for the first few
}

const (
	// maxPasses bounds a run beside somebody who goes on creating companies in
	// the region that is to be emptied.
	maxPasses = 10
	// maxReasons is as many as a person reads.
	maxReasons = 10
)

// Region moves every company away that has its home in a region, and ends the
// moves under way from there, wherever they go. A company that fails does not
// stop the others. It may be cut off and run again.
func (m *Mover) Region(ctx context.Context, from, to region.Name) (Summary, error) {
	if from == to {
		return Summary{}, fmt.Errorf("the companies of %s cannot be moved to %s itself", from, to)
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
		if err := ctx.Err(); err != nil { // it says enough
			return p.done, err
		}
		if p.done.Failed > 0 {
			return p.done, fmt.Errorf("%d companies were not moved: %w", p.done.Failed, errors.Join(p.reasons...))
		}
	}
	return p.done, fmt.Errorf("companies keep coming to %s; see who creates them there, and run this again", from)
}

// pass moves the companies of a list, some at a time.
type pass struct {
	mover    *Mover
	from, to region.Name

	mu      sync.Mutex // guards the rest
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
				p.settle(ctx, rows, err)
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

// move does for one company what its place asks for.
func (p *pass) move(ctx context.Context, c region.Move) (rows int, err error) {
	steps := []region.Name{p.to}
	switch {
	case c.Home != p.from: // it has left, and not all of its rows have
		steps = []region.Name{c.Home}
	case c.Carrying() && c.From != p.to: // its rows have to arrive before they can go on
		steps = []region.Name{p.from, p.to}
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

func (p *pass) settle(ctx context.Context, rows int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done.Rows += rows
	switch {
	case err == nil:
		p.done.Companies++
		p.mover.deps.Progress(Progress{Companies: 1})
	case ctx.Err() != nil: // cut off is not failed
	default:
		p.done.Failed++
		if len(p.reasons) < maxReasons {
			p.reasons = append(p.reasons, err)
		}
	}
}
