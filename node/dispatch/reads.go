package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// Reads answers reads from the company's home region.
type Reads struct {
	Directory Directory
	Store     Store
}

// refreshPatience leaves most of a read's time for the read: the companies are
// a global table, which answers at once or, while the region that holds its
// lease is away, not at all.
const refreshPatience = time.Second

// home asks the database, since a read at an old home would miss what was
// written at the new one; a database that does not answer leaves the cached
// home, and the read fails or not by itself.
func (r Reads) home(ctx context.Context, company string) (string, error) {
	refresh, cancel := context.WithTimeout(ctx, refreshPatience)
	home, err := r.Directory.Refresh(refresh, company)
	cancel()
	if err != nil && !errors.Is(err, region.ErrUnknownCompany) {
		home, err = r.Directory.Home(ctx, company)
	}
	if err != nil {
		return "", refusal(company, err)
	}
	return string(home.Region), nil
}

// Find returns the receipt of a punch, or a NotFound *punch.Error.
func (r Reads) Find(ctx context.Context, key punch.Key) (punch.Receipt, error) {
	home, err := r.home(ctx, key.Company)
	if err != nil {
		return punch.Receipt{}, err
	}
	stored, err := r.Store.Find(ctx, home, key)
	if err != nil {
		return punch.Receipt{}, err
	}
	return stored.Receipt, nil
}

// List returns an employee's punches.
func (r Reads) List(ctx context.Context, q punch.Query) ([]punch.Receipt, error) {
	home, err := r.home(ctx, q.Company)
	if err != nil {
		return nil, err
	}
	return r.Store.List(ctx, home, q)
}
