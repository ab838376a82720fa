package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Command is `punchclock-lab audit`.
type Command struct {
	Ledger      string `arg:"" help:"Ledger to compare with the database." type:"existingfile"`
	DatabaseURL string `help:"URL of the database." env:"PUNCHCLOCK_DATABASE_URL" required:""`
	JSON        bool   `help:"Print the report as JSON."`
	// A million rows are read in well under a minute.
	Timeout time.Duration `help:"When to give up." default:"5m"`
}

// ErrNotClean is returned if the audit found a fault.
var ErrNotClean = errors.New("the audit found a fault")

// ErrNoEvidence is returned for a ledger without a receipt. Such a ledger would pass every check.
var ErrNoEvidence = errors.New("the ledger holds no receipt, so it proves nothing")

// Run audits and writes the report to out. It returns ErrNotClean or ErrNoEvidence if the report does not pass.
func (c *Command) Run(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	file, err := os.Open(c.Ledger)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read
	report, err := Run(ctx, file, c.DatabaseURL)
	if err != nil {
		return err
	}
	if err := c.print(out, &report); err != nil {
		return err
	}
	return report.Verdict()
}

func (c *Command) print(out io.Writer, report *Report) error {
	if c.JSON {
		return json.MarshalWrite(out, report, jsontext.WithIndent("  "))
	}
	_, err := fmt.Fprint(out, report)
	return err
}

// Verdict returns nil if the report is clean and the ledger holds receipts.
func (r *Report) Verdict() error {
	switch {
	case !r.Clean():
		return ErrNotClean
	case r.Acknowledged == 0:
		return ErrNoEvidence
	default:
		return nil
	}
}
