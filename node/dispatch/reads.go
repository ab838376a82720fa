package dispatch

import (
	"context"
	"time"

	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/region"
)

// Reads answers reads from the company's home region.
type Reads struct {
	Directory Directory
	Store     Store
}

// atHome runs a read at the home that the directory knows. When the database answers NotHome, it is asked for the home
// and the read runs once more.
func (r Reads) atHome(ctx context.Context, company string, read func(home string) error) error {
	var err error
	for _, lookup := range []func(context.Context, string) (region.Home, error){r.Directory.Home, r.Directory.Refresh} {
		home, lookupErr := lookup(ctx, company)
		if lookupErr != nil {
			return toPunchError(company, lookupErr)
		}
		if err = read(string(home.Region)); punch.CodeOf(err) != punch.NotHome {
			return err
		}
	}
	return punch.Retryable(punch.Unavailable, time.Second, "the company is moving to another region; try again", err)
}

// Find returns the receipt of a punch, or a NotFound *punch.Error.
func (r Reads) Find(ctx context.Context, key punch.Key) (receipt punch.Receipt, err error) {
	err = r.atHome(ctx, key.Company, func(home string) error {
		stored, err := r.Store.Find(ctx, home, key)
		if err == nil {
			receipt = stored.Receipt
		}
		return err
	})
	return receipt, err
}

// List returns an employee's punches.
func (r Reads) List(ctx context.Context, q punch.Query) (list []punch.Receipt, err error) {
	err = r.atHome(ctx, q.Company, func(home string) error {
		list, err = r.Store.List(ctx, home, q)
		return err
	})
	return list, err
}
