package cluster

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestManyDatabasesAtOnce starts databases at the same time, as test packages do.
func TestManyDatabasesAtOnce(t *testing.T) {
	if _, err := FindEngine(Postgres); err != nil {
		t.Skip(err)
	}
	dir := testDir(t)
	databases := make([]*Database, 4)
	var wg sync.WaitGroup
	for i := range databases {
		wg.Go(func() {
			d, err := StartDatabase(testContext(t), Config{Dir: dir, Engine: Postgres, Log: testLog(t)})
			if err != nil {
				t.Error(err)
				return
			}
			databases[i] = d
		})
	}
	wg.Wait()
	var urls []string
	for _, d := range databases {
		if d == nil {
			continue
		}
		if slices.Contains(urls, d.AdminURL()) {
			t.Errorf("two databases at %s", d.AdminURL())
		}
		urls = append(urls, d.AdminURL())
		if err := d.Stop(testContext(t)); err != nil {
			t.Error(err)
		}
	}
	mustBeEmpty(t, dir)
}

// TestDatabaseLosesPort takes a port after it was chosen and before the database binds it.
func TestDatabaseLosesPort(t *testing.T) {
	eachEngine(t, func(t *testing.T, name string) {
		engine, cfg := mustEngine(t, name), mustConfig(t)
		ws, err := newWorkspace(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ws.pick = takenOnce(t)
		d, err := startDatabase(testContext(t), cfg, engine, ws)
		if err != nil {
			t.Fatal(err)
		}
		d.owner = true
		if n := mustQuery[int](t, d.URL("here"), "SELECT 1"); n != 1 {
			t.Errorf("SELECT 1 answers %d", n)
		}
		if err := d.Stop(testContext(t)); err != nil {
			t.Fatal(err)
		}
		mustBeEmpty(t, cfg.Dir)
	})
}

func mustEngine(tb testing.TB, name string) Engine {
	tb.Helper()
	e, err := FindEngine(name)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func mustConfig(tb testing.TB) Config {
	tb.Helper()
	cfg, err := Config{Dir: testDir(tb), Regions: []string{"here"}, Log: testLog(tb)}.forDatabase()
	if err != nil {
		tb.Fatal(err)
	}
	return cfg
}

// takenOnce is freeAddrs, except for one address that is in use.
func takenOnce(tb testing.TB) func(string, int) ([]string, error) {
	var once sync.Once
	return func(host string, n int) ([]string, error) {
		addrs, err := freeAddrs(host, n)
		once.Do(func() {
			ln, errL := net.Listen("tcp4", addrs[0])
			if errL != nil {
				tb.Fatal(errL)
			}
			tb.Cleanup(func() { _ = ln.Close() })
		})
		return addrs, err
	}
}

// TestDatabaseDies: Stop reports a database that died by itself, and keeps its log.
func TestDatabaseDies(t *testing.T) {
	dir := testDir(t)
	d, err := StartDatabase(testContext(t), Config{Dir: dir, Regions: []string{"here"}, Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.hosts[0].process.signal(d.killSignal()); err != nil {
		t.Fatal(err)
	}
	<-d.hosts[0].process.gone.Done()
	mustContain(t, d.Stop(testContext(t)), "ended by itself", d.Dir())
	if _, err := os.Stat(d.hosts[0].command.log); err != nil {
		t.Errorf("the log is gone: %v", err)
	}
	if left := processesIn(t, dir); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
}

func TestKeptDatabase(t *testing.T) {
	dir := testDir(t)
	d := mustStartDatabase(t, Config{Dir: dir, Engine: Engines()[len(Engines())-1].Name})
	d.Keep()
	if err := d.Stop(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.Dir()); err != nil {
		t.Errorf("the folder is not kept: %v", err)
	}
}

func TestStartIsCancelled(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		dir := testDir(t)
		ctx, cancel := context.WithCancel(testContext(t))
		time.AfterFunc(300*time.Millisecond, cancel) // during the start of both engines; every moment must work
		d, err := StartDatabase(ctx, Config{Dir: dir, Engine: engine})
		if err == nil {
			t.Log("had started before it was cancelled")
			if err := d.Stop(testContext(t)); err != nil {
				t.Fatal(err)
			}
		} else if !errors.Is(err, context.Canceled) {
			t.Errorf("error is not context.Canceled: %v", err)
		}
		if left := processesIn(t, dir); len(left) > 0 {
			t.Errorf("still running: %v", left)
		}
		mustBeEmpty(t, dir)
	})
}

func TestUnusableDir(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs PostgreSQL under another account")
	}
	_, err := StartDatabase(testContext(t), Config{Dir: t.TempDir(), Engine: mustEngine(t, Postgres).Name})
	mustContain(t, err, "cannot pass through", "TMPDIR")
}

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{
		{Regions: []string{"us-east", "us-east"}}, {Regions: []string{`x"; DROP`}}, {Regions: []string{""}}, {Regions: make([]string, 300)},
	} {
		if _, err := StartDatabase(testContext(t), cfg); err == nil {
			t.Errorf("regions %q were taken", cfg.Regions)
		} else {
			mustContain(t, err, "Regions")
		}
	}
	for field, cfg := range map[string]Config{
		"Binary": {JWKS: "x"}, "JWKS": {Binary: "x"}, "NodesPerRegion": {Binary: "x", JWKS: "x", NodesPerRegion: -1},
	} {
		_, err := Start(testContext(t), cfg)
		mustContain(t, err, field)
	}
}
