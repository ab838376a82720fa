package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/punch"
)

// switching holds the flags of the commands that suspend, resume and limit a company.
type switching struct {
	database
	ID string `arg:"" name:"company" help:"Company's id."`
	By string `help:"Who changes it, for 'company show'. The default is this account and host."`
}

// by returns who runs the command. Nothing proves it: the account of the database decides who may.
func (c *switching) by() string {
	if c.By != "" {
		return c.By
	}
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// suspendCommand is `punchclock company suspend`.
type suspendCommand struct {
	switching
	Reason string    `help:"Reason, for other operators. Devices do not see it."`
	Until  time.Time `help:"Time at which the suspension ends by itself, RFC 3339. Without it, it lasts until 'company resume'." format:"2006-01-02T15:04:05Z07:00"`
}

// Run implements the command.
func (c *suspendCommand) Run(ctx context.Context, out io.Writer) error {
	ctx, db, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	company, err := db.Suspend(ctx, c.ID, crdb.Suspension{Until: c.Until, Reason: c.Reason}, c.by())
	if err != nil {
		return err
	}
	return printSwitched(out, &company, "is suspended "+untilOrResumed(&company)+"; its devices keep their punches")
}

// resumeCommand is `punchclock company resume`.
type resumeCommand struct{ switching }

// Run implements the command.
func (c *resumeCommand) Run(ctx context.Context, out io.Writer) error {
	ctx, db, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	company, err := db.Resume(ctx, c.ID, c.by())
	if err != nil {
		return err
	}
	return printSwitched(out, &company, "is not suspended; its devices send their punches when they ask next, mostly within 20 minutes")
}

// limitCommand is `punchclock company limit`.
type limitCommand struct {
	switching
	Rate string `arg:"" help:"Punches a second that each node takes, or none. The cluster takes up to as many times more as it has nodes."`
}

// Run implements the command.
func (c *limitCommand) Run(ctx context.Context, out io.Writer) error {
	rate, err := parseRate(c.Rate)
	if err != nil {
		return err
	}
	ctx, db, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	company, err := db.LimitRate(ctx, c.ID, rate, c.by())
	if err != nil {
		return err
	}
	if rate == 0 {
		return printSwitched(out, &company, "has no limit")
	}
	return printSwitched(out, &company, fmt.Sprintf("may send %d punches a second to each node", rate))
}

// parseRate returns 0 for none. The number 0 is refused: it reads like a suspension.
func parseRate(s string) (int, error) {
	if s == "none" {
		return 0, nil
	}
	rate, err := strconv.Atoi(s)
	if err != nil || rate < 1 {
		return 0, punch.InvalidField("rate", "must be 1 to %d punches a second, or none, is %q", crdb.MaxRateLimit, s)
	}
	return rate, nil
}

// printSwitched says what holds now, and when the nodes obey.
func printSwitched(out io.Writer, c *crdb.Company, state string) error {
	when := fmt.Sprintf("all nodes obey since epoch %d", c.Epoch)
	if c.MovingFrom != "" {
		when = "the company is moving, so nodes obey after their next read of the company, within a minute"
	}
	_, err := fmt.Fprintf(out, "company %s %s; %s\n", c.ID, state, when)
	return err
}

func untilOrResumed(c *crdb.Company) string {
	if c.SuspendedUntil == nil {
		return "until it is resumed"
	}
	return "until " + c.SuspendedUntil.UTC().Format(time.RFC3339)
}

// suspension is the cell of a company in a table.
func suspension(c *crdb.Company) string {
	switch {
	case !c.SuspendedAt(time.Now()):
		return "no"
	case c.SuspendedUntil == nil:
		return "yes"
	default:
		return untilOrResumed(c)
	}
}

// limit is the cell of a company in a table.
func limit(c *crdb.Company) string {
	if c.RateLimit == 0 {
		return "none"
	}
	return fmt.Sprintf("%d/s", c.RateLimit)
}

func printSwitches(out io.Writer, c *crdb.Company) {
	state := suspension(c)
	if c.Suspended && state == "no" {
		state = "no, the suspension has ended"
	}
	fmt.Fprintf(out, "suspended    %s\n", state)
	if c.Reason != "" {
		fmt.Fprintf(out, "reason       %s\n", c.Reason)
	}
	rate := limit(c)
	if c.RateLimit > 0 {
		rate += " for each node"
	}
	fmt.Fprintf(out, "limit        %s\n", rate)
	if c.SwitchedAt != nil {
		fmt.Fprintf(out, "switched     %s by %s\n", c.SwitchedAt.UTC().Format(time.RFC3339), c.SwitchedBy)
	}
}
