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

// ErrUnknownCompany means that the database has no such company at this moment.
var ErrUnknownCompany = errors.New("unknown company")

// ErrBusy means that a company was unknown a moment ago and is looked up too often. It does not tell whether the
// company exists.
var ErrBusy = errors.New("the company was unknown a moment ago and is looked up too often")

// ErrClosed means that the Directory was closed before the look-up had an answer.
var ErrClosed = errors.New("the company directory is closed")

// Source is the database behind a Directory. Home must return ErrUnknownCompany only if the database has no such
// company.
type Source interface {
	Home(ctx context.Context, company string) (Home, error)
}

// DirectoryConfig has the limits of a Directory.
type DirectoryConfig struct {
	// Capacity is the greatest number of companies in memory. 100,000 companies take about 30 MB.
	Capacity int
	// RefreshAfter is the age at which an entry is read again in the background. The old entry is used until the read
	// has an answer.
	RefreshAfter time.Duration
	// ExpireAfter is the age at which an entry is no longer used, even if the database does not answer. The fence
	// catches a stale entry, so ExpireAfter only needs to outlast an outage.
	ExpireAfter time.Duration
}

// DefaultDirectoryConfig returns the limits of a node without further settings.
func DefaultDirectoryConfig() DirectoryConfig {
	return DirectoryConfig{Capacity: 100_000, RefreshAfter: time.Minute, ExpireAfter: 24 * time.Hour}
}

// Validate returns an error that names the wrong field.
func (c DirectoryConfig) Validate() error {
	switch {
	case c.Capacity <= 0: // for the cache, 0 means no limit
		return fmt.Errorf("company directory: Capacity must be more than 0, is %d", c.Capacity)
	case c.RefreshAfter <= 0:
		return fmt.Errorf("company directory: RefreshAfter must be more than 0, is %s", c.RefreshAfter)
	case c.ExpireAfter <= c.RefreshAfter:
		return fmt.Errorf("company directory: ExpireAfter must be more than RefreshAfter %s, is %s", c.RefreshAfter, c.ExpireAfter)
	default:
		return nil
	}
}

// Memory never answers that a company is unknown: the company may have been created a moment ago, and a device does not
// try again after that answer. For negativeFor the directory only limits the reads of the database, to negativeRate a
// second for each company.
const (
	negativeFor      = 5 * time.Second
	negativeRate     = 20
	negativeCapacity = 10_000
)

// loadTimeout is the limit of one read of the source. It is a third of a punch's deadline, so that a second read fits.
const loadTimeout = 5 * time.Second

// Directory is a cache of the companies' homes. It is safe for concurrent use.
type Directory struct {
	source  Source
	homes   *otter.Cache[string, entry]
	unknown *otter.Cache[string, *rate.Limiter]
	loader  otter.Loader[string, entry]
	tasks   tasks
	closing context.Context // Close ends it
	stop    context.CancelFunc

	hits, misses, failures atomic.Uint64
}

// entry is a home in memory.
type entry struct {
	Home
	asked   time.Time // when the read began that found the home
	recheck *recheck  // of a suspended company, nil for others
}

// unknownError is ErrUnknownCompany with the time at which the read began.
type unknownError struct{ asked time.Time }

func (e *unknownError) Error() string { return ErrUnknownCompany.Error() }

// Is makes the error ErrUnknownCompany for callers and otter.ErrNotFound for the cache. After ErrNotFound the cache
// drops the entry; after every other error it keeps the entry.
func (e *unknownError) Is(target error) bool {
	return target == ErrUnknownCompany || target == otter.ErrNotFound
}

// NewDirectory returns a Directory that reads the source. The caller must close it.
func NewDirectory(cfg DirectoryConfig, source Source) (*Directory, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Directory{source: source}
	var err error
	d.homes, err = otter.New(&otter.Options[string, entry]{
		MaximumSize:       cfg.Capacity,
		ExpiryCalculator:  otter.ExpiryWriting[string, entry](cfg.ExpireAfter),
		RefreshCalculator: refreshTimes{after: cfg.RefreshAfter},
		Executor:          d.tasks.start,
		Logger:            &otter.NoopLogger{}, // otherwise it logs to slog's default; Stats counts the failures
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
	d.loader = otter.LoaderFunc[string, entry](d.load)
	return d, nil
}

// load reads a home for all callers that wait for it. ctx must not be the context of one of them: a caller that gives
// up would fail the others.
func (d *Directory) load(ctx context.Context, company string) (entry, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	defer context.AfterFunc(d.closing, cancel)()
	asked := time.Now()
	home, err := d.source.Home(ctx, company)
	switch {
	case errors.Is(err, ErrUnknownCompany):
		return entry{}, &unknownError{asked: asked}
	case err != nil:
		d.failures.Add(1)
		if d.closing.Err() != nil {
			err = ErrClosed
		}
		return entry{}, err
	default:
		return entry{Home: home, asked: asked, recheck: newRecheck(home, asked.Add(suspensionAge))}, nil
	}
}

// Close cancels the reads in progress and waits for all goroutines of the directory. It may be called twice.
func (d *Directory) Close() {
	d.stop()
	d.homes.StopAllGoroutines()
	d.unknown.StopAllGoroutines()
	d.tasks.close()
}

// DirectoryStats counts the work of a Directory since its start.
type DirectoryStats struct {
	Hits     uint64 // look-ups that memory answered
	Misses   uint64 // look-ups that waited for the source
	Failures uint64 // reads of the source that failed, including background reads
}

// Stats returns the counters. Failures matter most: while memory answers all look-ups, nothing else shows that the
// entries can no longer be refreshed.
func (d *Directory) Stats() DirectoryStats {
	return DirectoryStats{Hits: d.hits.Load(), Misses: d.misses.Load(), Failures: d.failures.Load()}
}

// Home returns the company's home as this node knows it. Its error is ErrUnknownCompany, ErrBusy, the error of ctx or
// the error of the source.
func (d *Directory) Home(ctx context.Context, company string) (Home, error) {
	if limiter, ok := d.unknown.GetIfPresent(company); ok && !limiter.Allow() {
		return Home{}, ErrBusy
	}
	if _, ok := d.homes.GetEntryQuietly(company); ok {
		d.hits.Add(1)
		// Get starts a background read if the entry is old. The read must outlive this caller's context.
		k, err := d.homes.Get(d.closing, company, d.loader)
		if now := time.Now(); err == nil && k.SuspendedAt(now) && k.recheck.due(now) {
			return d.recheckSuspension(ctx, company, k)
		}
		return k.Home, d.remember(company, err)
	}
	d.misses.Add(1)
	home, err := d.detached(ctx, func(ctx context.Context) (entry, error) {
		asked := time.Now()
		k, err := d.homes.Get(ctx, company, d.loader)
		if errors.Is(err, ErrUnknownCompany) && began(k, err).Before(asked) {
			// The read that this caller joined began earlier, and the company may have been created since. "Unknown"
			// is final for a device, so read once more.
			k, err = d.homes.Get(ctx, company, d.loader)
		}
		return k, err
	})
	return home, d.remember(company, err)
}

// Refresh reads the source, whatever memory holds. Use it after a node or the database refused the known home. Callers
// of one company share a read, but never a read that began before they asked.
func (d *Directory) Refresh(ctx context.Context, company string) (Home, error) {
	home, err := d.detached(ctx, func(ctx context.Context) (entry, error) {
		asked := time.Now()
		r := <-d.homes.Refresh(ctx, company, d.loader)
		if began(r.Value, r.Err).Before(asked) {
			r = <-d.homes.Refresh(ctx, company, d.loader)
		}
		return r.Value, r.Err
	})
	return home, d.remember(company, err)
}

// began returns when the read began that returned k or err.
func began(k entry, err error) time.Time {
	var unknown *unknownError
	switch {
	case errors.As(err, &unknown):
		return unknown.asked
	case err != nil: // the read had no answer, so it is never too old
		return time.Now()
	default:
		return k.asked
	}
}

// detached runs ask on its own goroutine. A caller may give up while other callers still wait for the same read.
func (d *Directory) detached(ctx context.Context, ask func(context.Context) (entry, error)) (Home, error) {
	if err := ctx.Err(); err != nil {
		return Home{}, err
	}
	type answer struct {
		home Home
		err  error
	}
	answered := make(chan answer, 1)
	d.tasks.start(func() {
		// Both reads together have the limit of one. Otherwise a company that changes faster than a read takes would
		// be read forever.
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

// found ends the limit on reads of a company. GetEntryQuietly comes first because it takes no lock.
func (d *Directory) found(company string) {
	if _, ok := d.unknown.GetEntryQuietly(company); ok {
		d.unknown.Invalidate(company)
	}
}

// Put stores a home that was read elsewhere, unless a newer one is known.
func (d *Directory) Put(company string, home Home) {
	d.homes.Compute(company, func(old entry, found bool) (entry, otter.ComputeOp) {
		if found && old.Version > home.Version {
			return old, otter.CancelOp
		}
		return entry{Home: home, recheck: newRecheck(home, time.Time{})}, otter.WriteOp
	})
	d.found(company)
}

// Len returns the approximate number of companies in memory.
func (d *Directory) Len() int { return d.homes.EstimatedSize() }
