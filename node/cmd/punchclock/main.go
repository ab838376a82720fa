// Command punchclock runs a node, prepares the database, and has the tools of an operator. Its files parse flags and print
// results. The packages behind them do the work.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/punchclock/punchclock/node/config"
)

type commands struct {
	Settings kong.ConfigFlag `help:"YAML file of settings. A key is the name of a flag." placeholder:"FILE"`

	Node     nodeCommand     `cmd:"" help:"Run a node."`
	Migrate  migrateCommand  `cmd:"" help:"Bring the schema of the database up to date. It may run twice, and at two places at once."`
	Status   statusCommand   `cmd:"" help:"Show the cluster as a node sees it."`
	Region   regionCommand   `cmd:"" help:"Evacuate, restore, add and remove regions."`
	Degrade  degradeCommand  `cmd:"" help:"Set how much the nodes serve besides punches. Nodes that refuse punches raise their own level by themselves."`
	Gossip   gossipCommand   `cmd:"" help:"Show and rotate the keys that encrypt gossip."`
	Company  companyCommand  `cmd:"" help:"Create, list, show, move and import companies."`
	Forecast forecastCommand `cmd:"" help:"Print when next week's punches come, and what carries them, from last week's punches."`
	DevCA    devCACommand    `cmd:"" name:"dev-ca" help:"Create a CA for development, with certificates for nodes, the database and its users. Run it again to renew them."`
	Token    tokenCommand    `cmd:"" help:"Print a token signed by a development key. Nodes accept it only with --development."`
	ID       idCommand       `cmd:"" name:"new-id" help:"Print an id for a punch. Keep it over all retries of that punch."`
	Punch    punchCommand    `cmd:"" help:"Record a punch and print the receipt, or keep the punch on disk for later. Exit status 0: recorded, 1: in quarantine, 3: kept, 4: neither recorded nor kept."`
	Version  versionCommand  `cmd:"" help:"Print the version."`
}

// Exit statuses of every command. `punchclock punch` has more.
const (
	exitFailure = 1
	exitInvalid = 2   // an invalid command line, setting or environment
	exitKilled  = 130 // a second signal ended the process before its shutdown was complete
)

func main() {
	ctx, second := withSignals(context.Background())
	done := make(chan int, 1)
	go func() { done <- run(ctx, os.Args[1:]) }()
	var status int
	select {
	case status = <-done:
	case <-second:
		status = exitKilled
	}
	os.Exit(status)
}

// withSignals returns a context that ends with the first SIGINT or SIGTERM, and a channel that closes with the second.
func withSignals(parent context.Context) (ctx context.Context, second <-chan struct{}) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2) // a second signal must not get lost while the first is handled
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	killed := make(chan struct{})
	go func() {
		<-signals
		cancel()
		<-signals
		close(killed)
	}()
	return ctx, killed
}

// run parses the command line and runs the chosen command. It returns the exit status.
func run(ctx context.Context, args []string) int {
	clock, err := nodeClock()
	if err != nil {
		return fail(err, exitInvalid)
	}
	app := commands{Node: nodeCommand{clock: clock}}
	parser, err := kong.New(&app, append(config.Options(),
		kong.Name("punchclock"),
		kong.Description("Records clock-in punches in any region. Each punch is stored once, in the home region of its company."),
		kong.Vars(moveDefaults()), kong.Vars(forecastDefaults()),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(os.Stdout, (*io.Writer)(nil)),
	)...)
	if err != nil {
		panic(err) // a mistake in the structs above, which no input can cause
	}
	chosen, err := parser.Parse(args)
	if err == nil {
		err = config.CheckEnvironment(parser.Model, os.Environ())
	}
	if err != nil {
		return fail(err, exitInvalid)
	}
	if err := chosen.Run(); err != nil {
		if exit, ok := errors.AsType[*exitError](err); ok {
			return fail(err, exit.status)
		}
		return fail(err, exitFailure)
	}
	return 0
}

func fail(err error, status int) int {
	fmt.Fprintln(os.Stderr, "punchclock:", err)
	return status
}
