// Command peers runs the designs with which the benchmark compares a node. Each design is a process of its own, so that
// its CPU can be told from the node's and from the load generator's:
//
//	bare   decodes the same JSON and answers the same bytes, and does nothing else
//	redis  HTTP handler, Redis list, workers that write batches
//	nats   HTTP handler, NATS JetStream, workers that write batches
//	rows   no HTTP: a loop of pgx that inserts batches
//
// The command has a Go module of its own. The server of NATS would otherwise raise the versions of packages that the
// product runs with. The product's list of dependencies would also name a server that no product package uses.
//
// It reads one line of JSON from standard input, prints one line, and runs until standard input ends.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// config is what the benchmark tells a design.
type config struct {
	Design      string `json:"design"`
	JWKS        string `json:"jwks"`         // the token keys, as a node reads them
	DatabaseURL string `json:"database_url"` // with the role of a node
	Region      string `json:"region"`
	// Connections to the database for writes, and workers. A node has as many for each home.
	Connections int `json:"connections"`
	Batch       int `json:"batch"` // most punches in one statement, as in a node

	Redis string `json:"redis"` // host:port
	Dir   string `json:"dir"`   // where JetStream keeps its files
	// SyncAlways makes JetStream answer after fsync. Its default is to sync every two minutes.
	SyncAlways bool `json:"sync_always"`

	Company string        `json:"company"` // of the rows
	Run     time.Duration `json:"run"`     // how long rows are inserted
}

func main() {
	if err := run(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the configuration: %w", err)
	}
	var cfg config
	if err := json.Unmarshal(line, &cfg); err != nil {
		return fmt.Errorf("the configuration: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // the process that started this one is gone, or wants an end
		_, _ = io.Copy(io.Discard, lines) // every ending means the same
		cancel()
	}()
	switch cfg.Design {
	case "bare":
		return serveBare(ctx, out)
	case "redis", "nats":
		return serveQueue(ctx, &cfg, out)
	case "rows":
		return insertRows(ctx, &cfg, out)
	default:
		return fmt.Errorf("design: %q is none of bare, redis, nats, rows", cfg.Design)
	}
}
