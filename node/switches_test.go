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

	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/cluster"
	"github.com/punchclock/punchclock/node/opsapi"
	"github.com/punchclock/punchclock/node/punch"
)

// operate runs the binary as an operator does, against one node.
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

// awaitReady waits until the nodes of a region are ready, or none of them.
func (w *world) awaitReady(t *testing.T, region string, want bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for _, n := range w.cluster.Region(region) {
		for ready(strings.TrimPrefix(n.OpsURL, "http://")) != want {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not become ready: %t", n.Name, want)
			}
			time.Sleep(20 * time.Millisecond) // poll
		}
	}
}

func TestARegionIsEvacuatedAndRestored(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		far := w.cluster.Region("ap-south")[0]
		if out := mustOperate(t, far, "region", "evacuate", "eu-west"); !strings.Contains(out, "eu-west is evacuated") {
			t.Errorf("the command said %q", out)
		}
		w.awaitReady(t, "eu-west", false)
		w.awaitMembers(t, 4)
		// Its companies' punches are taken by other nodes, through their own
		// gateways, and stay at home.
		company := w.company(t, "eu-west")
		before := metricOf(t, w.cluster.Region("eu-west")[0], "punchclock_lane_batch_count") + metricOf(t, w.cluster.Region("eu-west")[1], "punchclock_lane_batch_count")
		for i, n := range slices.Concat(w.cluster.Region("us-east"), w.cluster.Region("ap-south")) {
			employee := fmt.Sprint("e", i)
			wantStatus(t, post(t, n, token(t, company), body{"id": punch.NewID().String(), "employee": employee, "kind": "in"}), http.StatusCreated, "")
			if got := w.rows(t, company, employee); !slices.Equal(got, []string{"eu-west"}) {
				t.Errorf("rows in %v", got)
			}
		}
		if after := metricOf(t, w.cluster.Region("eu-west")[0], "punchclock_lane_batch_count") + metricOf(t, w.cluster.Region("eu-west")[1], "punchclock_lane_batch_count"); after != before {
			t.Errorf("the evacuated region was sent %v batches", after-before)
		}
		// The switch survives a restart.
		victim := w.cluster.Region("eu-west")[0]
		if err := victim.Stop(testContext(t)); err != nil {
			t.Error(err)
		}
		mustOperate(t, far, "region", "evacuate", "us-east")
		if out, err := operate(t, far, auth.Operator, "region", "evacuate", "ap-south"); err == nil {
			t.Errorf("the last region was evacuated: %s", out)
		}
		mustOperate(t, far, "region", "restore", "us-east")
		mustOperate(t, far, "region", "restore", "eu-west")
		if err := victim.Restart(testContext(t)); err != nil {
			t.Fatal(err)
		}
		w.awaitReady(t, "eu-west", true)
		w.awaitMembers(t, 6)
	})
}

func TestAnEvacuationThroughGossipAlone(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		n := w.cluster.Region("us-east")[0]
		if out, err := operate(t, n, auth.Operator, "region", "evacuate", "ap-south", "--gossip-only"); err == nil {
			t.Errorf("without a bound: %s", out)
		}
		out := mustOperate(t, n, "region", "evacuate", "ap-south", "--gossip-only", "--for=1h")
		if !strings.Contains(out, "gossip alone") || !strings.Contains(out, "until") {
			t.Errorf("the command said %q", out)
		}
		w.awaitReady(t, "ap-south", false)
		if rows := w.count(t, `SELECT count(*) FROM controls WHERE value LIKE '%"ap-south":{"on":true%'`); rows != 0 {
			t.Error("the database knows of it")
		}
		mustOperate(t, n, "region", "restore", "ap-south")
		w.awaitReady(t, "ap-south", true)
		mustOperate(t, n, "region", "evacuate", "ap-south", "--for=10s") // long enough to be seen on a busy machine
		w.awaitReady(t, "ap-south", false)
		w.awaitReady(t, "ap-south", true) // by itself
		w.awaitMembers(t, 6)
	})
}

func TestStatusAndWhoMayAsk(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		n := w.cluster.Region("us-east")[1]
		company := w.company(t, "eu-west")
		wantStatus(t, post(t, n, token(t, company), body{"id": punch.NewID().String(), "employee": "anna", "kind": "in"}), http.StatusCreated, "")
		var s opsapi.Status
		if err := json.Unmarshal([]byte(mustOperate(t, n, "status", "--json")), &s); err != nil {
			t.Fatal(err)
		}
		if len(s.Regions) != 3 || len(s.Nodes) != 6 || len(s.Homes) == 0 || s.Region != "us-east" {
			t.Errorf("status %+v", s)
		}
		if table := mustOperate(t, n, "status"); !strings.Contains(table, "eu-west") || !strings.Contains(table, "2/2") {
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
