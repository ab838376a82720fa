package region

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"
	"golang.org/x/time/rate"
)

// ErrUnknownCompany is returned when the database, just asked, has no such
// company.
var ErrUnknownCompany = errors.New("unknown company")

// ErrBusy is returned when a company that was unknown a moment ago is asked
// for too often. It says nothing about whether the company exists.
var ErrBusy = errors.New("unknown a moment ago and asked for too often")

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
	homes   *otter.Cache[string, Home]
	unknown *otter.Cache[string, *rate.Limiter]
	loader  otter.Loader[string, Home]
	counter *stats.Counter
}

// NewDirectory makes a Directory over source.
func NewDirectory(cfg DirectoryConfig, source Source) (*Directory, error) {
	counter := stats.NewCounter()
	homes, err := otter.New(&otter.Options[string, Home]{
		MaximumSize:       cfg.Capacity,
		StatsRecorder:     counter,
		ExpiryCalculator:  otter.ExpiryWriting[string, Home](cfg.ExpireAfter),
		RefreshCalculator: otter.RefreshWriting[string, Home](cfg.RefreshAfter),
	})
	if err != nil {
		return nil, fmt.Errorf("company directory: %w", err)
	}
	unknown, err := otter.New(&otter.Options[string, *rate.Limiter]{
		MaximumSize:      negativeCapacity,
		ExpiryCalculator: otter.ExpiryWriting[string, *rate.Limiter](negativeFor),
	})
	if err != nil {
		return nil, fmt.Errorf("company directory: %w", err)
	}
	d := &Directory{source: source, homes: homes, unknown: unknown, counter: counter}
	d.loader = otter.LoaderFunc[string, Home](d.load)
	return d, nil
}

// load reads a home for everybody who waits for it, so it must not end with
// the request that happened to ask first.
func (d *Directory) load(ctx context.Context, company string) (Home, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	defer cancel()
	home, err := d.source.Home(ctx, company)
	if errors.Is(err, ErrUnknownCompany) {
		// otter drops the entry on its own error and keeps it on any other.
		return Home{}, fmt.Errorf("%w (%w)", ErrUnknownCompany, otter.ErrNotFound)
	}
	return home, err
}

// Close stops the directory's background work.
func (d *Directory) Close() {
	d.homes.StopAllGoroutines()
	d.unknown.StopAllGoroutines()
}

// Lookups returns how many look-ups were answered from memory and how many had
// to ask the source.
func (d *Directory) Lookups() (hits, misses uint64) {
	s := d.counter.Snapshot()
	return s.Hits, s.Misses
}

// Home returns the company's home as this node knows it. It returns
// ErrUnknownCompany, ErrBusy, or what the source failed with.
func (d *Directory) Home(ctx context.Context, company string) (Home, error) {
	if limiter, ok := d.unknown.GetIfPresent(company); ok && !limiter.Allow() {
		return Home{}, ErrBusy
	}
	home, err := d.homes.Get(ctx, company, d.loader)
	return home, d.remember(company, err)
}

// Refresh asks the source whatever is in memory, as one does after being told
// that the known home is wrong.
func (d *Directory) Refresh(ctx context.Context, company string) (Home, error) {
	home, err := d.source.Home(ctx, company)
	if err == nil {
		d.Learn(company, home)
	}
	return home, d.remember(company, err)
}

func (d *Directory) remember(company string, err error) error {
	switch {
	case err == nil:
		d.unknown.Invalidate(company)
	case errors.Is(err, ErrUnknownCompany):
		d.unknown.SetIfAbsent(company, rate.NewLimiter(negativeRate, negativeRate))
	}
	return err
}

// Learn keeps a home that was read elsewhere, unless a newer one is known.
func (d *Directory) Learn(company string, home Home) {
	d.homes.Compute(company, func(old Home, found bool) (Home, otter.ComputeOp) {
		if found && old.Version > home.Version {
			return old, otter.CancelOp
		}
		return home, otter.WriteOp
	})
}

// Changed drops the company's entry if it is older than version.
func (d *Directory) Changed(company string, version int64) {
	d.homes.ComputeIfPresent(company, func(old Home) (Home, otter.ComputeOp) {
		if old.Version >= version {
			return old, otter.CancelOp
		}
		return Home{}, otter.InvalidateOp
	})
}

// Len returns about how many companies are known.
func (d *Directory) Len() int { return d.homes.EstimatedSize() }
