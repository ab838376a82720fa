package gossip

import (
	"bytes"
	"context"
	"log"
	"log/slog"
	"time"

	"golang.org/x/time/rate"
)

// memberlist writes a warning for each packet with a wrong label or key, so anyone on the network could fill the log.
// More warnings than these are not worth reading.
const (
	warningsPerSecond = 1
	warningsBurst     = 20
)

// lineLogger passes memberlist's log lines to slog. Its errors are ordinary network failures, so no line is above a
// warning.
type lineLogger struct {
	log      *slog.Logger
	warnings *rate.Limiter
}

func newLineLogger(l *slog.Logger) *log.Logger {
	return log.New(&lineLogger{
		log:      l,
		warnings: rate.NewLimiter(rate.Every(time.Second/warningsPerSecond), warningsBurst),
	}, "", 0)
}

// Write takes one line, "[LEVEL] memberlist: text".
func (l *lineLogger) Write(line []byte) (int, error) {
	text, level := bytes.TrimSpace(line), slog.LevelDebug
	if name, rest, ok := bytes.Cut(text, []byte("] ")); ok && len(name) > 0 && name[0] == '[' {
		text = bytes.TrimPrefix(rest, []byte("memberlist: "))
		switch string(name[1:]) {
		case "WARN", "ERR", "ERROR":
			level = slog.LevelWarn
		}
	}
	ctx := context.Background()
	if !l.log.Enabled(ctx, level) || (level == slog.LevelWarn && !l.warnings.Allow()) {
		return len(line), nil
	}
	l.log.LogAttrs(ctx, level, "memberlist", slog.String("text", string(text)))
	return len(line), nil
}
