package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/drill"
	"github.com/punchclock/punchclock/node/lab/load"
)

// Generate is the hidden command that sends a load. The benchmark starts it as a process on a core of its own. It reads
// a job from standard input and writes its result to standard output, both as JSON.
type Generate struct{}

// job is a load. One of the fields is set.
type job struct {
	Closed *closedJob `json:"closed,omitempty"`
	Open   *openJob   `json:"open,omitempty"`
	Idle   *idleJob   `json:"idle,omitempty"`
}

// outcome is the result of a job.
type outcome struct {
	Closed closedResult `json:"closed,omitzero"`
	Open   load.Result  `json:"open,omitzero"`
	Idle   idleResult   `json:"idle,omitzero"`
}

// openJob is a load of package load, whose punches come however slow the answers are.
type openJob struct {
	Load      load.Load         `json:"load"`
	Stress    load.Stress       `json:"stress"`
	Entries   []cluster.Entry   `json:"entries"`
	Companies []cluster.Company `json:"companies"`
	Ledger    string            `json:"ledger,omitempty"` // the file for the evidence of an audit
}

// idleJob opens connections, sends one request on each, and keeps them open for a time.
type idleJob struct {
	Targets     []string      `json:"targets"` // host:port, which the connections share
	Connections int           `json:"connections"`
	Hold        time.Duration `json:"hold"`
}

type idleResult struct {
	Open  int    `json:"open"`            // connections that got an answer and stayed open
	Error string `json:"error,omitempty"` // of the first connection that did not
}

// Run does one job.
func (g *Generate) Run(ctx context.Context, out io.Writer) error {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		return fmt.Errorf("the job on standard input: %w", err)
	}
	result, err := j.run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

func (j *job) run(ctx context.Context) (result outcome, err error) {
	switch {
	case j.Closed != nil:
		result.Closed, err = runClosed(ctx, j.Closed)
	case j.Open != nil:
		result.Open, err = runOpen(ctx, j.Open)
	case j.Idle != nil:
		result.Idle, err = runIdle(ctx, j.Idle)
	}
	return result, err
}

func runOpen(ctx context.Context, j *openJob) (result load.Result, err error) {
	cfg := load.Config{Load: j.Load, Stress: j.Stress, Entries: j.Entries, Companies: j.Companies}
	if j.Ledger != "" {
		ledger, err := drill.CreateLedger(j.Ledger)
		if err != nil {
			return result, err
		}
		cfg.Journal = ledger
		result, err = load.Run(ctx, cfg)
		if closed := ledger.Close(); err == nil {
			err = closed
		}
		return result, err
	}
	return load.Run(ctx, cfg)
}

// runIdle opens the connections one after the other. A server that accepts no more leaves the last ones without an
// answer, so each answer has its own limit.
func runIdle(ctx context.Context, j *idleJob) (result idleResult, err error) {
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			_ = conn.Close() // nothing is under way
		}
	}()
	dialer := net.Dialer{Timeout: 2 * time.Second}
	for i := range j.Connections {
		target := j.Targets[i%len(j.Targets)]
		conn, err := dialer.DialContext(ctx, "tcp", target)
		if err == nil {
			open = append(open, conn)
			err = askOnce(conn, "GET /readyz HTTP/1.1\r\nHost: "+target+"\r\n\r\n")
		}
		if err != nil {
			result.Error = err.Error()
			break
		}
		result.Open++
	}
	cluster.Pause(ctx, j.Hold)
	return result, nil
}

func askOnce(conn net.Conn, request string) error {
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("HTTP/1.1 %d ", http.StatusOK); len(answer[:n]) < len(want) || string(answer[:len(want)]) != want {
		return fmt.Errorf("answered %q", answer[:min(n, 100)])
	}
	return nil
}
