package gossip

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLinesHaveLevels(t *testing.T) {
	var out bytes.Buffer
	logger := newLineLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	for line, want := range map[string]string{
		"[DEBUG] memberlist: Stream connection": `level=DEBUG msg=memberlist text="Stream connection"`,
		"[INFO] memberlist: Suspect a [1] b":    `level=DEBUG msg=memberlist text="Suspect a [1] b"`,
		"[WARN] memberlist: Refuting":           `level=WARN msg=memberlist text=Refuting`,
		"[ERR] memberlist: no [DEBUG] here":     `level=WARN msg=memberlist text="no [DEBUG] here"`,
		"Err: no level":                         `level=DEBUG msg=memberlist text="Err: no level"`,
		"[":                                     `level=DEBUG msg=memberlist text=[`,
		"":                                      `level=DEBUG msg=memberlist text=""`,
	} {
		out.Reset()
		logger.Print(line)
		if !strings.Contains(out.String(), want) {
			t.Errorf("the line %q is logged as %q, want %q", line, out.String(), want)
		}
	}
}

func TestWarningsAreLimited(t *testing.T) {
	var out bytes.Buffer
	logger := newLineLogger(slog.New(slog.NewTextHandler(&out, nil)))
	for i := range 10_000 {
		logger.Printf("[ERR] memberlist: discarding packet %d", i)
	}
	if n := strings.Count(out.String(), "\n"); n < warningsBurst || n > 2*warningsBurst {
		t.Errorf("%d warnings are logged, want about %d", n, warningsBurst)
	}
}
