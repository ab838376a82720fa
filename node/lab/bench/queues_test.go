package bench

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/punchclock/punchclock/node/lab/cluster"
)

// mustSession starts a database with companies, and builds the designs to compare with.
func mustSession(t *testing.T) *session {
	t.Helper()
	if runtime.NumCPU() < 2 {
		t.Skip("the benchmark needs two cores")
	}
	engines := cluster.TestEngines()
	if len(engines) == 0 {
		t.Fatal("no database engine was found: run scripts/setup")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	c := Command{Peers: filepath.Join(dir, "peers"), Out: filepath.Join(dir, "out"), Report: filepath.Join(dir, "B.md"), Punches: 600, Round: time.Second}
	build := exec.CommandContext(ctx, "go", "build", "-mod=mod", "-o", c.Peers, ".")
	build.Dir = "peers"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the peers: %v\n%s", err, out)
	}
	var err error
	if c.Binary, err = cluster.Build(ctx, dir); err != nil {
		t.Fatal(err)
	}
	s, err := c.start(ctx, engines[0].Name, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.env.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestDesignsRecordEveryPunch sends punches through each design. Every acknowledged punch must become one row with the
// columns that a node would write.
func TestDesignsRecordEveryPunch(t *testing.T) {
	s := mustSession(t)
	for i := range designs {
		d := &designs[i]
		t.Run(d.key, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			company := s.companies("us-east")[s.turn%len(s.companies("us-east"))]
			run, err := s.measureDesign(ctx, d)
			if errors.Is(err, errNoRedis) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if run.rate <= 0 || run.rows <= 0 {
				t.Errorf("rate %f, rows after %s", run.rate, run.rows)
			}
			checkRows(t, s, company.ID)
		})
	}
	t.Run("rows", func(t *testing.T) {
		rate, err := s.insertRows(t.Context())
		if err != nil || rate <= 0 {
			t.Fatalf("rate %f, error %v", rate, err)
		}
	})
}

func checkRows(t *testing.T, s *session, company string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.env.DatabaseURL("us-east"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // all answers are read
	var rows, ids, right int
	err = conn.QueryRow(t.Context(), `SELECT count(*), count(DISTINCT punch_id), count(*) FILTER (WHERE
		crdb_region = 'us-east' AND kind = 'in' AND zone = 'America/New_York' AND utc_offset IN (-18000, -14400) AND entry_region = 'us-east'
		AND device_at IS NULL AND source IS NULL AND note IS NULL AND NOT late AND NOT review AND octet_length(fingerprint) = 16
		AND received_at <= recorded_at AND punched_at <= received_at + interval '1 second')
		FROM punches WHERE company_id = $1`, company).Scan(&rows, &ids, &right)
	if err != nil {
		t.Fatal(err)
	}
	if rows < s.punches() || ids != rows || right != rows {
		t.Errorf("%d rows with %d ids, %d of them right, want at least %d", rows, ids, right, s.punches())
	}
}
