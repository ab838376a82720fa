package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/punchclock/punchclock/node/companies"
	"github.com/punchclock/punchclock/node/crdb"
)

// companyCommand is `punchclock company`.
type companyCommand struct {
	Create  createCommand  `cmd:"" help:"Create a company. Every node knows it at once."`
	List    listCommand    `cmd:"" help:"List companies."`
	Show    showCommand    `cmd:"" help:"Show one company."`
	Move    moveCommand    `cmd:"" help:"Move a company to another home region, with its punches and without a pause. After an interruption, run the same command again."`
	SetZone setZoneCommand `cmd:"" name:"set-zone" help:"Correct a company's time zone. Every punch that is stored afterwards has the new zone. Stored punches keep theirs. Run it as the account that runs company move."`
	Suspend suspendCommand `cmd:"" help:"Make all nodes refuse a company's punches with 503, so that its devices keep them. Reads go on. Run it as the account that runs company move."`
	Resume  resumeCommand  `cmd:"" help:"End the suspension of a company. Its devices send their punches when they ask next, mostly within 20 minutes."`
	Limit   limitCommand   `cmd:"" help:"Limit the punches a second that each node takes from a company's devices. Punches above the limit are refused with 429, and devices keep them."`
	Import  importCommand  `cmd:"" help:"Create companies from a CSV file with the columns company,name,home_region,time_zone. One line is one company. Each line is counted as created, unchanged or refused. Refused lines are named by their number."`
}

type createCommand struct {
	database
	ID         string `arg:"" help:"Company's id: 1 to 64 of letters, digits, '.', '_' and '-'."`
	Name       string `help:"Company's name." required:""`
	HomeRegion string `help:"Region that stores its punches." required:""`
	TimeZone   string `help:"IANA time zone, such as Europe/Berlin." required:""`
}

// Run implements the command.
func (c *createCommand) Run(ctx context.Context, out io.Writer) error {
	ctx, db, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	company := crdb.Company{ID: c.ID, Name: c.Name, HomeRegion: c.HomeRegion, TimeZone: c.TimeZone}
	regions, err := db.Regions(ctx)
	if err != nil {
		return err
	}
	if err := company.Validate(regions); err != nil {
		return err
	}
	outcomes, err := db.CreateCompanies(ctx, []crdb.Company{company})
	if err != nil {
		return err
	}
	if outcomes[0] != nil {
		return outcomes[0]
	}
	fmt.Fprintf(out, "company %s has its home in %s\n", c.ID, c.HomeRegion)
	return nil
}

type listCommand struct{ database }

// Run implements the command.
func (c *listCommand) Run(ctx context.Context, out io.Writer) error {
	ctx, db, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "COMPANY\tHOME\tEPOCH\tZONE\tSUSPENDED\tLIMIT\tNAME")
	const page = 1000 // little memory, and few round trips
	for after := ""; ; {
		list, err := db.ListCompanies(ctx, after, page)
		if err != nil {
			return err
		}
		for _, c := range list {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", c.ID, c.HomeRegion, c.Epoch, c.TimeZone, suspension(&c), limit(&c), c.Name)
			after = c.ID
		}
		if len(list) < page {
			return w.Flush()
		}
	}
}

type showCommand struct {
	database
	ID string `arg:"" help:"Company's id."`
}

// Run implements the command.
func (c *showCommand) Run(ctx context.Context, out io.Writer) error {
	ctx, db, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	company, err := db.Company(ctx, c.ID)
	if err != nil {
		return err
	}
	home := company.HomeRegion
	if company.MovingFrom != "" {
		home += ", the move from " + company.MovingFrom + " has not ended"
	}
	fmt.Fprintf(out, "company      %s\nname         %s\nhome region  %s\nepoch        %d\nversion      %d\ntime zone    %s\ncreated      %s\n",
		company.ID, company.Name, home, company.Epoch, company.Version, company.TimeZone, company.CreatedAt.UTC().Format(time.RFC3339))
	printSwitches(out, &company)
	return nil
}

type setZoneCommand struct {
	database
	ID   string `arg:"" name:"company" help:"Company's id."`
	Zone string `arg:"" help:"IANA time zone, such as Europe/Berlin."`
}

// Run implements the command.
func (c *setZoneCommand) Run(ctx context.Context, out io.Writer) error {
	ctx, db, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	company, err := db.SetZone(ctx, c.ID, c.Zone)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "company %s has the time zone %s since epoch %d; punches stored before keep their zone\n",
		company.ID, company.TimeZone, company.Epoch)
	return nil
}

var errBadLines = errors.New("some lines were not imported")

type importCommand struct {
	database
	File *os.File `arg:"" help:"CSV file, - for standard input. UTF-8, or UTF-16 with a byte order mark. Fields are separated by comma, semicolon, tab or |."`
}

// Run implements the command.
func (c *importCommand) Run(ctx context.Context, out io.Writer) error {
	defer c.File.Close() //nolint:errcheck // it was only read
	ctx, db, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	regions, err := db.Regions(ctx)
	if err != nil {
		return err
	}
	size := int64(-1) // unknown for a pipe: the bar shows no end
	if info, err := c.File.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	bar := progressbar.NewOptions64(size, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionShowBytes(true),
		progressbar.OptionSetDescription("companies"), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetSpinnerChangeInterval(0)) // the ticks of the bar race with Set64
	result, err := companies.Import(ctx, c.File, companies.Deps{Store: db, Regions: regions, Progress: func(n int64) { _ = bar.Set64(n) }})
	_ = bar.Finish() // a bar that cannot be drawn is no error of the import
	for _, warning := range result.Warnings {
		fmt.Fprintln(os.Stderr, warning)
	}
	for _, refused := range result.Refused {
		fmt.Fprintln(os.Stderr, refused)
	}
	fmt.Fprintln(out, &result)
	if err == nil && len(result.Refused) > 0 {
		err = errBadLines
	}
	return err
}
