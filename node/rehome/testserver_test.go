package rehome_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/cockroach-go/v2/testserver"
	"github.com/jackc/pgx/v5"

	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/rehome"
)

// upgradeVariable names the CockroachDB binary to upgrade to.
const upgradeVariable = "PUNCHCLOCK_COCKROACH_UPGRADE_BINARY"

// TestForeignCluster runs on three nodes that cockroach-go started. A mistake in the laboratory's own start of the
// database (flags, environment, certificates) cannot make the product look right here.
func TestForeignCluster(t *testing.T) {
	engine, err := cluster.FindEngine(cluster.Cockroach)
	if err != nil {
		t.Skip(err) // cockroach-go would download a binary
	}
	upgrade := os.Getenv(upgradeVariable)
	server := mustTestServer(t, engine.Path, upgrade)
	s := mustForeignStore(t, server)

	company := s.company("us-east")
	items, receipts := s.fill(company, 200)
	if r, err := s.mover(rehome.DefaultConfig()).Company(s.ctx, company, "eu-west"); err != nil || r.Rows != len(items) {
		t.Fatalf("rehoming to eu-west: %+v, %v", r, err)
	}
	s.wantRows(company, "eu-west", len(items))
	s.wantReceipts(items, receipts)
	t.Run("rolling upgrade", func(t *testing.T) {
		if upgrade == "" {
			t.Skipf("name a CockroachDB binary in %s", upgradeVariable)
		}
		upgradeUnderPunches(t, server, s, company)
	})
}

// mustTestServer starts three nodes, one for each region.
func mustTestServer(t *testing.T, binary, upgrade string) testserver.TestServer {
	t.Helper()
	log.SetOutput(io.Discard) // cockroach-go logs every step and its environment
	defer log.SetOutput(os.Stderr)
	options := []testserver.TestServerOpt{
		testserver.CockroachBinaryPathOpt(binary),
		testserver.ThreeNodeOpt(),
		testserver.StoreOnDiskOpt(), // a node that restarts must find its ranges
		testserver.ListenAddrHostOpt("127.0.0.1"),
		testserver.LocalityFlagsOpt("region="+regions[0], "region="+regions[1], "region="+regions[2]),
		testserver.EnvVarOpt([]string{
			"COCKROACH_MAX_OFFSET=500ms", // cockroach-go sets 1 ns, which no production cluster has
			"COCKROACH_SKIP_ENABLING_DIAGNOSTIC_REPORTING=true",
		}),
	}
	for _, port := range mustFreePorts(t, len(regions)) {
		options = append(options, testserver.AddListenAddrPortOpt(port))
	}
	if upgrade != "" {
		options = append(options, testserver.UpgradeCockroachBinaryPathOpt(upgrade))
	}
	server, err := testserver.NewTestServer(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// mustFreePorts returns ports below the ephemeral range, so that no outgoing connection takes one of them.
func mustFreePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for tries := 0; len(ports) < n; tries++ {
		if tries == 100 {
			t.Fatal("no free ports on 127.0.0.1")
		}
		port := 10240 + rand.IntN(22_000)
		if listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			defer listener.Close() //nolint:errcheck // it holds the port until all are found
			ports = append(ports, port)
		}
	}
	return ports
}

// mustForeignStore creates and migrates a database on the server.
func mustForeignStore(t *testing.T, server testserver.TestServer) *store {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var hosts []string
	for i := range regions {
		hosts = append(hosts, server.PGURLForNode(i).Host)
	}
	dsn := url.URL{Scheme: "postgres", User: url.User("root"), Host: strings.Join(hosts, ","), Path: "defaultdb", RawQuery: "sslmode=disable"}
	admin, err := pgx.Connect(ctx, dsn.String())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(ctx) //nolint:errcheck // all answers are read
	// SET CLUSTER SETTING refuses a transaction with other statements.
	for _, sql := range []string{"SET enable_implicit_transaction_for_batch_statements = off", os.Getenv(cluster.InitSQLVariable),
		"CREATE DATABASE clock"} {
		if _, err := admin.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	dsn.Path = "clock"
	if _, err := crdb.Migrate(ctx, dsn.String(), regions, discard); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, nil, dsn.String())
}

// upgradeUnderPunches restarts each node with the other binary while devices punch. A punch may have to be sent again
// with its id. No punch may be refused for good, and every receipt must have its row.
func upgradeUnderPunches(t *testing.T, server testserver.TestServer, s *store, company string) {
	log.SetOutput(io.Discard)
	defer log.SetOutput(os.Stderr)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	const devices = 4
	before := s.count(`SELECT count(*) FROM punches WHERE company_id = $1`, company)
	home := s.where(company)
	upgraded := make(chan struct{})
	var punched, repeated atomic.Int64
	var running sync.WaitGroup
	for d := range devices {
		running.Go(func() {
			for {
				select {
				case <-upgraded:
					return
				default:
				}
				n, err := sendUntilStored(ctx, s, item(ctx, home, fmt.Sprintf("upgrade%d", d), time.Now()))
				if err != nil {
					t.Error(err)
					return
				}
				punched.Add(1)
				repeated.Add(int64(n))
			}
		})
	}
	var steps []int64 // punches that were stored when a node's upgrade ended
	for i := range regions {
		if err := server.UpgradeNode(i); err != nil {
			t.Error(err)
			break
		}
		if err := server.WaitForInitFinishForNode(i); err != nil {
			t.Error(err)
			break
		}
		steps = append(steps, punched.Load())
	}
	close(upgraded)
	running.Wait()
	t.Logf("%d punches, %d sent again; stored after each node: %v", punched.Load(), repeated.Load(), steps)

	again := mustOpen(t, nil, s.url) // the old connections may have ended with their nodes
	again.wantRows(company, string(home.Home), before+int(punched.Load()))
	if len(steps) < len(regions) || steps[0] == 0 || steps[1] == steps[0] || steps[2] == steps[1] {
		t.Errorf("no punch was stored during one of the restarts: %v", steps)
	}
	if r, err := again.mover(rehome.DefaultConfig()).Company(again.ctx, company, "us-east"); err != nil || r.Home != "us-east" {
		t.Errorf("rehoming after the upgrade: %+v, %v", r, err)
	}
	again.wantRows(company, "us-east", before+int(punched.Load()))
}

// sendUntilStored sends a punch until it has a receipt, and returns how often it was sent again.
func sendUntilStored(ctx context.Context, s *store, i punch.Item) (repeats int, err error) {
	for ; ; repeats++ {
		attempt, cancel := context.WithTimeout(ctx, 15*time.Second)
		err := s.Writer(i.HomeRegion).Write(attempt, []punch.Item{i})[0].Err
		cancel()
		if err == nil {
			return repeats, nil
		}
		if code := punch.CodeOf(err); code.Final() || ctx.Err() != nil {
			return repeats, fmt.Errorf("punch %s was refused with %s: %w", i.ID, code, err)
		}
	}
}
