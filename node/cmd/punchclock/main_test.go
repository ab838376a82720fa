package main

import (
	"context"
	"fmt"
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

// TestScripts runs testdata/script, with a database for each engine on this machine.
func TestScripts(t *testing.T) {
	engines := cluster.TestEngines()
	if len(engines) == 0 {
		t.Fatal("no database engine was found: run scripts/setup")
	}
	for _, e := range engines {
		t.Run(e.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			db, err := cluster.StartDatabase(ctx, cluster.Config{Engine: e.Name})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Stop(context.Background()) }) // the scripts have passed or failed
			var number atomic.Int64
			testscript.Run(t, testscript.Params{
				Dir: "testdata/script",
				Setup: func(env *testscript.Env) error {
					// The scripts run in parallel, so each has a database of its own.
					name := fmt.Sprintf("script%d", number.Add(1))
					env.Setenv("DB", db.URLOf(name, "us-east"))
					for variable, role := range map[string]string{
						"DB_NODE": crdb.NodeRole, "DB_OPERATOR": crdb.OperatorRole, "DB_MIGRATOR": crdb.MigratorRole,
					} {
						env.Setenv(variable, db.URLAs(role, name, "us-east"))
					}
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
