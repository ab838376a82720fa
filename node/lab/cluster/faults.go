package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// ErrOneProcess is returned when one region of PostgreSQL is meant: it stands
// in on one machine, and a lost region cannot be shown on it.
var ErrOneProcess = errors.New("PostgreSQL is one process for all regions")

// in returns the hosts of a region, or all.
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

// Kill crashes the database in a region and returns when it is gone. One that
// is gone already is no error.
func (d *Database) Kill(region string) error {
	hosts, err := d.in(region)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), killWait)
	defer cancel()
	return d.end(ctx, hosts)
}

// Freeze stops the clock of the database in a region: it holds its connections,
// accepts more, and answers nothing. CockroachDB only; PostgreSQL's connections
// are processes of their own, which a signal to the first does not reach.
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

// Running says whether the database's process in a region is there, be it
// frozen or not ready.
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

// Restart starts the database in a region again, killed before if it runs, with
// the same addresses and data, and returns when it answers SQL. On CockroachDB
// that takes a majority of the regions.
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

// Stop ends the database and removes its folder, unless that is to be kept. It
// is an error that names the logs when a process had ended by itself. A second
// Stop does nothing.
func (d *Database) Stop(ctx context.Context) error {
	err := d.halt(ctx)
	if d.owner {
		return d.ws.close(err)
	}
	return err
}

// halt ends every process and reports those that nobody had ended.
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

// end crashes the hosts. A clean stop is not worth its time, since the data
// goes as well: CockroachDB would drain and, once two of three are gone, wait
// for a majority that never comes. PostgreSQL gets SIGQUIT, its "immediate"
// shutdown, which leaves what a crash leaves (recovery from the log on the next
// start) but takes its own processes and shared memory along.
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

// spawn starts the processes of hosts that do not run.
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
