// Command punchclock-lab runs Punchclock on one machine to show it, to load it and to break it.
// It starts the punchclock command as separate processes and contains no part of a node.
// A production machine needs the command punchclock alone.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/punchclock/punchclock/node/lab/bench"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/demo"
	"github.com/punchclock/punchclock/node/lab/drill"
	"github.com/punchclock/punchclock/node/lab/drill/audit"
)

type commands struct {
	Demo     demo.Demo      `cmd:"" help:"Start three regions on this machine, send a rush, and account for every punch."`
	Up       demo.Up        `cmd:"" help:"Start three regions on this machine and leave them running until Ctrl-C."`
	Load     demo.Load      `cmd:"" help:"Send a morning rush of punches to a running cluster and measure it."`
	Drill    drill.Command  `cmd:"" help:"Break something under load, heal it, and account for every punch. Exit status 0: all holds, 1: it does not, 77: the scenario cannot run here."`
	Audit    audit.Command  `cmd:"" help:"Compare a ledger of receipts with the rows in the database."`
	Bench    bench.Command  `cmd:"" help:"Measure nodes against other designs and write BENCHMARKS.md. Run it from the source's folder, on an idle machine."`
	PGO      bench.PGO      `cmd:"" name:"pgo" help:"Take the CPU profile by which Go optimises the node. Run it from the source's folder."`
	Generate bench.Generate `cmd:"" hidden:"" help:"Send one load for bench, as JSON on standard input describes it."`
	Nodes    demo.Nodes     `cmd:"" help:"Start and stop a region's nodes in a cluster that 'punchclock-lab up' runs, as terraform/local does."`
	Database demo.Database  `cmd:"" help:"Start and stop the database server of a further region in such a cluster, as terraform/local does."`
}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2) // a second signal must not get lost while the first is handled
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(secondSignal)
	}()
	os.Exit(run(ctx, os.Args[1:]))
}

// secondSignal is the exit status after a second signal, which ends the process at once.
const secondSignal = 130

// envPrefix begins the environment variables of the lab's flags. A node ignores them.
const envPrefix = "PUNCHCLOCK_LAB"

func run(ctx context.Context, args []string) int {
	var app commands
	parser, err := kong.New(&app,
		kong.Name("punchclock-lab"),
		kong.Description("Punchclock on one machine: a demo, a load generator, and drills that break it."),
		kong.DefaultEnvars(envPrefix),
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(os.Stdout, (*io.Writer)(nil)),
	)
	if err != nil {
		panic(err) // a mistake in the structs above, which no input can cause
	}
	chosen, err := parser.Parse(args)
	if err == nil {
		err = checkEnvironment(parser.Model.Node, os.Environ())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "punchclock-lab:", err)
		return 2
	}
	if err := chosen.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "punchclock-lab:", err)
		if errors.Is(err, drill.ErrSkipped) {
			return drill.ExitSkipped
		}
		return 1
	}
	return 0
}

// checkEnvironment returns an error that names the variables of the lab that no command reads.
// A misspelt variable would otherwise be ignored without a word.
func checkEnvironment(app *kong.Node, environ []string) error {
	known := []string{cluster.InitSQLVariable, cluster.FlagsVariable, cluster.TestEngineVariable, drill.RegionVariable}
	var add func(*kong.Node)
	add = func(n *kong.Node) {
		for _, f := range n.Flags {
			known = append(known, f.Envs...)
		}
		for _, child := range n.Children {
			add(child)
		}
	}
	add(app)
	var errs []error
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, envPrefix+"_") && !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("environment: %s is not a setting", name))
		}
	}
	return errors.Join(errs...)
}
