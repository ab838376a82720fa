package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/companies"
	"github.com/punchclock/punchclock/node/config"
	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/punch"
)

// commandTimeout bounds a command on the database: a schema change in three
// regions takes up to a minute on a small cluster, 100,000 companies some
// minutes.
const commandTimeout = 15 * time.Minute

// connectPatience is how long a command waits for a database that does not
// answer: an operator sits before it.
const connectPatience = 15 * time.Second

type database struct {
	config.DB `embed:"" prefix:"database-"`
	Insecure  bool `help:"Let the database go unprotected, on loopback alone."`
}

// url returns the database's URL if that is reached safely.
func (d *database) url() (string, error) {
	url, err := d.DatabaseURL()
	if err == nil {
		err = crdb.CheckTransport(url, d.Insecure)
	}
	return url, err
}

// begin opens the database for a command, whose time it bounds. done must be
// called unless there is an error.
func (d *database) begin(ctx context.Context) (_ context.Context, db *crdb.DB, done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	if db, err = d.open(ctx, 0); err != nil {
		cancel()
		return nil, nil, nil, err
	}
	return ctx, db, func() { db.Close(); cancel() }, nil
}

// open opens the database with connections that carry so many companies at once.
func (d *database) open(ctx context.Context, companies int) (*crdb.DB, error) {
	url, err := d.url()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectPatience)
	defer cancel()
	db, err := crdb.Open(ctx, crdb.Config{
		URL: url, ConnectionsPerHome: 1, ReadConnections: d.ReadConnections, MoveConnections: companies,
		ConnectTimeout: d.ConnectTimeout, AttemptTimeout: time.Minute, // a write to a global table that has to wait
	}, crdb.Deps{Log: slog.New(slog.DiscardHandler), Meter: metricnoop.NewMeterProvider(), Tracer: tracenoop.NewTracerProvider()})
	if err != nil {
		return nil, err
	}
	if err := db.CheckSchema(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return db, nil
}

type migrateCommand struct {
	database
	Regions []string `help:"Regions that the database must have, the primary one first. Those it has stay."`
}

// Run implements the command.
func (c *migrateCommand) Run(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	url, err := c.url()
	if err != nil {
		return err
	}
	done, err := crdb.Migrate(ctx, url, c.Regions, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for _, name := range done.Applied {
		fmt.Fprintln(out, "applied", name)
	}
	if len(done.Applied) == 0 {
		fmt.Fprintln(out, "nothing to apply")
	}
	fmt.Fprintf(out, "%s schema version %d, regions %s\n", done.Engine, done.Version, strings.Join(done.Regions, ", "))
	return nil
}

type companyCommand struct {
	Create  createCommand  `cmd:"" help:"Create a company. Known to every node at once."`
	List    listCommand    `cmd:"" help:"List companies."`
	Show    showCommand    `cmd:"" help:"Show one company."`
	Move    moveCommand    `cmd:"" help:"Make another region a company's home and carry its punches there, while punches go on. May be interrupted and run again."`
	SetZone setZoneCommand `cmd:"" name:"set-zone" help:"Correct a company's time zone. Every punch that is stored afterwards has the new zone. Stored punches keep theirs. Run it as the account that runs company move."`
	Import  importCommand  `cmd:"" help:"Create companies from a CSV file with the columns company,name,home_region,time_zone. A bad line is named and the others are kept."`
}

type createCommand struct {
	database
	ID         string `arg:"" help:"Company's id: 1 to 64 of letters, digits, '.', '_' and '-'."`
	Name       string `help:"Company's name." required:""`
	HomeRegion string `help:"Region in which its punches are stored." required:""`
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
	fmt.Fprintln(w, "COMPANY\tHOME\tEPOCH\tZONE\tNAME")
	const page = 1000 // a screenful of memory, few round trips
	for after := ""; ; {
		list, err := db.ListCompanies(ctx, after, page)
		if err != nil {
			return err
		}
		for _, c := range list {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", c.ID, c.HomeRegion, c.Epoch, c.TimeZone, c.Name)
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
		home += ", punches are still being carried from " + company.MovingFrom
	}
	fmt.Fprintf(out, "company      %s\nname         %s\nhome region  %s\nepoch        %d\nversion      %d\ntime zone    %s\ncreated      %s\n",
		company.ID, company.Name, home, company.Epoch, company.Version, company.TimeZone, company.CreatedAt.UTC().Format(time.RFC3339))
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
	fmt.Fprintf(out, "company %s has the time zone %s since epoch %d; punches stored before keep their zone\n", company.ID, company.TimeZone, company.Epoch)
	return nil
}

type importCommand struct {
	database
	File *os.File `arg:"" help:"CSV file, - for standard input."`
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
	size := int64(-1) // unknown for a pipe: the bar only spins
	if info, err := c.File.Stat(); err == nil && info.Mode().IsRegular() {
		size = info.Size()
	}
	bar := progressbar.NewOptions64(size, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionShowBytes(true),
		progressbar.OptionSetDescription("companies"), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetSpinnerChangeInterval(0)) // its ticking races with our setting
	result, err := companies.Import(ctx, c.File, regions, db, func(n int64) { _ = bar.Set64(n) })
	_ = bar.Finish() // a bar that cannot be drawn is no reason to fail
	for _, bad := range result.Bad {
		fmt.Fprintln(os.Stderr, bad)
	}
	fmt.Fprintf(out, "%d companies kept, %d lines refused\n", result.Kept, len(result.Bad))
	if err == nil && len(result.Bad) > 0 {
		err = errBadLines
	}
	return err
}

// Run implements the command.
func (c *idCommand) Run(out io.Writer) error {
	id := punch.NewID()
	if !c.At.IsZero() {
		id = punch.IDAt(c.At)
	}
	_, err := fmt.Fprintln(out, id)
	return err
}

type tokenCommand struct {
	Company  string        `help:"Company of the caller." required:""`
	Subject  string        `help:"The caller: for an employee the employee's id." required:""`
	Role     string        `help:"employee, kiosk, manager or operator." enum:"employee,kiosk,manager,operator" default:"kiosk"`
	TTL      time.Duration `help:"How long the token holds." default:"12h"` // a working day with room
	KeyFile  string        `help:"Development key that signs." required:"" type:"path"`
	NewKey   bool          `help:"Make the key and its key set when they are missing."`
	JWKS     string        `help:"Where --new-key writes the key set for the nodes." type:"path"`
	Issuer   string        `help:"Issuer in the token." default:"punchclock"`
	Audience string        `help:"Audience in the token." default:"punchclock"`
}

// Run implements the command.
func (c *tokenCommand) Run(out io.Writer) error {
	return auth.WriteToken(out, auth.TokenOptions{
		Claims: auth.Claims{
			Company: c.Company, Subject: c.Subject, Role: auth.Role(c.Role),
			Issuer: c.Issuer, Audience: c.Audience, TTL: c.TTL,
		},
		KeyFile: c.KeyFile, NewKey: c.NewKey, JWKSFile: c.JWKS,
	}, time.Now())
}
