package node_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/adminapi"
	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/crdb"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
	"github.com/punchclock/punchclock/node/zone"
)

// operate runs one of the operator's commands against a node.
func operate(t *testing.T, n *cluster.Node, role auth.Role, args ...string) (string, error) {
	t.Helper()
	args = append(args, "--ops-url="+n.OpsURL, "--token="+tokenFor(t, "ops", role))
	out, err := exec.CommandContext(testContext(t), shared.binary, args...).CombinedOutput()
	return string(out), err
}

func mustOperate(t *testing.T, n *cluster.Node, args ...string) string {
	t.Helper()
	out, err := operate(t, n, auth.Operator, args...)
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// awaitReady waits until all nodes of a region are ready, or no node of it is.
func (w *world) awaitReady(t *testing.T, region string, want bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for _, n := range w.cluster.Region(region) {
		for ready(strings.TrimPrefix(n.OpsURL, "http://")) != want {
			if time.Now().After(deadline) {
				t.Fatalf("after a minute %s is still ready: %t", n.Name, !want)
			}
			time.Sleep(20 * time.Millisecond) // poll
		}
	}
}

func TestARegionIsEvacuatedAndRestored(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		far := w.cluster.Region("ap-south")[0]
		if out := mustOperate(t, far, "region", "evacuate", "eu-west"); !strings.Contains(out, "eu-west is evacuated") {
			t.Errorf("the command said %q", out)
		}
		w.awaitReady(t, "eu-west", false)
		w.awaitMembers(t, 4)
		// By these metrics the alerts distinguish an evacuation from a failure.
		for _, m := range []struct {
			name, state string
			want        float64
		}{
			{"punchclock_region_evacuated", "", 1}, {"punchclock_region_nodes", `state="ready"`, 0},
			{"punchclock_region_nodes", `state="draining"`, 2},
		} {
			if got := metricOf(t, far, m.name, `region="eu-west"`, m.state); got != m.want {
				t.Errorf("%s of the evacuated region, %s, is %v, want %v", m.name, m.state, got, m.want)
			}
		}
		// Other nodes take the punches of its companies through their own gateways. The rows stay in the home region.
		company := w.company(t, "eu-west")
		batches := func() (n float64) {
			for _, node := range w.cluster.Region("eu-west") {
				n += metricOf(t, node, "punchclock_batch_size_count")
			}
			return n
		}
		before := batches()
		for i, n := range slices.Concat(w.cluster.Region("us-east"), w.cluster.Region("ap-south")) {
			employee := fmt.Sprint("e", i)
			in := body{"id": punch.NewID().String(), "employee": employee, "kind": "in"}
			wantStatus(t, post(t, n, token(t, company), in), http.StatusCreated, "")
			if got := w.rows(t, company, employee); !slices.Equal(got, []string{"eu-west"}) {
				t.Errorf("rows in %v", got)
			}
		}
		if after := batches(); after != before {
			t.Errorf("the evacuated region was sent %v batches", after-before)
		}
		// The evacuation survives a restart: the node comes up, and is not ready.
		victim := w.cluster.Region("eu-west")[0]
		if err := victim.Stop(testContext(t)); err != nil {
			t.Error(err)
		}
		restarted := make(chan error, 1)
		go func() { restarted <- victim.Restart(testContext(t)) }()
		awaitEvacuated(t, victim)
		mustOperate(t, far, "region", "evacuate", "us-east")
		if out, err := operate(t, far, auth.Operator, "region", "evacuate", "ap-south"); err == nil {
			t.Errorf("the last region was evacuated: %s", out)
		}
		mustOperate(t, far, "region", "restore", "us-east")
		mustOperate(t, far, "region", "restore", "eu-west")
		if err := <-restarted; err != nil {
			t.Fatal(err)
		}
		w.awaitReady(t, "eu-west", true)
		w.awaitMembers(t, 6)
	})
}

// awaitEvacuated waits until the evacuation is the only reason why a node is not ready.
func awaitEvacuated(t *testing.T, n *cluster.Node) {
	t.Helper()
	said := ""
	for deadline := time.Now().Add(30 * time.Second); said != `["the region is evacuated"]`; {
		if time.Now().After(deadline) {
			t.Fatalf("%s is not ready because of %s", n.Name, said)
		}
		time.Sleep(20 * time.Millisecond)                           // poll
		if res, err := http.Get(n.OpsURL + "/readyz"); err == nil { // else it is starting
			var body struct{ Reasons json.RawMessage }
			if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			_ = res.Body.Close()
			said = string(body.Reasons)
		}
	}
}

// TestAnEvacuationWhileTheDatabaseIsFrozen is the purpose of evacuations by gossip alone: a node must not wait for its
// poll of the database.
func TestAnEvacuationWhileTheDatabaseIsFrozen(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		if w.store.Engine != crdb.CockroachDB {
			t.Skip("only CockroachDB's processes can be frozen here")
		}
		n := w.cluster.Region("us-east")[0]
		thaw := func() {
			for _, r := range regions {
				if err := w.cluster.Database.Thaw(r); err != nil {
					t.Error(err)
				}
			}
		}
		defer thaw()
		for _, r := range regions {
			if err := w.cluster.Database.Freeze(r); err != nil {
				t.Fatal(err)
			}
		}
		mustOperate(t, n, "region", "evacuate", "ap-south", "--gossip-only", "--for=1h")
		w.awaitReady(t, "ap-south", false)
		mustOperate(t, n, "region", "restore", "ap-south", "--gossip-only")
		w.awaitReady(t, "ap-south", true)
		thaw()
		w.awaitMembers(t, 6)
	})
}

func TestAnEvacuationThroughGossipAlone(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		n := w.cluster.Region("us-east")[0]
		if out, err := operate(t, n, auth.Operator, "region", "evacuate", "ap-south", "--gossip-only"); err == nil {
			t.Errorf("without a bound: %s", out)
		}
		out := mustOperate(t, n, "region", "evacuate", "ap-south", "--gossip-only", "--for=1h")
		if !strings.Contains(out, "gossip") || !strings.Contains(out, "until") {
			t.Errorf("the command said %q", out)
		}
		w.awaitReady(t, "ap-south", false)
		if rows := w.count(t, `SELECT count(*) FROM controls WHERE value LIKE '%"ap-south":{"on":true%'`); rows != 0 {
			t.Error("it is in the database")
		}
		mustOperate(t, n, "region", "restore", "ap-south")
		w.awaitReady(t, "ap-south", true)
		w.awaitMembers(t, 6)
	})
}

func TestStatusIsForOperators(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		n := w.cluster.Region("us-east")[1]
		company := w.company(t, "eu-west")
		wantStatus(t, post(t, n, token(t, company), body{"id": punch.NewID().String(), "employee": "anna", "kind": "in"}), http.StatusCreated, "")
		var s adminapi.Status
		if err := json.Unmarshal([]byte(mustOperate(t, n, "status", "--json")), &s); err != nil {
			t.Fatal(err)
		}
		if len(s.Regions) != 3 || len(s.Nodes) != 6 || len(s.Homes) == 0 || s.Region != "us-east" || s.TimeZones != zone.Version() {
			t.Errorf("status %+v", s)
		}
		if table := mustOperate(t, n, "status"); !strings.Contains(table, "eu-west") || !strings.Contains(table, "2/2") || !strings.Contains(table, zone.Version()) {
			t.Errorf("status\n%s", table)
		}
		if out, err := operate(t, n, auth.Manager, "status"); err == nil || !strings.Contains(out, "operator") {
			t.Errorf("a manager's status: %v\n%s", err, out)
		}
		if out, err := operate(t, n, auth.Operator, "region", "evacuate", "mars"); err == nil {
			t.Errorf("a region that is not there: %s", out)
		}
		res, err := http.Get(n.OpsURL + "/status")
		if err != nil || res.StatusCode != http.StatusUnauthorized {
			t.Errorf("without a token: %v, %v", res.StatusCode, err)
		}
		_ = res.Body.Close()
	})
}
