package node_test

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// mustSwitch runs a command that suspends, resumes or limits a company.
func (w *world) mustSwitch(t *testing.T, args ...string) {
	t.Helper()
	args = append(append([]string{"company"}, args...), "--by=alice", "--database-url="+w.cluster.DatabaseURL("us-east"))
	if out, err := exec.CommandContext(testContext(t), shared.binary, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// TestASuspendedCompanyLosesNothing suspends a company while its device punches through an outbox, and resumes it. Every
// punch must become one row, with the time at which it was made.
func TestASuspendedCompanyLosesNothing(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company, other := w.company(t, "eu-west"), w.company(t, "eu-west")
		tok := token(t, company)
		for i, n := range w.cluster.Nodes() { // every node knows the company before
			wantStatus(t, post(t, n, tok, body{"id": punch.NewID().String(), "employee": fmt.Sprint("before-", i), "kind": "in"}), http.StatusCreated, "")
		}
		device := w.device(t, company, "us-east")
		box, err := client.OpenOutbox(client.OutboxConfig{Dir: t.TempDir(), Company: company})
		if err != nil {
			t.Fatal(err)
		}
		// People punch before, during and after the change.
		var mu sync.Mutex
		var made []client.Request
		stop := make(chan struct{})
		var people sync.WaitGroup
		people.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond): // one after the other at a gate
				}
				r := client.Request{ID: punch.NewID(), Employee: fmt.Sprint("e", i), Kind: punch.In, At: time.Now()}
				mu.Lock()
				made = append(made, r)
				mu.Unlock()
				if _, err := box.Punch(testContext(t), device, r); client.IsFinal(err) {
					t.Errorf("punch %s: %v, want a receipt or a kept punch", r.ID, err)
				}
			}
		})
		w.mustSwitch(t, "suspend", company, "--reason=test")
		for _, n := range w.cluster.Nodes() { // each from its first answer on
			a := post(t, n, tok, body{"id": punch.NewID().String(), "employee": "during", "kind": "in"})
			wantStatus(t, a, http.StatusServiceUnavailable, "suspended")
			if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 15*60 || wait > 20*60 || a.body["final"] != false {
				t.Errorf("%s: Retry-After %q, %v, want 15 to 20 minutes and not final", n.Name, a.header.Get("Retry-After"), a.body)
			}
			wantStatus(t, post(t, n, token(t, other), body{"id": punch.NewID().String(), "employee": n.Name, "kind": "in"}), http.StatusCreated, "")
			wantStatus(t, send(t, http.MethodGet, n.PublicURL+"/v1/employees/before-0/punches", tok, nil), http.StatusOK, "")
		}
		if out := mustOperate(t, w.cluster.Nodes()[5], "status"); !slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
			return strings.HasPrefix(line, company) && slices.Equal(strings.Fields(line)[1:], []string{"yes", "none", "alice"})
		}) {
			t.Errorf("the status does not show %s as suspended by alice:\n%s", company, out)
		}
		flushed, err := box.Flush(testContext(t), device)
		if err != nil || flushed.Last == nil || flushed.Last.Code != punch.Suspended || len(flushed.Receipts)+len(flushed.Refused) != 0 {
			t.Errorf("a flush while the company is suspended: %+v, %v, want all punches kept", flushed, err)
		}
		if waiting, quarantined, err := box.Len(testContext(t)); err != nil || waiting == 0 || quarantined != 0 {
			t.Errorf("%d punches wait, %d are in quarantine, %v", waiting, quarantined, err)
		}
		rows := w.count(t, `SELECT count(*) FROM punches WHERE company_id = $1`, company)

		close(stop)
		people.Wait()
		if now := w.count(t, `SELECT count(*) FROM punches WHERE company_id = $1`, company); now != rows {
			t.Errorf("%d rows were added to a suspended company", now-rows)
		}
		w.mustSwitch(t, "resume", company)
		for i, n := range w.cluster.Nodes() {
			w.awaitResumed(t, n, tok, fmt.Sprint("after-", i))
		}
		flushed, err = box.Flush(testContext(t), device)
		if err != nil || flushed.Kept != 0 || len(flushed.Refused) != 0 || len(flushed.Receipts) == 0 {
			t.Fatalf("a flush of the resumed company: %d receipts, %d refused, %d kept, %v, %v", len(flushed.Receipts), len(flushed.Refused),
				flushed.Kept, flushed.Last, err)
		}
		w.wantRows(t, company, made)
	})
}

// awaitResumed waits until a node takes the punches of a resumed company. It must within a few seconds; the bound leaves
// time for a busy machine.
func (w *world) awaitResumed(t *testing.T, n *cluster.Node, tok, employee string) {
	t.Helper()
	in := body{"id": punch.NewID().String(), "employee": employee, "kind": "in"}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) { // poll
		a := post(t, n, tok, in)
		if a.status == http.StatusCreated {
			return
		}
		wantStatus(t, a, http.StatusServiceUnavailable, "suspended")
		if time.Now().After(deadline) {
			t.Fatalf("%s does not learn that the company was resumed", n.Name)
		}
	}
}

// wantRows holds that each punch has one row with its own time.
func (w *world) wantRows(t *testing.T, company string, made []client.Request) {
	t.Helper()
	for _, r := range made {
		if n := w.count(t, `SELECT count(*) FROM punches WHERE company_id = $1 AND employee_id = $2 AND punch_id = $3 AND punched_at = $4`,
			company, r.Employee, r.ID.String(), punch.Microseconds(r.At)); n != 1 {
			t.Errorf("punch %s of %s at %s has %d rows, want 1", r.ID, r.Employee, r.At, n)
		}
	}
}

// TestPunchesAboveALimitArriveLater sends more punches at once than a company and an employee may send.
func TestPunchesAboveALimitArriveLater(t *testing.T) {
	onOneEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "ap-south")
		near, far := w.cluster.Region("ap-south")[0], w.cluster.Region("us-east")[0]
		w.mustSwitch(t, "limit", company, "5")
		many := make([]body, 20)
		for i := range many {
			many[i] = body{"id": punch.NewID().String(), "employee": fmt.Sprint("e", i), "kind": "in"}
		}
		for _, n := range []*cluster.Node{near, far} { // each node has its own limit
			if created, replayed, limited := batch(t, n, token(t, company), many); created+replayed != 5 || limited != 15 {
				t.Errorf("%s: of 20 punches at once %d are recorded, %d replayed and %d limited, want 5 of a second", n.Name, created, replayed, limited)
			}
		}
		w.mustSwitch(t, "limit", company, "none")
		// The first batch is counted under the limit that the node knows. Its punches miss the fence, and the node reads the
		// company again.
		eventually(t, "all punches pass without the limit", func() bool {
			created, replayed, limited := batch(t, near, token(t, company), many)
			return limited == 0 && created+replayed == 20
		})

		// A stuck key makes a new punch each time.
		stuck, stored := make([]body, 20), make([]body, 20)
		for i := range stuck {
			stuck[i] = body{"id": punch.NewID().String(), "employee": "anna", "kind": "in"}
			stored[i] = body{"id": punch.IDAt(time.Now().Add(-time.Duration(i+2) * time.Minute)).String(), "employee": "anna", "kind": "in"}
		}
		if created, _, limited := batch(t, near, token(t, company), stuck); created != 5 || limited != 15 {
			t.Errorf("of 20 punches of one employee at once %d are recorded and %d limited, want 5 recorded", created, limited)
		}
		if created, _, limited := batch(t, near, token(t, company), stored); created != 20 || limited != 0 {
			t.Errorf("of 20 stored punches of one employee %d are recorded and %d limited, want all recorded", created, limited)
		}
		// The reference client waits as long as it is told, so every punch arrives.
		device := w.device(t, company, "ap-south")
		ctx, cancel := context.WithTimeout(testContext(t), time.Minute)
		defer cancel()
		for i := range 7 {
			r := client.Request{ID: punch.NewID(), Employee: "ben", Kind: punch.In}
			if _, err := device.Punch(ctx, r); err != nil {
				t.Errorf("punch %d of ben: %v, want a receipt", i, err)
			}
		}
	})
}

// batch sends punches in one request and counts the answers.
func batch(t *testing.T, n *cluster.Node, token string, punches []body) (created, replayed, limited int) {
	t.Helper()
	a := send(t, http.MethodPost, n.PublicURL+"/v1/punches/batch", token, body{"punches": punches})
	wantStatus(t, a, http.StatusOK, "")
	for _, r := range a.body["results"].([]any) {
		result := r.(map[string]any)
		switch result["status"] {
		case float64(http.StatusCreated):
			created++
		case float64(http.StatusOK):
			replayed++
		case float64(http.StatusTooManyRequests):
			limited++
			problem := result["problem"].(map[string]any)
			if after, _ := problem["retry_after"].(float64); problem["code"] != "rate_limited" || problem["final"] != false || after < 1 {
				t.Errorf("a punch above the limit: %v, want rate_limited, not final, with retry_after", problem)
			}
		default:
			t.Errorf("a result is %v", result)
		}
	}
	return created, replayed, limited
}
