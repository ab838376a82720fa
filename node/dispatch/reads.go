package dispatch

import (
	"context"
	"errors"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// Reads answers reads from the company's home region.
type Reads struct {
	Directory Directory
	Store     Store
}

// home asks the database, since a read at an old home would miss what was
// written at the new one; a database that does not answer leaves the cached
// home, and the read fails or not by itself.
func (r Reads) home(ctx context.Context, company string) (string, error) {
	home, err := r.Directory.Refresh(ctx, company)
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
