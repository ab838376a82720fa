package region

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"
)

// ErrUnknownCompany is returned when the database, just asked, has no such
// company.
var ErrUnknownCompany = errors.New("unknown company")

// ErrBusy is returned when a company that was unknown a moment ago is asked
// for too often. It says nothing about whether the company exists.
var ErrBusy = errors.New("unknown a moment ago and asked for too often")

// ErrClosed is returned by a Directory that was closed while it was asked.
var ErrClosed = errors.New("company directory is closed")

// Source is the authority behind a Directory. Home returns ErrUnknownCompany
// only when the database said so.
type Source interface {
	Home(ctx context.Context, company string) (Home, error)
}

// DirectoryConfig bounds a Directory.
type DirectoryConfig struct {
	// Capacity is how many companies are kept; 100,000 take about 30 MB.
	Capacity int
	// RefreshAfter is the age from which an entry is read anew in the
	// background while it is still used: news that gossip lost is
	// noticed within it.
	RefreshAfter time.Duration
	// ExpireAfter is the age from which an entry is no longer used, even
	// when the database cannot be asked. The fence catches a stale one, so
	// it only has to outlast an outage.
	ExpireAfter time.Duration
}

// DefaultDirectoryConfig is what a node uses unless told otherwise.
func DefaultDirectoryConfig() DirectoryConfig {
	return DirectoryConfig{Capacity: 100_000, RefreshAfter: time.Minute, ExpireAfter: 24 * time.Hour}
}

// Validate names the field that is wrong.
func (c DirectoryConfig) Validate() error {
	switch {
	case c.Capacity <= 0: // the cache would take 0 for unbounded
		return fmt.Errorf("company directory: Capacity must be more than 0, is %d", c.Capacity)
	case c.RefreshAfter <= 0:
		return fmt.Errorf("company directory: RefreshAfter must be more than 0, is %s", c.RefreshAfter)
	case c.ExpireAfter <= c.RefreshAfter:
		return fmt.Errorf("company directory: ExpireAfter must be more than RefreshAfter %s, is %s", c.RefreshAfter, c.ExpireAfter)
	default:
		return nil
	}
}

// An unknown company may be one that is just being created, so its absence is
// never answered from memory. It is remembered for negativeFor only to bound
// how often the database is asked: negativeRate times a second per company.
const (
	negativeFor      = 5 * time.Second
	negativeRate     = 20
	negativeCapacity = 10_000
)

// loadTimeout bounds one read of the source: a third of a punch's deadline, so
// that a second read still fits.
const loadTimeout = 5 * time.Second

// Directory answers where a company's home is, from memory when it can.
// It is safe for concurrent use.
type Directory struct {
	source  Source
	homes   *otter.Cache[string, known]
	unknown *otter.Cache[string, *rate.Limiter]
	loader  otter.Loader[string, known]
	tasks   tasks
	closing context.Context // ends with Close
	stop    context.CancelFunc

	hits, misses, failures atomic.Uint64
}

// known is a home and when the read that found it began.
type known struct {
	Home
	asked time.Time
}

// unknownError is ErrUnknownCompany with the time at which the read began.
type unknownError struct{ asked time.Time }

func (e *unknownError) Error() string { return ErrUnknownCompany.Error() }

// Is makes it ErrUnknownCompany for callers, and what makes otter drop an
// entry rather than keep it as it does on any other error.
func (e *unknownError) Is(target error) bool {
	return target == ErrUnknownCompany || target == otter.ErrNotFound
}

// NewDirectory makes a Directory over source. Close it.
func NewDirectory(cfg DirectoryConfig, source Source) (*Directory, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Directory{source: source}
	var err error
	d.homes, err = otter.New(&otter.Options[string, known]{
		MaximumSize:       cfg.Capacity,
		ExpiryCalculator:  otter.ExpiryWriting[string, known](cfg.ExpireAfter),
		RefreshCalculator: refreshTimes{after: cfg.RefreshAfter},
		Executor:          d.tasks.start,
		Logger:            &otter.NoopLogger{}, // it would log to slog's default; failures are counted
	})
	if err != nil {
		return nil, fmt.Errorf("company directory: %w", err)
	}
	d.unknown, err = otter.New(&otter.Options[string, *rate.Limiter]{
		MaximumSize:      negativeCapacity,
		ExpiryCalculator: otter.ExpiryWriting[string, *rate.Limiter](negativeFor),
		Executor:         d.tasks.start,
		Logger:           &otter.NoopLogger{},
	})
	if err != nil {
		d.homes.StopAllGoroutines()
		return nil, fmt.Errorf("company directory: %w", err)
	}
	d.closing, d.stop = context.WithCancel(context.Background())
	d.loader = otter.LoaderFunc[string, known](d.load)
	return d, nil
}

// load reads a home for everybody who waits for it. Its context must not be
// that of the request that happened to ask first.
func (d *Directory) load(ctx context.Context, company string) (known, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	defer context.AfterFunc(d.closing, cancel)()
	asked := time.Now()
	home, err := d.source.Home(ctx, company)
	switch {
	case errors.Is(err, ErrUnknownCompany):
		return known{}, &unknownError{asked: asked}
	case err != nil:
		d.failures.Add(1)
		if d.closing.Err() != nil {
			err = ErrClosed
		}
		return known{}, err
	default:
		return known{Home: home, asked: asked}, nil
	}
}

// Close ends the reads that are under way, and returns when nothing of the
// directory runs any more. It may be called twice.
func (d *Directory) Close() {
	d.stop()
	d.homes.StopAllGoroutines()
	d.unknown.StopAllGoroutines()
	d.tasks.close()
}

// Lookups returns how many look-ups were answered from memory and how many had
// to wait for the source.
func (d *Directory) Lookups() (hits, misses uint64) { return d.hits.Load(), d.misses.Load() }

// Failures returns how many reads of the source failed, those in the
// background included.
func (d *Directory) Failures() uint64 { return d.failures.Load() }

// Home returns the company's home as this node knows it. It returns
// ErrUnknownCompany, ErrBusy, the error of ctx, or what the source failed with.
func (d *Directory) Home(ctx context.Context, company string) (Home, error) {
	if limiter, ok := d.unknown.GetIfPresent(company); ok && !limiter.Allow() {
		return Home{}, ErrBusy
	}
	if _, ok := d.homes.GetEntryQuietly(company); ok {
		d.hits.Add(1)
		// This starts a background read when the entry is due for one. That
		// read belongs to no caller, so neither does its context.
		k, err := d.homes.Get(d.closing, company, d.loader)
		return k.Home, d.remember(company, err)
	}
	d.misses.Add(1)
	home, err := d.detached(ctx, func(ctx context.Context) (known, error) {
		asked := time.Now()
		k, err := d.homes.Get(ctx, company, d.loader)
		if errors.Is(err, ErrUnknownCompany) && began(k, err).Before(asked) {
			// It was created after the read that this caller joined, or
			// not at all. "Unknown" is final for a device: make sure.
			k, err = d.homes.Get(ctx, company, d.loader)
		}
		return k, err
	})
	return home, d.remember(company, err)
}

// Refresh asks the source whatever is in memory, as one does after being told
// that the known home is wrong. Callers of one company share a read, but never
// one that began before they asked.
func (d *Directory) Refresh(ctx context.Context, company string) (Home, error) {
	home, err := d.detached(ctx, func(ctx context.Context) (known, error) {
		asked := time.Now()
		r := <-d.homes.Refresh(ctx, company, d.loader)
		if began(r.Value, r.Err).Before(asked) {
			r = <-d.homes.Refresh(ctx, company, d.loader)
		}
		return r.Value, r.Err
	})
	return home, d.remember(company, err)
}

// began returns when the read began that answered k or err.
func began(k known, err error) time.Time {
	var unknown *unknownError
	switch {
	case errors.As(err, &unknown):
		return unknown.asked
	case err != nil: // it answered nothing
		return time.Now()
	default:
		return k.asked
	}
}

// detached runs ask on a goroutine of its own, because a caller may give up
// earlier than the read that others wait for too.
func (d *Directory) detached(ctx context.Context, ask func(context.Context) (known, error)) (Home, error) {
	if err := ctx.Err(); err != nil {
		return Home{}, err
	}
	type answer struct {
		home Home
		err  error
	}
	answered := make(chan answer, 1)
	d.tasks.start(func() {
		// Bounded like a single read: a company that changes faster than it
		// loads would be loaded forever.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		defer cancel()
		k, err := ask(ctx)
		answered <- answer{home: k.Home, err: err}
	})
	select {
	case a := <-answered:
		return a.home, a.err
	case <-ctx.Done():
		return Home{}, ctx.Err()
	}
}

func (d *Directory) remember(company string, err error) error {
	if errors.Is(err, ErrUnknownCompany) {
		d.unknown.SetIfAbsent(company, rate.NewLimiter(negativeRate, negativeRate))
		return ErrUnknownCompany
	}
	if err == nil {
		d.found(company)
	}
	return err
}

// found ends the limit on asking for a company. The look-up before it takes no
// lock.
func (d *Directory) found(company string) {
	if _, ok := d.unknown.GetEntryQuietly(company); ok {
		d.unknown.Invalidate(company)
	}
}

// Learn keeps a home that was read elsewhere, unless a newer one is known.
func (d *Directory) Learn(company string, home Home) {
	d.homes.Compute(company, func(old known, found bool) (known, otter.ComputeOp) {
		if found && old.Version > home.Version {
			return old, otter.CancelOp
		}
		return known{Home: home}, otter.WriteOp
	})
	d.found(company)
}

// Changed drops the company's entry if it is older than version. A read that
// is under way is done again, for it may have begun before the change.
func (d *Directory) Changed(company string, version int64) {
	d.homes.Compute(company, func(old known, found bool) (known, otter.ComputeOp) {
		if found && old.Version >= version {
			return old, otter.CancelOp
		}
		return known{}, otter.InvalidateOp
	})
	d.found(company)
}

// Len returns about how many companies are known.
func (d *Directory) Len() int { return d.homes.EstimatedSize() }
