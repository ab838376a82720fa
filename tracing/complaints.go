package tracing

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"golang.org/x/time/rate"
)

// complaintInterval is the least time between two log lines about telemetry: a
// collector that is away fails every export, and one line says it all.
const complaintInterval = 30 * time.Second

// complaints logs what is wrong with telemetry itself, seldom.
type complaints struct {
	log       *slog.Logger
	sometimes rate.Sometimes
}

// NewErrorHandler logs OpenTelemetry's own errors, at most one in
// complaintInterval. OpenTelemetry knows one handler per process, so main
// installs it with otel.SetErrorHandler.
func NewErrorHandler(log *slog.Logger) otel.ErrorHandler { return newComplaints(log) }

func newComplaints(log *slog.Logger) *complaints {
	return &complaints{log: log, sometimes: rate.Sometimes{First: 1, Interval: complaintInterval}}
}

func (c *complaints) say(msg string, args ...any) {
	c.sometimes.Do(func() { c.log.Warn(msg, args...) })
}

// Handle is for errors that OpenTelemetry has nobody to return to.
func (c *complaints) Handle(err error) { c.say("telemetry", "error", err) }
