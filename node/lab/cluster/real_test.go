package cluster

import (
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"
)

// mustBuild makes punchclock, with the race detector where this test has it.
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

// TestPunchclock runs the real thing: the nodes that the other tests here
// stand in for, on a migrated database.
func TestPunchclock(t *testing.T) {
	dir := testDir(t)
	binary, jwks := mustBuild(t, dir), filepath.Join(dir, "jwks.json")
	key := exec.CommandContext(testContext(t), binary, "token", "--new-key", "--key-file="+filepath.Join(dir, "dev.key"), "--jwks="+jwks, "--company=acme", "--subject=door")
	if out, err := key.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eachEngine(t, func(t *testing.T, engine string) {
		cfg := Config{Binary: binary, Dir: testDir(t), Engine: engine, NodesPerRegion: 1, JWKS: jwks}
		c := mustStart(t, cfg)
		if n := mustQuery[int](t, c.DatabaseURL("ap-south"), "SELECT count(*) FROM punches"); n != 0 {
			t.Errorf("%d punches in a new database", n)
		}
		if err := c.Migrate(testContext(t)); err != nil {
			t.Errorf("a second Migrate: %v", err)
		}
		n := c.Region("eu-west")[0]
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := n.Restart(testContext(t)); err != nil {
			t.Fatal(err)
		}
		pids := childrenOf(c.State())
		if err := c.Stop(testContext(t)); err != nil {
			t.Fatal(err)
		}
		mustVanish(t, pids...)
		mustBeEmpty(t, cfg.Dir)
	})
}

func TestBuildFails(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := Build(testContext(t), t.TempDir())
	mustContain(t, err, "in no module")
}
