package node_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/punchclock/punchclock/node/punch"
)

func TestEveryEntryAndEveryHome(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		for _, home := range regions {
			company := w.company(t, home)
			tok := token(t, company)
			for _, n := range w.cluster.Nodes() {
				employee := "at-" + n.Name
				a := post(t, n, tok, body{"id": punch.NewID().String(), "employee": employee, "kind": "in"})
				wantStatus(t, a, http.StatusCreated, "")
				if a.body["home_region"] != home || a.body["entry_region"] != n.Region || a.body["zone"] != "Europe/Berlin" {
					t.Errorf("home %s entered at %s: receipt %v", home, n.Region, a.body)
				}
				if a.header.Get("Punchclock-Home-Region") != home || a.header.Get("Punchclock-Node") == "" {
					t.Errorf("headers %v", a.header)
				}
				if got := w.rows(t, company, employee); !slices.Equal(got, []string{home}) {
					t.Errorf("home %s entered at %s: rows in %v", home, n.Region, got)
				}
			}
		}
	})
}

func TestSameIDAtOnceThroughAllNodes(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "eu-west")
		tok := token(t, company)
		in := body{"id": punch.NewID().String(), "employee": "anna", "kind": "in", "at": time.Now().Format(time.RFC3339Nano), "note": "früh"}
		answers := make([]answer, 10)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() { answers[i] = post(t, w.cluster.Nodes()[i%6], tok, in) })
		}
		wg.Wait()
		created := 0
		for _, a := range answers {
			if a.status != http.StatusCreated && a.status != http.StatusOK {
				t.Fatalf("answered %d %v", a.status, a.body)
			}
			if a.status == http.StatusCreated {
				created++
			}
			if a.body["replayed"] != (a.status == http.StatusOK) {
				t.Errorf("status %d says replayed: %v", a.status, a.body["replayed"])
			}
			delete(a.body, "replayed")
			if fmt.Sprint(a.body) != fmt.Sprint(answers[0].body) {
				t.Errorf("receipts differ:\n%v\n%v", answers[0].body, a.body)
			}
		}
		if created != 1 {
			t.Errorf("%d requests were told 201, want 1", created)
		}
		if got := w.rows(t, company, "anna"); len(got) != 1 {
			t.Errorf("%d rows, want 1", len(got))
		}
	})
}

func TestUsedIDWithOtherContent(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "ap-south")
		tok := token(t, company)
		in := body{"id": punch.NewID().String(), "employee": "anna", "kind": "in"}
		wantStatus(t, post(t, w.cluster.Nodes()[0], tok, in), http.StatusCreated, "")
		in["kind"] = "out"
		a := post(t, w.cluster.Nodes()[3], tok, in)
		wantStatus(t, a, http.StatusConflict, "conflict")
		if a.body["final"] != true || a.body["trace_id"] == "" {
			t.Errorf("problem %v", a.body)
		}
		id := punch.NewID().String()
		batch := body{"punches": []body{
			{"id": id, "employee": "ben", "kind": "in"}, {"id": id, "employee": "ben", "kind": "out"}, {"id": id, "employee": "ben", "kind": "in"},
		}}
		a = send(t, http.MethodPost, w.cluster.Nodes()[5].PublicURL+"/v1/punches/batch", tok, batch)
		wantStatus(t, a, http.StatusOK, "")
		statuses := map[float64]int{}
		for _, r := range a.body["results"].([]any) {
			statuses[r.(map[string]any)["status"].(float64)]++
		}
		// Either content may come first. It is recorded once.
		if statuses[201] != 1 || statuses[201]+statuses[200]+statuses[409] != 3 || statuses[409] == 0 {
			t.Errorf("statuses %v", statuses)
		}
		for _, e := range []string{"anna", "ben"} {
			if got := w.rows(t, company, e); len(got) != 1 {
				t.Errorf("%d rows of %s, want 1", len(got), e)
			}
		}
	})
}

func TestRetryWithoutTimeThroughAnotherNode(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "us-east")
		tok := token(t, company)
		in := body{"id": punch.NewID().String(), "employee": "anna", "kind": "auto"}
		first := post(t, w.cluster.Region("eu-west")[0], tok, in)
		wantStatus(t, first, http.StatusCreated, "")
		second := post(t, w.cluster.Region("ap-south")[1], tok, in)
		wantStatus(t, second, http.StatusOK, "")
		if second.body["entry_region"] != "eu-west" || second.body["received_at"] != first.body["received_at"] {
			t.Errorf("the replay is %v, want the original %v", second.body, first.body)
		}
	})
}

func TestACompanyIsKnownAtOnce(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		id := "c-" + punch.NewID().String()
		tok := token(t, id)
		for _, n := range w.cluster.Nodes() {
			a := post(t, n, tok, body{"id": punch.NewID().String(), "employee": "anna", "kind": "in"})
			wantStatus(t, a, http.StatusNotFound, "unknown_company")
		}
		w.createWithBinary(t, id, "ap-south")
		for _, n := range w.cluster.Nodes() {
			a := post(t, n, tok, body{"id": punch.NewID().String(), "employee": "anna", "kind": "in"})
			wantStatus(t, a, http.StatusCreated, "")
		}
	})
}

func TestReadYourWrites(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "us-east")
		tok := token(t, company)
		id := punch.NewID().String()
		near, far := w.cluster.Region("us-east")[0], w.cluster.Region("ap-south")[0]
		wantStatus(t, send(t, http.MethodGet, far.PublicURL+"/v1/employees/anna/punches/"+id, tok, nil), http.StatusNotFound, "not_found")
		wantStatus(t, post(t, near, tok, body{"id": id, "employee": "anna", "kind": "in"}), http.StatusCreated, "")
		found := send(t, http.MethodGet, far.PublicURL+"/v1/employees/anna/punches/"+id, tok, nil)
		wantStatus(t, found, http.StatusOK, "")
		list := send(t, http.MethodGet, far.PublicURL+"/v1/employees/anna/punches", tok, nil)
		wantStatus(t, list, http.StatusOK, "")
		if n := len(list.body["punches"].([]any)); n != 1 {
			t.Errorf("listed %d punches, want 1: %v", n, list.body)
		}
	})
}

func TestTheClock(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "us-east")
		tok := token(t, company)
		n := w.cluster.Region("eu-west")[0]
		ahead := time.Now().Add(10 * time.Minute)
		future := body{"id": punch.IDAt(ahead).String(), "employee": "anna", "kind": "in"}
		a := post(t, n, tok, future)
		wantStatus(t, a, http.StatusUnprocessableEntity, "clock_ahead")
		if a.body["final"] != false || a.header.Get("Retry-After") == "" {
			t.Errorf("clock_ahead must be retried: %v %v", a.body, a.header)
		}
		old := body{"id": punch.IDAt(time.Now().Add(-30 * 24 * time.Hour)).String(), "employee": "anna", "kind": "in"}
		a = post(t, n, tok, old)
		wantStatus(t, a, http.StatusCreated, "")
		if fmt.Sprint(a.body["marks"]) != "[late]" {
			t.Errorf("marks %v, want late", a.body["marks"])
		}
		// A punch that is stored gets its receipt before any refusal, whatever this node's clock says.
		known := punch.IDAt(ahead)
		at := known.Time()
		p := punch.Punch{Request: punch.Request{Company: company, Employee: "ben", ID: known, Kind: punch.In},
			Stamp: punch.Stamp{ReceivedAt: punch.Microseconds(time.Now()), EntryRegion: "us-east"},
			Route: punch.Route{HomeRegion: "us-east", Epoch: 1, Zone: "Europe/Berlin"},
		}
		if out := w.store.Writer("us-east").Write(testContext(t), []punch.Item{{Ctx: testContext(t), Punch: p}}); out[0].Err != nil {
			t.Fatal(out[0].Err)
		}
		a = post(t, n, tok, body{"id": known.String(), "employee": "ben", "kind": "in"})
		wantStatus(t, a, http.StatusOK, "")
		if got := a.body["punched_at"]; got != at.Format("2006-01-02T15:04:05.000000Z") {
			t.Errorf("punched_at %v, want %s", got, at)
		}
	})
}

// TestThousandsWithPoison sends full batches through a node of each region.
func TestThousandsWithPoison(t *testing.T) {
	onEveryEngine(t, func(t *testing.T, w *world) {
		company := w.company(t, "ap-south")
		tok := token(t, company)
		const batches, size = 3, 1000
		good := 0
		for b := range batches {
			items := make([]body, size)
			for i := range items {
				items[i] = body{"id": punch.NewID().String(), "employee": fmt.Sprintf("e%d", b*size+i), "kind": "in"}
				switch i % 100 { // each poison fails in another place
				case 13:
					items[i]["note"] = "nul \x00"
				case 37:
					items[i]["kind"] = "lunch"
				case 77:
					items[i]["surprise"] = true
				default:
					good++
				}
			}
			a := send(t, http.MethodPost, w.cluster.Region(regions[b])[b%2].PublicURL+"/v1/punches/batch", tok, body{"punches": items})
			wantStatus(t, a, http.StatusOK, "")
			for i, r := range a.body["results"].([]any) {
				status := r.(map[string]any)["status"].(float64)
				bad := i%100 == 13 || i%100 == 37 || i%100 == 77
				if bad != (status == 400) || !bad && status != 201 {
					t.Fatalf("item %d of batch %d: %v", i, b, r)
				}
			}
		}
		if n := w.count(t, `SELECT count(*) FROM punches WHERE company_id = $1`, company); n != good {
			t.Fatalf("%d rows, want %d", n, good)
		}
	})
}
