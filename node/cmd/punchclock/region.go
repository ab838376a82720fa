package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/punchclock/punchclock/node/crdb"
)

type addRegionCommand struct {
	database
	Region string `arg:"" help:"Region to add. Database servers must run there already."`
}

// Run implements the command.
func (c *addRegionCommand) Run(ctx context.Context, out io.Writer) error {
	ctx, db, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	began := time.Now()
	existed, err := db.AddRegion(ctx, c.Region, func(step string) {
		fmt.Fprintf(os.Stderr, "%5.1f s  %s\n", time.Since(began).Seconds(), step)
	})
	if err != nil {
		return err
	}
	state := "was added"
	if existed {
		state = "exists already"
	}
	fmt.Fprintf(out, "region %s %s; companies may have their home there\n", c.Region, state)
	uses, err := db.RegionUses(ctx)
	for _, u := range uses {
		if u.Name == c.Region && u.Evacuated {
			fmt.Fprintf(out, "the region is evacuated: once its nodes run, `punchclock region restore %s` puts it into service\n", c.Region)
		}
	}
	return err
}

type removeRegionCommand struct {
	database
	Region       string `arg:"" help:"Region to remove from the database."`
	Check        bool   `help:"Change nothing, and print the obstacles. The exit status is 1 if there is one."`
	WithoutNodes bool   `help:"The region has no nodes, so the command does not ask for its evacuation."`
}

var errObstacles = errors.New("the region was not removed")

// Run implements the command.
func (c *removeRegionCommand) Run(ctx context.Context, out io.Writer) error {
	ctx, db, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	obstacles, existed, err := db.RegionObstacles(ctx, c.Region, !c.WithoutNodes)
	if err != nil {
		return err
	}
	for _, o := range obstacles {
		fmt.Fprintf(os.Stderr, "%s: %s\n", c.Region, o)
	}
	switch {
	case len(obstacles) > 0:
		return errObstacles
	case !existed:
		_, err = fmt.Fprintf(out, "the database has no region %s: nothing to remove\n", c.Region)
	case c.Check:
		_, err = fmt.Fprintf(out, "no obstacle to removing region %s\n", c.Region)
	default:
		if err = db.RemoveRegion(ctx, c.Region); err == nil {
			_, err = fmt.Fprintf(out, "region %s was removed from the database; its servers may be decommissioned\n", c.Region)
		}
	}
	return err
}

type listRegionsCommand struct {
	database
	JSON bool `help:"Print JSON."`
}

// Run implements the command.
func (c *listRegionsCommand) Run(ctx context.Context, out io.Writer) error {
	ctx, db, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	uses, err := db.RegionUses(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(uses)
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "REGION\tPRIMARY\tHOMES\tARRIVING\tLEAVING\tEVACUATED\tLEVEL")
	for _, u := range uses {
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%d\n", u.Name, yesNo(u.Primary), u.Homes, u.Arriving, u.Leaving, evacuated(u), u.Level)
	}
	return w.Flush()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func evacuated(u crdb.RegionUse) string {
	if u.Evacuated && u.Until != nil {
		return "until " + u.Until.Format(time.RFC3339)
	}
	return yesNo(u.Evacuated)
}
