package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/punchclock/punchclock/node"
	"github.com/punchclock/punchclock/node/config"
	"github.com/punchclock/punchclock/tracing"
)

// nodeCommand is `punchclock node`.
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
	reserve := make([]byte, c.HeapReserve) // no page of it is ever touched, so the system gives it no memory
	defer runtime.KeepAlive(reserve)
	return n.Run(ctx)
}

// versionCommand is `punchclock version`.
type versionCommand struct{}

// Run implements the command.
func (versionCommand) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, node.Version)
	return err
}
