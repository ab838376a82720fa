package node_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/adminapi"
	"github.com/punchclock/punchclock/node/auth"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// awaitReads waits until a node answers reads with the status. It obeys a level within two seconds; the bound leaves time
// for a busy machine.
func (w *world) awaitReads(t *testing.T, n *cluster.Node, tok string, status int) answer {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) { // poll
		a := send(t, http.MethodGet, n.PublicURL+"/v1/employees/anna/punches", tok, nil)
		if a.status == status {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s answers a read with %d, %v, want %d", n.Name, a.status, a.body, status)
		}
	}
}

// TestADegradedClusterTakesPunchesOnly degrades all regions through one node, and then one region. Every node must obey.
// Punches go on everywhere.
func TestADegradedClusterTakesPunchesOnly(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "eu-west")
		tok := token(t, company)
		punches := func(when string) {
			t.Helper()
			for i, n := range w.cluster.Nodes() {
				in := body{"id": punch.NewID().String(), "employee": fmt.Sprint(when, "-", i), "kind": "in"}
				wantStatus(t, post(t, n, tok, in), http.StatusCreated, "")
				if created, _, _ := batch(t, n, tok, []body{{"id": punch.NewID().String(), "employee": "stored", "kind": "out"}}); created != 1 {
					t.Errorf("%s: a stored punch was not taken %s", n.Name, when)
				}
			}
		}
		operator, far := w.cluster.Region("ap-south")[0], w.cluster.Region("us-east")[1]
		if out := mustOperate(t, operator, "degrade", "3", "--for=1h"); strings.Count(out, "has level 3 until") != len(regions) {
			t.Errorf("the command said %q", out)
		}
		for _, n := range w.cluster.Nodes() {
			a := w.awaitReads(t, n, tok, http.StatusServiceUnavailable)
			wait, err := strconv.Atoi(a.header.Get("Retry-After"))
			if err != nil || wait < 15 || wait > 46 || a.body["code"] != "degraded" || a.body["final"] != false {
				t.Errorf("%s: a read is answered %v with Retry-After %q", n.Name, a.body, a.header.Get("Retry-After"))
			}
			if got := metricOf(t, n, "punchclock_admission_level", `source="operator"`); got != 3 {
				t.Errorf("%s: the level's metric is %v", n.Name, got)
			}
			wantStatus(t, send(t, http.MethodGet, n.PublicURL+"/v1/regions", tok, nil), http.StatusOK, "")
		}
		punches("degraded")
		w.wantLevels(t, far, map[string]uint8{"us-east": 3, "eu-west": 3, "ap-south": 3})

		mustOperate(t, far, "degrade", "0")
		for _, n := range w.cluster.Nodes() {
			w.awaitReads(t, n, tok, http.StatusOK)
		}
		mustOperate(t, far, "degrade", "3", "--region=us-east", "--gossip-only", "--for=1h")
		for _, n := range w.cluster.Region("us-east") {
			w.awaitReads(t, n, tok, http.StatusServiceUnavailable)
		}
		for _, n := range w.cluster.Region("eu-west") {
			wantStatus(t, send(t, http.MethodGet, n.PublicURL+"/v1/employees/anna/punches", tok, nil), http.StatusOK, "")
		}
		w.wantLevels(t, operator, map[string]uint8{"us-east": 3, "eu-west": 0, "ap-south": 0})
		mustOperate(t, operator, "degrade", "0", "--region=us-east")
		for _, n := range w.cluster.Region("us-east") {
			w.awaitReads(t, n, tok, http.StatusOK)
		}
		punches("after")
		for refusal, args := range map[string][]string{
			"0 to 3": {"degrade", "4"}, "region": {"degrade", "1", "--region=mars"}, "needs --for": {"degrade", "1", "--gossip-only"},
		} {
			if out, err := operate(t, operator, auth.Operator, args...); err == nil || !strings.Contains(out, refusal) {
				t.Errorf("%v: %v, %q, want a refusal with %q", args, err, out, refusal)
			}
		}
	})
}

// wantLevels waits until a node's status shows the levels of all regions, as the operator set them and as nodes tell them.
func (w *world) wantLevels(t *testing.T, n *cluster.Node, want map[string]uint8) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s shows the levels %v", n.Name, want), func() bool {
		var s adminapi.Status
		if err := json.Unmarshal([]byte(mustOperate(t, n, "status", "--json")), &s); err != nil {
			t.Fatal(err)
		}
		for _, r := range s.Regions {
			if r.Level != want[r.Name] || (r.LevelUntil != nil) != (r.Level > 0) {
				return false
			}
		}
		for _, m := range s.Nodes {
			if m.Level != want[m.Region] {
				return false
			}
		}
		return len(s.Regions) == len(want) && len(s.Nodes) == 2*len(want)
	})
}
