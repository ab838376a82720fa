package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/drill/audit"
	"github.com/punchclock/punchclock/node/lab/load"
)

// binary is the punchclock executable, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if binary := os.Getenv(demoVariable); binary != "" {
		return runDemo(binary)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "punchclock-demo-test-")
	if err == nil {
		defer os.RemoveAll(dir) //nolint:errcheck // the system cleans what is left
		binary, err = cluster.Build(ctx, dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// smallLoad is a rush of about 150 punches.
func smallLoad() load.Load {
	return load.Load{
		Rate: 150, Duration: 2 * time.Second, CrossRegion: 0.5, Repeats: 0.1, Seed: 3, MaxInFlight: 1000,
		TotalTimeout: 45 * time.Second,
	}
}

func smallSetup(engine string) cluster.Setup {
	return cluster.Setup{Engine: engine, NodesPerRegion: 1, CompaniesPerRegion: 2, Binary: binary}
}

func mustEngines(t *testing.T) []cluster.Engine {
	t.Helper()
	engines := cluster.TestEngines()
	if len(engines) == 0 {
		_, err := cluster.FindEngine("")
		t.Skip("no database here:", err)
	}
	return engines
}

// gone checks that no process of a cluster is left.
func gone(t *testing.T, s *cluster.State) {
	t.Helper()
	for _, n := range s.Nodes {
		if n.PID == 0 {
			continue // it did not run yet
		}
		if err := syscall.Kill(n.PID, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("node %s, process %d, is still there: %v", n.Name, n.PID, err)
		}
	}
	for _, h := range s.Database.Hosts {
		if err := syscall.Kill(h.PID, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("database process %d is still there: %v", h.PID, err)
		}
	}
	if _, err := os.Stat(s.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left behind: %v", s.Dir, err)
	}
}

func TestDemo(t *testing.T) {
	mustEngines(t)
	ledger := filepath.Join(t.TempDir(), "ledger.jsonl")
	c := &Demo{Setup: smallSetup(""), Load: smallLoad(), Ledger: ledger, Sampled: 1}
	var out strings.Builder
	if err := c.Run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"engine  ", "3 processes in us-east, eu-west, ap-south", "POST /v1/punches", "peer.receive", "punch.commit", "acknowledged", "lost                 0", "p99"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
	if _, err := os.Stat(ledger); err != nil {
		t.Errorf("the ledger is not kept: %v", err)
	}
}

// TestUp starts the cluster and sends it a rush, as scripts do. It audits the rush, spoils rows, audits again, and
// interrupts the cluster.
func TestUp(t *testing.T) {
	for _, engine := range mustEngines(t) {
		t.Run(engine.Name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			file := filepath.Join(t.TempDir(), "run", "cluster.json")
			up := &Up{Setup: smallSetup(engine.Name), State: file, Traces: true, WithoutNodes: []string{"eu-west"}}
			var out strings.Builder
			ended := make(chan error, 1)
			go func() { ended <- up.Run(ctx, &out) }()
			state := awaitState(t, file, ended)

			second := &Up{Setup: smallSetup(engine.Name), State: file}
			if err := second.Run(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "describes a cluster that runs") {
				t.Errorf("a second cluster on the same file: %v", err)
			}
			startLater(t, file, state)
			useCluster(t, file, state)
			lookAtTraces(t, state.TracesURL)

			interrupt()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			for i, company := range state.Companies { // two of each region
				if first := i < 3; strings.Contains(out.String(), company.Token) != first {
					t.Errorf("the token of company %d is in the output: %t, want %t", i, !first, first)
				}
			}
			gone(t, state)
			if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left behind: %v", file, err)
			}
			for _, want := range []string{state.Nodes[0].PublicURL, state.Database.URL, state.Companies[0].Token, "curl", state.TracesURL + "/TRACE_ID"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("the output lacks %q:\n%s", want, &out)
				}
			}
		})
	}
}

// startLater starts the nodes of the region that `up` left out. They must end with the cluster.
func startLater(t *testing.T, file string, state *cluster.State) {
	t.Helper()
	var out strings.Builder
	start := &startNodes{Region: "eu-west", Cluster: file, Count: 1, Binary: binary, With: `{"log-level": "warn"}`}
	if err := start.Run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(state.Nodes, func(n cluster.NodeState) bool { return n.Region == "eu-west" })
	want := "eu-west-n1 is ready at " + state.Nodes[i].PublicURL
	if !strings.Contains(out.String(), want) {
		t.Errorf("nodes start says %q, want %q", &out, want)
	}
	t.Cleanup(func() {
		if conn, err := net.Dial("tcp", strings.TrimPrefix(state.Nodes[i].PublicURL, "http://")); err == nil {
			t.Errorf("the nodes of eu-west outlive the cluster: %v", conn.Close())
		}
	})
	mustCommand := func(says string, run func(context.Context, io.Writer) error) {
		t.Helper()
		out.Reset()
		if err := run(t.Context(), &out); err != nil || !strings.Contains(out.String(), says) {
			t.Errorf("%v, output %q, want %q", err, &out, says)
		}
	}
	mustCommand("eu-west-n1 runs already", start.Run)
	mustCommand("nothing to stop", (&stopNodes{Region: "eu-west", ended: ended{Cluster: file, Dir: "/another"}}).Run)
	mustCommand("stays", (&stopServer{Region: "eu-west", ended: ended{Cluster: file}}).Run)
	start.With = `["log-level"]`
	if err := start.Run(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "--with") {
		t.Errorf("with settings that are none: %v", err)
	}
}

// awaitState waits for the state file of `up` and returns its content.
func awaitState(t *testing.T, file string, ended <-chan error) *cluster.State {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			t.Fatalf("up ended: %v", err)
		case <-tick.C:
			state, err := cluster.ReadState(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue // up ends by itself, with an error, if this takes too long
			}
			if err != nil {
				t.Fatal(err)
			}
			return state
		}
	}
}

// lookAtTraces finds a punch of the rush in the list of traces, and reads its trace.
func lookAtTraces(t *testing.T, url string) {
	t.Helper()
	get := func(url string) string {
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %s %v", url, res.Status, text, err)
		}
		return string(text)
	}
	list := get(url + "?name=POST+/v1/punches")
	_, first, _ := strings.Cut(list, "\n")
	id, _, found := strings.Cut(first, " ")
	if !found {
		t.Fatalf("no punch among the traces:\n%s", list)
	}
	if tree := get(url + "/" + id); !strings.Contains(tree, id) || !strings.Contains(tree, "POST /v1/punches") {
		t.Errorf("trace %s is shown as\n%s", id, tree)
	}
	http.DefaultClient.CloseIdleConnections()
}

// usePlain sends a rush of plain clients. Its ledger must be clean as well.
func usePlain(t *testing.T, file string, state *cluster.State) {
	t.Helper()
	ledger := filepath.Join(t.TempDir(), "plain.jsonl")
	var out strings.Builder
	rush := &Load{Load: smallLoad(), Stress: load.Stress{Client: load.Plain, Presses: 4, Impatience: 20 * time.Second}, Cluster: file, Ledger: ledger, JSON: true}
	if err := rush.Run(t.Context(), &out); err != nil && !errors.Is(err, load.ErrVoid) { // a busy machine is late
		t.Fatalf("rush of plain clients: %v\n%s", err, &out)
	}
	var result load.Result
	if err := json.Unmarshal([]byte(out.String()), &result); err != nil || result.Acknowledged != result.Sent || result.RepeatsWrong != 0 ||
		len(result.Series) == 0 || result.CPU.NodesSeconds <= 0 {
		t.Errorf("the result is %s (%v), want all of it acknowledged and the CPU of the nodes", &out, err)
	}
	auditor := &audit.Command{Ledger: ledger, DatabaseURL: state.Database.URL, Timeout: time.Minute}
	if err := auditor.Run(t.Context(), &out); err != nil {
		t.Fatalf("audit: %v\n%s", err, &out)
	}
}

func useCluster(t *testing.T, file string, state *cluster.State) {
	t.Helper()
	ledger := filepath.Join(t.TempDir(), "ledger.jsonl")
	var out strings.Builder
	if err := (&Load{Load: smallLoad(), Cluster: file, Ledger: ledger, JSON: true}).Run(t.Context(), &out); err != nil {
		t.Fatalf("rush: %v\n%s", err, &out)
	}
	var result load.Result
	if err := json.Unmarshal([]byte(out.String()), &result); err != nil || result.Acknowledged != result.Sent || result.P99 == 0 || len(result.Regions) != 3 {
		t.Errorf("the result is %s (%v), want all of it acknowledged", &out, err)
	}
	out.Reset()
	auditor := &audit.Command{Ledger: ledger, DatabaseURL: state.Database.URL, Timeout: time.Minute}
	if err := auditor.Run(t.Context(), &out); err != nil {
		t.Fatalf("audit: %v\n%s", err, &out)
	}

	usePlain(t, file, state)

	spoil(t, state)
	report, err := auditLedger(t.Context(), ledger, state.Database.URL)
	if err != nil {
		t.Fatal(err)
	}
	if report.Lost != 1 || report.Doubled != 1 || report.Altered != 2 || report.WrongRegion != 1 || report.Unknown != 1 || report.Contradicted != 0 {
		t.Errorf("the audit of the spoilt rows finds\n%s", &report)
	}
	if err := auditor.Run(t.Context(), &out); !errors.Is(err, audit.ErrNotClean) {
		t.Errorf("audit of the spoilt rows: %v, want %v", err, audit.ErrNotClean)
	}
}

// spoil makes one fault of each kind, each with a row of its own.
func spoil(t *testing.T, state *cluster.State) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), state.Database.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }() // all answers are read
	rows, err := conn.Query(t.Context(), `SELECT punch_id::text FROM punches WHERE crdb_region = 'us-east' ORDER BY punch_id LIMIT 4`)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(ids) < 4 {
		t.Fatalf("%v: %v", ids, err)
	}
	const copied = `INSERT INTO punches SELECT %s, company_id, day, %s, punch_id, kind, device_at, punched_at, received_at, recorded_at,
		zone, utc_offset, entry_region, source, note, late, review, trace_id, fingerprint FROM punches WHERE punch_id = $1`
	for i, statement := range []string{
		`DELETE FROM punches WHERE punch_id = $1`,
		// In another region: doubled, in the wrong region, and not where the receipt says.
		fmt.Sprintf(copied, "'eu-west'", "employee_id"),
		`UPDATE punches SET note = 'another one''s' WHERE punch_id = $1`,
		fmt.Sprintf(copied, "crdb_region", "'nobody'"),
	} {
		if tag, err := conn.Exec(t.Context(), statement, ids[i]); err != nil || tag.RowsAffected() != 1 {
			t.Fatalf("%s: %d rows, %v", statement, tag.RowsAffected(), err)
		}
	}
}
