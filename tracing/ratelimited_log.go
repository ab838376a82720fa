package tracing

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"golang.org/x/time/rate"
)

// logInterval is the least time between two log lines about telemetry. Without a collector every export fails, and one
// line is enough.
const logInterval = 30 * time.Second

// rateLimitedLog logs the failures of telemetry itself, at most once in logInterval.
type rateLimitedLog struct {
	log       *slog.Logger
	sometimes rate.Sometimes
}

// NewErrorHandler returns a handler that logs OpenTelemetry's own errors, at most one in 30 s. A process has one such
// handler, so main installs it with otel.SetErrorHandler.
func NewErrorHandler(log *slog.Logger) otel.ErrorHandler { return newRateLimitedLog(log) }

func newRateLimitedLog(log *slog.Logger) *rateLimitedLog {
	return &rateLimitedLog{log: log, sometimes: rate.Sometimes{First: 1, Interval: logInterval}}
}

func (l *rateLimitedLog) warn(msg string, args ...any) {
	l.sometimes.Do(func() { l.log.Warn(msg, args...) })
}

// Handle receives the errors that OpenTelemetry cannot return to a caller.
func (l *rateLimitedLog) Handle(err error) { l.warn("telemetry failed", "error", err) }
