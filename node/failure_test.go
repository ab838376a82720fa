package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

func (w *world) createWithBinary(t *testing.T, id, home string) {
	t.Helper()
	out, err := exec.CommandContext(testContext(t), shared.binary, "company", "create", id, "--name=x", "--home-region="+home,
		"--time-zone=Asia/Kolkata", "--database-url="+w.cluster.DatabaseURL("us-east")).CombinedOutput()
	if err != nil {
		t.Fatalf("company create: %v\n%s", err, out)
	}
}

// load sends punches of one company from devices near a region until stop is closed. The returned function waits for the
// end and returns how many punches were acknowledged. Every punch must be.
func (w *world) load(t *testing.T, company, near string, stop <-chan struct{}) (acknowledged func() int) {
	t.Helper()
	var (
		wg    sync.WaitGroup
		count atomic.Int64
	)
	device := w.device(t, company, near)
	for worker := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				_, err := device.Punch(context.Background(), client.Request{Employee: fmt.Sprintf("w%d-%d", worker, i), Kind: punch.In})
				if err != nil {
					t.Errorf("worker %d, punch %d: %v", worker, i, err)
					return
				}
				count.Add(1)
			}
		})
	}
	return func() int {
		wg.Wait()
		return int(count.Load())
	}
}

// awaitRows waits until the company has n rows.
func (w *world) awaitRows(t *testing.T, company string, n int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for w.count(t, `SELECT count(*) FROM punches WHERE company_id = $1`, company) < n {
		if time.Now().After(deadline) {
			t.Fatalf("there are not %d rows after a minute", n)
		}
		time.Sleep(20 * time.Millisecond) // poll
	}
}

// wantAll checks that each acknowledged punch has exactly one row. There can be no other rows: every punch was
// acknowledged in the end.
func (w *world) wantAll(t *testing.T, company string, acknowledged int) {
	t.Helper()
	rows := w.count(t, `SELECT count(*) FROM punches WHERE company_id = $1`, company)
	identities := w.count(t, `SELECT count(*) FROM (SELECT DISTINCT employee_id, punch_id FROM punches WHERE company_id = $1) AS x`, company)
	if rows != acknowledged || identities != acknowledged {
		t.Errorf("%d acknowledged, %d rows, %d identities", acknowledged, rows, identities)
	}
}

func TestAKilledPeerLosesNothing(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "eu-west")
		stop := make(chan struct{})
		acknowledged := w.load(t, company, "us-east", stop)
		w.awaitRows(t, company, 200)
		victim := w.cluster.Region("eu-west")[0]
		if err := victim.Kill(); err != nil {
			t.Error(err)
		}
		w.awaitRows(t, company, w.count(t, `SELECT count(*) FROM punches WHERE company_id = $1`, company)+500)
		close(stop)
		w.wantAll(t, company, acknowledged())
		if err := victim.Restart(testContext(t)); err != nil {
			t.Fatal(err)
		}
		w.awaitMembers(t, 6)
	})
}

func TestSIGTERMUnderLoadLosesNothing(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "eu-west")
		stop := make(chan struct{})
		acknowledged := w.load(t, company, "eu-west", stop)
		w.awaitRows(t, company, 200)
		victim := w.cluster.Region("eu-west")[1]
		if err := victim.Stop(testContext(t)); err != nil {
			t.Errorf("the node did not drain cleanly: %v", err)
		}
		w.awaitRows(t, company, w.count(t, `SELECT count(*) FROM punches WHERE company_id = $1`, company)+200)
		close(stop)
		w.wantAll(t, company, acknowledged())
		if err := victim.Restart(testContext(t)); err != nil {
			t.Fatal(err)
		}
		w.awaitMembers(t, 6)
	})
}

// awaitMembers waits until every node sees as many ready nodes, so that the next test finds all nodes.
func (w *world) awaitMembers(t *testing.T, want int) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for _, n := range w.cluster.Nodes() {
		for {
			a := send(t, http.MethodGet, n.PublicURL+"/v1/regions", token(t, "x"), nil)
			ready, total := 0.0, 0.0
			for _, r := range a.body["regions"].([]any) {
				nodes := r.(map[string]any)["nodes"].(map[string]any)
				ready += nodes["ready"].(float64)
				total += nodes["total"].(float64)
			}
			if int(ready) == want && int(total) <= len(w.cluster.Nodes()) { // a node that restarted stays a while under its old name
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s sees %v ready nodes, want %d: %v", n.Name, ready, want, a.body)
			}
			time.Sleep(100 * time.Millisecond) // poll
		}
	}
}

func TestAnOldEpochIsRerouted(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "us-east")
		tok := token(t, company)
		for _, n := range w.cluster.Nodes() { // so that every node has the old home in its directory
			wantStatus(t, post(t, n, tok, body{"id": punch.NewID().String(), "employee": "before", "kind": "in"}), http.StatusCreated, "")
		}
		tx, err := w.db.Begin(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{
			`DELETE FROM homes WHERE crdb_region = 'us-east' AND company_id = $1`,
			`INSERT INTO homes (crdb_region, company_id, epoch) VALUES ('ap-south', $1, 2)`,
			`UPDATE companies SET home_region = 'ap-south', epoch = 2, version = 2 WHERE company_id = $1`,
		} {
			if _, err := tx.Exec(testContext(t), sql, company); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(testContext(t)); err != nil {
			t.Fatal(err)
		}
		for _, n := range w.cluster.Nodes() {
			employee := "after-" + n.Name
			a := post(t, n, tok, body{"id": punch.NewID().String(), "employee": employee, "kind": "in"})
			wantStatus(t, a, http.StatusCreated, "")
			if got := w.rows(t, company, employee); len(got) != 1 || got[0] != "ap-south" || a.body["home_region"] != "ap-south" {
				t.Errorf("through %s: rows in %v, receipt %v", n.Name, got, a.body)
			}
		}
	})
}

// TestHomesDoNotHurtEachOther keeps the database from answering for one home: a transaction locks all fence rows of that
// home. Meanwhile punches of another home pass through the same node.
func TestHomesDoNotHurtEachOther(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		stuck, free := w.company(t, "eu-west"), w.company(t, "us-east")
		tx, err := w.db.Begin(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback(context.Background()) //nolint:errcheck // it is committed below
		if _, err := tx.Exec(testContext(t), `UPDATE homes SET epoch = epoch WHERE crdb_region = 'eu-west'`); err != nil {
			t.Fatal(err)
		}
		for _, n := range []*cluster.Node{w.cluster.Region("ap-south")[0], w.cluster.Region("eu-west")[0]} {
			// The batcher of the stuck home has fewer writers than there are punches: some are being written, and some wait.
			ctx, cancel := context.WithCancel(testContext(t))
			var waiting sync.WaitGroup
			var answered atomic.Int64
			for i := range 200 {
				waiting.Go(func() {
					in := body{"id": punch.NewID().String(), "employee": fmt.Sprintf("s%d", i), "kind": "in"}
					if err := quietPost(ctx, n, token(t, stuck), in); err == nil {
						answered.Add(1)
					}
				})
			}
			awaitInFlight(t, n, 200)
			tok := token(t, free)
			for i := range 30 {
				in := body{"id": punch.NewID().String(), "employee": fmt.Sprintf("f%d", i), "kind": "in"}
				wantStatus(t, post(t, n, tok, in), http.StatusCreated, "")
			}
			if got := answered.Load(); got != 0 {
				t.Errorf("%d punches of the stuck home were answered: the test shows nothing", got)
			}
			cancel()
			waiting.Wait()
		}
		if err := tx.Commit(testContext(t)); err != nil {
			t.Fatal(err)
		}
		a := post(t, w.cluster.Region("ap-south")[0], token(t, stuck), body{"id": punch.NewID().String(), "employee": "after", "kind": "in"})
		wantStatus(t, a, http.StatusCreated, "")
	})
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		victim := w.cluster.Region("ap-south")[1]
		process := victim.PID()
		// An unfinished request keeps the node from ending after the first signal, for up to 10 s.
		unfinished, err := net.Dial("tcp", strings.TrimPrefix(victim.PublicURL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer unfinished.Close() //nolint:errcheck // the node does not answer it
		if _, err := io.WriteString(unfinished, "POST /v1/punches HTTP/1.1\r\n"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := syscall.Kill(process, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			awaitNotReady(t, victim)
		}
		var exit *exec.ExitError
		if err := victim.Wait(testContext(t)); !errors.As(err, &exit) || exit.ExitCode() != 130 {
			t.Errorf("the node ended with %v, want by the second signal", err)
		}
		if err := victim.Restart(testContext(t)); err != nil {
			t.Fatal(err)
		}
		w.awaitMembers(t, 6)
	})
}

// awaitNotReady waits until the node says that it is not ready, or is gone.
func awaitNotReady(t *testing.T, n *cluster.Node) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		res, err := http.Get(n.OpsURL + "/readyz")
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if res.StatusCode == http.StatusServiceUnavailable {
			// The public listener says the same to load balancers, while it exists.
			if res, err := http.Get(n.PublicURL + "/readyz"); err == nil {
				_ = res.Body.Close()
				if res.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("the public listener answers %s", res.Status)
				}
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the node stays ready after a signal")
		}
		time.Sleep(10 * time.Millisecond) // poll
	}
}
