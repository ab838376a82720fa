package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/lab/cluster"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"punchclock": main})
}

// TestScripts runs testdata/script on each engine on this machine. DB is a migrated database of all scripts, so that each
// names companies of its own. NEW_DB is an empty database of the script. CockroachDB needs 6 to 12 s of processor time to
// migrate a database.
func TestScripts(t *testing.T) {
	engines := cluster.TestEngines()
	if len(engines) == 0 {
		t.Fatal("no database engine was found: run scripts/setup")
	}
	for _, e := range engines {
		t.Run(e.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			db, err := cluster.StartDatabase(ctx, cluster.Config{Engine: e.Name})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Stop(context.Background()) }) // the scripts have passed or failed
			regions := []string{"us-east", "eu-west", "ap-south"}
			if _, err := crdb.Migrate(ctx, db.URL(regions[0]), regions, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			var number atomic.Int64
			testscript.Run(t, testscript.Params{
				Dir: "testdata/script",
				Setup: func(env *testscript.Env) error {
					env.Setenv("DB", db.URL(regions[0]))
					for variable, role := range map[string]string{
						"DB_NODE": crdb.NodeRole, "DB_OPERATOR": crdb.OperatorRole, "DB_MIGRATOR": crdb.MigratorRole,
					} {
						env.Setenv(variable, db.URLAs(role, cluster.DatabaseName, regions[0]))
					}
					name := fmt.Sprintf("script%d", number.Add(1)) // the scripts run in parallel
					env.Setenv("NEW_DB", db.URLOf(name, regions[0]))
					env.Setenv("ENGINE", e.Name)
					env.Setenv("GORACE", os.Getenv("GORACE"))
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					return db.CreateDatabase(ctx, name)
				},
				Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
					"uuidv7": isUUIDv7,
				},
			})
		})
	}
}

// isUUIDv7 checks that the standard output is one id.
func isUUIDv7(ts *testscript.TestScript, _ bool, _ []string) {
	id := strings.TrimSpace(ts.ReadFile("stdout"))
	if len(id) != 36 || id[14] != '7' || !strings.ContainsRune("89ab", rune(id[19])) {
		ts.Fatalf("%q is not a UUIDv7", id)
	}
}
