package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/punchclock/punchclock/node/config"
)

// refuseVariable holds a reason for which the stand-in never becomes ready. stopVariable lets it stop badly: "fail" or
// "hang".
const (
	refuseVariable = "PUNCHCLOCK_TEST_REFUSE"
	stopVariable   = "PUNCHCLOCK_TEST_STOP"
)

// standIn is a process with punchclock's command line and listeners, and without its work. The flags go through the
// product's own settings. Start, readiness, signals and addresses are real.
func standIn(args []string) int {
	var cli struct {
		Settings kong.ConfigFlag

		Node    config.Node `cmd:""`
		Migrate struct {
			DatabaseURL string   `required:""`
			Regions     []string `required:""`
		} `cmd:""`
	}
	parser, err := kong.New(&cli, append(config.Options(), kong.Name("punchclock"))...)
	if err != nil {
		return failed(err)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return failed(err)
	}
	if parsed.Command() == "migrate" {
		return 0
	}
	if err := serve(&cli.Node); err != nil {
		return failed(err)
	}
	return 0
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func serve(settings *config.Node) error {
	if err := settings.Validate(); err != nil {
		return err
	}
	if _, err := tls.LoadX509KeyPair(settings.Peer.CertFile, settings.Peer.KeyFile); err != nil {
		return err
	}
	var listeners []net.Listener
	for _, addr := range []string{settings.Ops.Addr, settings.Public.Addr, settings.Peer.Addr, settings.Gossip.Addr} {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		listeners = append(listeners, ln)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ops := http.Server{Handler: http.HandlerFunc(readyz), ReadTimeout: time.Minute}
	go func() {
		<-ctx.Done()
		if os.Getenv(stopVariable) != "hang" {
			_ = ops.Close()
		}
	}()
	fmt.Println("serving", settings.Region, settings.Name, settings.DrainDelay, settings.Weight)
	if err := ops.Serve(listeners[0]); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	if os.Getenv(stopVariable) == "fail" {
		return errors.New("a queue was not empty")
	}
	return nil
}

func readyz(w http.ResponseWriter, r *http.Request) {
	switch refuse := os.Getenv(refuseVariable); {
	case r.URL.Path == "/crash":
		fmt.Fprintln(os.Stderr, "crashed as told")
		os.Exit(3)
	case r.URL.Path != "/readyz":
		http.NotFound(w, r)
	case refuse != "":
		fmt.Println("refused")
		http.Error(w, refuse, http.StatusServiceUnavailable)
	}
}
