// Command punchclock is everything an operator runs: a node, the schema, the
// companies, and the tools around them. It holds no logic of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"go.opentelemetry.io/otel"

	"github.com/punchclock/punchclock/node"
	"github.com/punchclock/punchclock/node/config"
	"github.com/punchclock/punchclock/tracing"
)

type commands struct {
	Settings kong.ConfigFlag `help:"YAML file of settings, keyed as the flags are named." placeholder:"FILE"`

	Node    nodeCommand    `cmd:"" help:"Run a node."`
	Migrate migrateCommand `cmd:"" help:"Bring the database's schema up to date. Safe to run twice and from two places at once."`
	Status  statusCommand  `cmd:"" help:"Show the cluster as a node sees it."`
	Region  regionCommand  `cmd:"" help:"Evacuate, restore, add and remove regions."`
	Gossip  gossipCommand  `cmd:"" help:"Show and rotate the keys that encrypt gossip."`
	Company companyCommand `cmd:"" help:"Create, list, show and import companies."`
	DevCA   devCACommand   `cmd:"" name:"dev-ca" help:"Make an authority for development, and certificates of it for nodes, database and the database's users. Run it again to renew them."`
	Token   tokenCommand   `cmd:"" help:"Print a token signed by a development key, which nodes take only with --development."`
	ID      idCommand      `cmd:"" name:"new-id" help:"Print an id for a punch. Keep it over all retries of that punch."`
	Punch   punchCommand   `cmd:"" help:"Punch: print the receipt, or keep the punch in an outbox on disk for later. Exit status 0: recorded, 1: refused for good, 3: kept, 4: neither."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2) // room for the second before the first was seen
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(secondSignal)
	}()
	os.Exit(run(ctx, os.Args[1:]))
}

// secondSignal is the exit status of a process that was told twice to end, and
// did not wait for what it was doing.
const secondSignal = 130

func run(ctx context.Context, args []string) int {
	clock, err := nodeClock()
	if err != nil {
		fmt.Fprintln(os.Stderr, "punchclock:", err)
		return 2
	}
	app := commands{Node: nodeCommand{clock: clock}}
	parser, err := kong.New(&app, append(config.Options(),
		kong.Name("punchclock"),
		kong.Description("Clock-in punches from any region, each stored once in its company's home region."),
		kong.Vars(moveDefaults()),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(os.Stdout, (*io.Writer)(nil)),
	)...)
	if err != nil {
		panic(err) // the command line is described wrongly; no input brings this about
	}
	chosen, err := parser.Parse(args)
	if err == nil {
		err = config.CheckEnvironment(parser.Model, os.Environ())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "punchclock:", err)
		return 2
	}
	if err := chosen.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "punchclock:", err)
		if exit, ok := errors.AsType[*exitError](err); ok {
			return exit.status
		}
		return 1
	}
	return 0
}

type nodeCommand struct {
	config.Node `embed:""`
	clock       func() time.Time
}

// Run implements the command.
func (c *nodeCommand) Run(ctx context.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return fmt.Errorf("--log-level: %w", err)
	}
	log := slog.New(tracing.NewLogHandler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
	n, err := node.New(c.Node, node.Deps{Log: log, Clock: c.clock})
	if err != nil {
		return err
	}
	otel.SetErrorHandler(tracing.NewErrorHandler(log))
	return n.Run(ctx)
}

type idCommand struct {
	At time.Time `help:"Time of the punch, RFC 3339; now when absent." format:"2006-01-02T15:04:05Z07:00"`
}

type versionCommand struct{}

// Run implements the command.
func (versionCommand) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, node.Version)
	return err
}

var errBadLines = errors.New("some lines were not imported")
