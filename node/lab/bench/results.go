package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"

	"github.com/punchclock/punchclock/node/lab/load"
)

// results are the figures of one engine. They are kept in a JSON file, so a part can be measured again alone, and the
// report can be written again without measuring.
type results struct {
	Engine  string             `json:"engine"`
	Version string             `json:"version"`
	Parts   map[string]partRun `json:"parts"`
}

// partRun is the latest run of a part.
type partRun struct {
	When    time.Time     `json:"when"`
	Took    time.Duration `json:"took"`
	Commit  string        `json:"commit"`
	Machine machine       `json:"machine"`
	Ran     string        `json:"ran"` // what was run, such as the duration of each step
	Figures []figure      `json:"figures"`
	Points  []point       `json:"points,omitempty"` // goodput over offered load
	Failure string        `json:"failure,omitempty"`

	again func(context.Context) error // sends the load whose profile explains a missed target
}

// figure is one measured value.
type figure struct {
	Key   string  `json:"key"` // as in the table of targets
	Value float64 `json:"value"`
	// Text has the absolute figures behind a ratio, and what else a reader must know.
	Text string `json:"text,omitempty"`
	// Void says why the figure is not that of the load: the generator could not keep up.
	Void string `json:"void,omitempty"`
	// Profile is the file with the profile of the node, relative to the report.
	Profile string `json:"profile,omitempty"`
}

// point is one step of a load.
type point struct {
	Series       string        `json:"series"`       // of overloadSeries
	Offered      float64       `json:"offered"`      // relative to capacity
	Acknowledged float64       `json:"acknowledged"` // relative to capacity
	P99          time.Duration `json:"p99"`          // of acknowledged punches
	RefusalP99   time.Duration `json:"refusal_p99"`
	Void         string        `json:"void,omitempty"` // why the generator's figures are not those of the load
}

func (r *partRun) add(key string, value float64, format string, args ...any) {
	r.Figures = append(r.Figures, figure{Key: key, Value: value, Text: fmt.Sprintf(format, args...)})
}

// void marks the figures from a load whose generator could not keep up.
func (r *partRun) void(key string, result *load.Result) {
	if err := result.Void(); err != nil {
		for i := range r.Figures {
			if r.Figures[i].Key == key {
				r.Figures[i].Void = err.Error()
			}
		}
	}
}

// value returns a figure of a part.
func (r *results) value(part, key string) (float64, bool) {
	f := r.figure(part, key)
	if f == nil {
		return 0, false
	}
	return f.Value, true
}

func (r *results) figure(part, key string) *figure {
	figures := r.Parts[part].Figures
	for i := range figures {
		if figures[i].Key == key {
			return &figures[i]
		}
	}
	return nil
}

func resultsFile(dir, engine string) string { return filepath.Join(dir, engine+".json") }

// readResults returns the results of an engine, empty ones without a file.
func readResults(dir, engine string) (*results, error) {
	r := &results{Engine: engine, Parts: make(map[string]partRun)}
	text, err := os.ReadFile(resultsFile(dir, engine))
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", resultsFile(dir, engine), err)
	}
	return r, nil
}

// write replaces the file. An interrupted run keeps the parts that it has finished.
func (r *results) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return renameio.WriteFile(resultsFile(dir, r.Engine), append(text, '\n'), 0o644)
}
