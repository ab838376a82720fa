package cluster

import (
	"path/filepath"
	"testing"
)

// That a server really comes and goes is tested in node/lab/drill.
func TestServersThatCannotBeStarted(t *testing.T) {
	ctx := testContext(t)
	s := &State{PID: 1, Dir: t.TempDir(), Regions: []string{"here"}, Database: DatabaseState{Engine: Postgres}}
	mustContain(t, StartServer(ctx, s, "there", nil), "only CockroachDB has a server in each region")
	s.Database.Engine = Cockroach
	s.PID = deadPID(t)
	mustContain(t, StartServer(ctx, s, "there", nil), "the cluster is gone")
	if err := StopServer(ctx, s.Dir, nil, "there", nil); err != nil {
		t.Errorf("where there is no server: %v", err)
	}
	engine, err := FindEngine(Cockroach)
	if err != nil {
		t.Skip("NOT CHECKED further: ", err)
	}
	s.PID = 1
	s.Database.Version = "v1.0.0"
	mustContain(t, StartServer(ctx, s, "there", nil), engine.Version, "the cluster runs v1.0.0")
	s.Database.Version = engine.Version
	mustContain(t, StartServer(ctx, s, "No Region", nil), "does not match")
	if left := foldersIn(filepath.Join(s.Dir, serversFolder)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
