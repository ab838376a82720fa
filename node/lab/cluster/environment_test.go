package cluster

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// mustBuild builds punchclock, with the race detector if this test has it.
func mustBuild(tb testing.TB, dir string) string {
	tb.Helper()
	var flags []string
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		flags = append(flags, "-race")
	}
	binary, err := Build(testContext(tb), dir, flags...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Logf("built with %q", flags)
	return binary
}

// TestEnvironment runs real nodes on a migrated database, with companies and tokens. The other tests use stand-ins. It
// reads the environment in its file, restarts a node, and leaves nothing behind.
func TestEnvironment(t *testing.T) {
	binary := mustBuild(t, t.TempDir())
	eachEngine(t, func(t *testing.T, engine string) {
		ctx := testContext(t)
		setup := Setup{Engine: engine, NodesPerRegion: 1, CompaniesPerRegion: 1, Binary: binary}
		env, err := setup.Start(ctx, io.Discard, nil)
		if err != nil {
			t.Fatal(err)
		}
		closed := false
		defer func() {
			if !closed {
				_ = env.Close(context.Background()) // the test has failed already
			}
		}()
		checkStateFile(t, env)
		if n := mustQuery[int](t, env.DatabaseURL("ap-south"), "SELECT count(*) FROM homes"); n != 3 {
			t.Errorf("%d companies in the database, expected 3", n)
		}
		if err := env.Migrate(ctx); err != nil {
			t.Errorf("a second Migrate: %v", err)
		}
		n := env.Region("eu-west")[0]
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := n.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		pids := childrenOf(env.State())
		closed = true
		if err := env.Close(ctx); err != nil {
			t.Error(err)
		}
		mustVanish(t, pids...)
		for _, dir := range []string{env.Dir(), filepath.Dir(env.Path("x"))} {
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s is left: %v", dir, err)
			}
		}
	})
}

// checkStateFile writes the state twice and reads it.
func checkStateFile(t *testing.T, env *Environment) {
	t.Helper()
	file, want := filepath.Join(t.TempDir(), "run", "cluster.json"), env.State()
	for range 2 {
		if err := want.Write(file); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadState(file)
	if err != nil || !reflect.DeepEqual(got, &want) {
		t.Errorf("read %+v, %v\nwrote %+v", got, err, &want)
	}
	if len(want.Companies) != 3 || want.OperatorToken == "" || len(want.Entries()) != 3 || want.Nodes[0].PID == 0 {
		t.Errorf("%d companies, %d entries, operator's token %q, nodes %+v", len(want.Companies), len(want.Entries()), want.OperatorToken, want.Nodes)
	}
}

func TestSetupIsChecked(t *testing.T) {
	_, err := (&Setup{NodesPerRegion: 1}).Start(context.Background(), io.Discard, nil)
	if err == nil || !strings.Contains(err.Error(), "--companies-per-region") {
		t.Errorf("got %v, want an error that names the flag", err)
	}
}

func TestBuildFails(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := Build(testContext(t), t.TempDir())
	mustContain(t, err, "in no module")
}

func TestFindBinary(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := FindBinary("")
	mustContain(t, err, "--binary", "make build")
	onPath := filepath.Join(os.Getenv("PATH"), "punchclock")
	mustWriteExecutable(t, onPath)
	if path, err := FindBinary(""); err != nil || path != onPath {
		t.Errorf("found %q, %v; expected %q on the PATH", path, err, onPath)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(filepath.Dir(self), "punchclock")
	mustWriteExecutable(t, beside)
	defer func() { _ = os.Remove(beside) }() // go test removes the folder
	if path, err := FindBinary(""); err != nil || path != beside {
		t.Errorf("found %q, %v; expected %q beside this executable", path, err, beside)
	}
	if path, err := FindBinary("/some/punchclock"); err != nil || path != "/some/punchclock" {
		t.Errorf("found %q, %v; expected the named file", path, err)
	}
}

func mustWriteExecutable(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}
