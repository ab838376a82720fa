package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// ErrOneProcess is returned for one region of PostgreSQL, which cannot lose a region.
var ErrOneProcess = errors.New("PostgreSQL is one process for all regions")

// in returns the processes of a region, or all.
func (d *Database) in(region string) ([]*host, error) {
	if region == AllRegions {
		return d.all(), nil
	}
	if d.Engine == Postgres {
		return nil, fmt.Errorf("region %s: %w", region, ErrOneProcess)
	}
	hosts := d.all()
	i := slices.IndexFunc(hosts, func(h *host) bool { return h.region == region })
	if i < 0 {
		return nil, fmt.Errorf("no database process in region %q", region)
	}
	return hosts[i : i+1], nil
}

// Kill crashes the database in a region and returns when it is gone. A database that is gone already is no error.
func (d *Database) Kill(region string) error {
	hosts, err := d.in(region)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), killWait)
	defer cancel()
	return d.end(ctx, hosts)
}

// Freeze stops the database's process in a region. It keeps its connections, the kernel accepts more for it, and it
// answers nothing. CockroachDB only: each connection of PostgreSQL is a process of its own, which the signal misses.
func (d *Database) Freeze(region string) error { return d.signal(region, syscall.SIGSTOP) }

// Thaw undoes Freeze.
func (d *Database) Thaw(region string) error { return d.signal(region, syscall.SIGCONT) }

func (d *Database) signal(region string, sig syscall.Signal) error {
	if d.Engine == Postgres {
		return fmt.Errorf("%s: %w", sig, errors.ErrUnsupported)
	}
	hosts, err := d.in(region)
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range hosts {
		errs = append(errs, d.processOf(h).signal(sig))
	}
	return errors.Join(errs...)
}

// Running reports whether the database's process in a region exists, even if it is frozen or not ready.
func (d *Database) Running(region string) bool {
	hosts, err := d.in(region)
	if err != nil {
		return false
	}
	for _, h := range hosts {
		if d.processOf(h).exited() {
			return false
		}
	}
	return true
}

// Restart kills the database in a region if it runs, and starts it again on the same addresses and data. It returns when
// the database answers SQL. On CockroachDB that needs a majority of the regions.
func (d *Database) Restart(ctx context.Context, region string) error {
	hosts, err := d.in(region)
	if err != nil {
		return err
	}
	if err := d.Kill(region); err != nil {
		return err
	}
	if err := d.spawn(hosts); err != nil {
		return err
	}
	return d.await(ctx, hosts)
}

// Stop ends the database and removes its folder, unless Keep was called. Its error names the log of a process that had
// ended by itself. A second Stop does nothing.
func (d *Database) Stop(ctx context.Context) error {
	err := d.halt(ctx)
	if d.owner {
		return d.ws.close(err)
	}
	return err
}

// halt ends every process and reports the processes that had ended by themselves.
func (d *Database) halt(ctx context.Context) error {
	var errs []error
	hosts := d.all()
	for _, h := range hosts {
		if p := d.processOf(h); p != nil && p.exited() && !p.asked.Swap(true) {
			errs = append(errs, p.failure(fmt.Errorf("ended by itself: %w", p.ending())))
		}
	}
	return errors.Join(append(errs, d.end(ctx, hosts))...)
}

// end crashes the processes. A clean stop would take time for data that is removed anyway: CockroachDB would drain, and
// the last process would wait for a majority that never comes. PostgreSQL gets SIGQUIT, its immediate shutdown. That
// leaves data as a crash does, and still ends PostgreSQL's own processes and frees its shared memory.
func (d *Database) end(ctx context.Context, hosts []*host) error {
	var g errgroup.Group
	for _, h := range hosts {
		g.Go(func() error {
			if p := d.processOf(h); p != nil {
				return p.end(ctx, d.killSignal())
			}
			return nil
		})
	}
	return g.Wait()
}

func (d *Database) killSignal() syscall.Signal {
	if d.Engine == Postgres {
		return syscall.SIGQUIT
	}
	return syscall.SIGKILL
}

func (d *Database) processOf(h *host) *process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return h.process
}

// spawn starts the processes that do not run.
func (d *Database) spawn(hosts []*host) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range hosts {
		if !h.process.exited() {
			continue
		}
		p, err := d.ws.spawner.start(h.command)
		if err != nil {
			return err
		}
		h.process = p
	}
	return nil
}
