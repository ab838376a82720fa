package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// eachEngine runs a test on every engine of this machine.
func eachEngine(t *testing.T, test func(t *testing.T, engine string)) {
	for _, e := range Engines() {
		t.Run(e.Name, func(t *testing.T) {
			t.Logf("engine %s %s", e.Name, e.Version)
			test(t, e.Name)
		})
	}
}

func mustStartDatabase(tb testing.TB, cfg Config) *Database {
	tb.Helper()
	cfg.Log = testLog(tb)
	d, err := StartDatabase(testContext(tb), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	return d
}

// mustQuery returns the only value of a query's answer.
func mustQuery[T any](tb testing.TB, url, query string) T {
	tb.Helper()
	v, err := ask[T](testContext(tb), url, query)
	if err != nil {
		tb.Fatalf("%s on %s: %v", query, url, err)
	}
	return v
}

func ask[T any](ctx context.Context, url, query string) (v T, err error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.Background())) }()
	return v, conn.QueryRow(ctx, query).Scan(&v)
}

func mustExecute(tb testing.TB, url, statements string) {
	tb.Helper()
	if err := execute(testContext(tb), url, statements); err != nil {
		tb.Fatalf("%s: %v", statements, err)
	}
}

func TestDatabase(t *testing.T) {
	eachEngine(t, func(t *testing.T, engine string) {
		dir := testDir(t)
		d := mustStartDatabase(t, Config{Dir: dir, Engine: engine})
		for _, region := range d.cfg.Regions {
			if name := mustQuery[string](t, d.URL(region), "SELECT current_database()"); name != DatabaseName {
				t.Errorf("URL(%s) leads to database %q", region, name)
			}
		}
		mustExecute(t, d.URL("eu-west"), "CREATE TABLE kept (i INT8 PRIMARY KEY)")
		mustExecute(t, d.URL("eu-west"), "INSERT INTO kept SELECT generate_series(1, 1000)")
		if err := d.CreateDatabase(testContext(t), "another one"); err != nil {
			t.Fatal(err)
		}
		if name := mustQuery[string](t, d.URLOf("another one", "ap-south"), "SELECT current_database()"); name != "another one" {
			t.Errorf("URLOf leads to database %q", name)
		}
		if err := d.WaitReplicated(testContext(t)); err != nil {
			t.Fatal(err)
		}
		t.Run("after a crash of all", func(t *testing.T) { crashAll(t, d) })
		t.Run("engine", func(t *testing.T) {
			if engine == Cockroach {
				cockroachOnly(t, d)
			} else {
				postgresOnly(t, d)
			}
		})
		if err := d.Stop(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if left := processesIn(t, dir); len(left) > 0 {
			t.Errorf("still running: %v", left)
		}
		mustBeEmpty(t, dir)
		if err := d.Stop(testContext(t)); err != nil {
			t.Errorf("a second Stop: %v", err)
		}
	})
}

func crashAll(t *testing.T, d *Database) {
	before := d.Hosts()
	if err := d.Kill(AllRegions); err != nil {
		t.Fatal(err)
	}
	if err := d.ping(testContext(t), d.hosts[0]); err == nil {
		t.Error("a killed database answers")
	}
	if left := processesIn(t, d.Dir()); len(left) > 0 {
		t.Errorf("still running after Kill: %v", left)
	}
	if err := d.Kill(AllRegions); err != nil {
		t.Errorf("a second Kill: %v", err)
	}
	if err := d.Restart(testContext(t), AllRegions); err != nil {
		t.Fatal(err)
	}
	for i, h := range d.Hosts() {
		if h.Addr != before[i].Addr || h.PID == before[i].PID {
			t.Errorf("restarted %+v as %+v; expected another process on the same address", before[i], h)
		}
	}
	if n := mustQuery[int](t, d.URL("us-east"), "SELECT count(*) FROM kept"); n != 1000 {
		t.Errorf("%d rows of 1000 are left after a crash", n)
	}
}

// cockroachOnly lets single regions fail, which PostgreSQL cannot.
func cockroachOnly(t *testing.T, d *Database) {
	ctx := testContext(t)
	const goal = "SELECT survival_goal FROM [SHOW DATABASES] WHERE database_name = 'clock'"
	if got := mustQuery[string](t, d.URL("us-east"), goal); got != "region" {
		t.Errorf("survival goal %q, expected region", got)
	}
	for _, region := range d.cfg.Regions {
		if got := mustQuery[string](t, d.URL(region), "SELECT gateway_region()"); got != region {
			t.Errorf("URL(%s) leads first to %s", region, got)
		}
	}
	if err := d.Freeze("ap-south"); err != nil {
		t.Fatal(err)
	}
	answers := func() bool { // see TestNodeLife: not at once
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return d.ping(short, d.hosts[2]) == nil
	}
	for answers() {
		if ctx.Err() != nil {
			t.Fatal("a frozen region goes on answering")
		}
	}
	if err := d.Thaw("ap-south"); err != nil {
		t.Fatal(err)
	}
	if err := d.await(ctx, d.hosts[2:]); err != nil {
		t.Errorf("after Thaw: %v", err)
	}

	if err := d.Kill("us-east"); err != nil {
		t.Fatal(err)
	}
	if got := mustQuery[string](t, d.URL("us-east"), "SELECT gateway_region()"); got == "us-east" {
		t.Error("a killed region answers")
	}
	if n := mustQuery[int](t, d.URL("us-east"), "SELECT count(*) FROM kept"); n != 1000 {
		t.Errorf("%d rows of 1000 are left without one region", n)
	}
	if err := d.Restart(ctx, "us-east"); err != nil {
		t.Fatal(err)
	}
	if got := mustQuery[string](t, d.URL("us-east"), "SELECT gateway_region()"); got != "us-east" {
		t.Errorf("after Restart URL(us-east) leads first to %s", got)
	}
	if err := d.Kill("mars"); err == nil {
		t.Error("killed a region that does not exist")
	}
}

func postgresOnly(t *testing.T, d *Database) {
	for name, do := range map[string]func(string) error{
		"Kill":    d.Kill,
		"Restart": func(r string) error { return d.Restart(testContext(t), r) },
	} {
		if err := do("us-east"); !errors.Is(err, ErrOneProcess) {
			t.Errorf("%s of one region: %v, expected ErrOneProcess", name, err)
		}
	}
	if err := d.Freeze(AllRegions); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Freeze: %v, expected ErrUnsupported", err)
	}
	for setting, expected := range map[string]string{
		"fsync": "on", "lc_collate": "C", "server_encoding": "UTF8", "timezone": "UTC", "max_connections": "300",
	} {
		if got := mustQuery[string](t, d.AdminURL(), "SELECT current_setting('"+setting+"')"); got != expected {
			t.Errorf("%s is %q, expected %q", setting, got, expected)
		}
	}
}

func TestCockroachTakesFurtherSettings(t *testing.T) {
	if _, err := FindEngine(Cockroach); err != nil {
		t.Skip(err)
	}
	t.Setenv(FlagsVariable, "--attrs=further --max-offset=400ms")
	t.Setenv(InitSQLVariable, "SET CLUSTER SETTING cluster.organization = 'a; b'; SET CLUSTER SETTING sql.defaults.results_buffer.size = '32KiB'")
	d := mustStartDatabase(t, Config{Dir: testDir(t), Engine: Cockroach, Regions: []string{"here"}})
	if got := mustQuery[string](t, d.AdminURL(), "SHOW CLUSTER SETTING cluster.organization"); got != "a; b" {
		t.Errorf("cluster.organization is %q", got)
	}
	if got := mustQuery[string](t, d.AdminURL(), "SELECT attrs::text FROM crdb_internal.kv_node_status"); !strings.Contains(got, "further") {
		t.Errorf("the attributes of the process are %q", got)
	}
	if got := mustQuery[string](t, d.URL("here"), "SELECT survival_goal FROM [SHOW DATABASES] WHERE database_name = 'clock'"); got != "zone" {
		t.Errorf("one region survives by %q", got)
	}
}
