package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/client/clienttest"
	"github.com/punchclock/punchclock/node/punch"
)

// terminal is a device with an outbox, a token and `punchclock punch`.
type terminal struct {
	t       *testing.T
	outbox  string
	token   string
	service *clienttest.Service
	up      []string // endpoints of two nodes
	down    []string // an endpoint without a node
}

func mustTerminal(t *testing.T) *terminal {
	t.Helper()
	dir := t.TempDir()
	d := &terminal{
		t: t, outbox: filepath.Join(dir, "outbox"), token: filepath.Join(dir, "token"),
		service: clienttest.NewService(), down: []string{"http://127.0.0.1:1"},
	}
	for _, node := range []string{"us-east-n1", "us-east-n2"} {
		d.up = append(d.up, d.service.MustServe(t, node, time.Now))
	}
	d.setToken(clienttest.Token + "\n")
	return d
}

func (d *terminal) setToken(token string) {
	if err := os.WriteFile(d.token, []byte(token), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// run checks the exit status of a command and returns its lines.
func (d *terminal) run(cmd punchCommand, status int) (lines []map[string]any) {
	d.t.Helper()
	cmd.TokenFile, cmd.Outbox = d.token, d.outbox
	if cmd.Wait == 0 {
		cmd.Wait = 200 * time.Millisecond // for endpoints without a node
	}
	if err := cmd.Validate(); err != nil {
		d.t.Fatalf("%+v: %v", cmd, err)
	}
	var out bytes.Buffer
	err := cmd.Run(d.t.Context(), &out)
	got := 0
	if exit, ok := errors.AsType[*exitError](err); ok {
		got = exit.status
	}
	if got != status || (err == nil) != (status == 0) {
		d.t.Errorf("%+v: exit status %d, want %d: %v\n%s", cmd, got, status, err, &out)
	}
	for text := range strings.Lines(out.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			d.t.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines
}

// one is run for a command that prints one line.
func (d *terminal) one(cmd punchCommand, status int) map[string]any {
	d.t.Helper()
	lines := d.run(cmd, status)
	if len(lines) != 1 {
		d.t.Fatalf("%+v prints %v, want one line", cmd, lines)
	}
	return lines[0]
}

// in returns a member of an object in a line.
func in(line map[string]any, object, member string) any {
	o, _ := line[object].(map[string]any)
	return o[member]
}

func TestPunchSendsOrKeeps(t *testing.T) {
	d := mustTerminal(t)
	anna := punchCommand{Endpoint: d.up, Wait: time.Minute, Employee: "anna", Kind: "in", Source: "gate-3"}
	if r := d.one(anna, 0); r["employee"] != "anna" || r["recorded_at"] == nil || r["utc_offset"] != "+05:30" || r["company"] != "acme" {
		t.Errorf("the receipt is %v", r)
	}
	// Without a node the punch is kept and sent later.
	anna.Endpoint, anna.Wait = d.down, 0
	kept := d.one(anna, exitWaiting)
	if kept["state"] != "waiting" || kept["problem"] != "unavailable" {
		t.Errorf("kept: %v", kept)
	}
	id := in(kept, "punch", "id")
	if l := d.one(punchCommand{List: true}, 0); l["state"] != "waiting" || in(l, "punch", "id") != id || l["kept_at"] == nil {
		t.Errorf("the list is %v, want %v", l, id)
	}
	d.run(punchCommand{Flush: true, Endpoint: d.down}, exitWaiting)
	if r := d.one(punchCommand{Flush: true, Endpoint: d.up, Wait: time.Minute, Receipts: true}, 0); r["id"] != id {
		t.Errorf("the flush prints %v, want the receipt of %v", r, id)
	}
	d.run(punchCommand{List: true}, 0)
	if text, err := os.ReadFile(filepath.Join(d.outbox, "receipts.jsonl")); err != nil || !strings.Contains(string(text), id.(string)) {
		t.Errorf("the receipts are %q, %v", text, err)
	}
	// With an invalid token the punch is kept until the token is valid.
	d.setToken("wrong")
	anna.Endpoint = d.up
	if l := d.one(anna, exitWaiting); l["problem"] != "unauthenticated" {
		t.Errorf("a wrong token: %v", l)
	}
	d.setToken("")
	if l := d.one(anna, exitWaiting); l["problem"] != "unauthenticated" {
		t.Errorf("no token: %v", l)
	}
	d.setToken(clienttest.Token)
	anna.Flush, anna.Wait = true, time.Minute
	if lines := d.run(anna, 0); len(lines) != 3 {
		t.Errorf("one new and two waiting punches need three receipts, not %v", lines)
	}
}

func TestRefusedPunchesGoToTheQuarantine(t *testing.T) {
	d := mustTerminal(t)
	id := punch.NewID().String()
	anna := punchCommand{Endpoint: d.up, Wait: time.Minute, Employee: "anna", Kind: "in", ID: id}
	d.run(anna, 0)
	if r := d.one(anna, 0); r["replayed"] != true {
		t.Errorf("the same again: %v", r)
	}
	anna.Kind = "out"
	if l := d.one(anna, exitQuarantined); l["state"] != "quarantined" || in(l, "refusal", "code") != "conflict" {
		t.Errorf("another punch under the id: %v", l)
	}
	d.run(anna, exitQuarantined)
	anna.Kind = "auto" // the outbox holds another punch under the id as well
	d.run(anna, exitFailed)
	l := d.one(punchCommand{Quarantine: true}, 0)
	if l["state"] != "quarantined" || in(l, "refusal", "code") != "conflict" || in(l, "punch", "id") != id {
		t.Errorf("the quarantine: %v", l)
	}
	d.run(punchCommand{Release: id}, 0)
	if lines := d.run(punchCommand{Quarantine: true}, 0); len(lines) != 0 {
		t.Errorf("a released punch is still in quarantine: %v", lines)
	}
	d.run(punchCommand{Flush: true, Endpoint: d.up, Wait: time.Minute}, exitQuarantined)
	if l := d.one(punchCommand{Discard: id}, 0); l["state"] != "discarded" {
		t.Errorf("discarded: %v", l)
	}
	d.run(punchCommand{Discard: id}, exitFailed)
	d.run(punchCommand{Release: "x"}, exitFailed)
}

// TestATerminalIn2063 shows, corrects and bounds the punches of a device whose clock is years ahead.
func TestATerminalIn2063(t *testing.T) {
	d := mustTerminal(t)
	wrong := punch.IDAt(time.Date(2063, 4, 5, 8, 31, 0, 0, time.UTC)).String()
	anna := punchCommand{Endpoint: d.up, Wait: time.Minute, Employee: "anna", Kind: "in", ID: wrong}
	l := d.one(anna, exitQuarantined)
	if in(l, "refusal", "code") != "clock_ahead" || l["ahead"] == nil {
		t.Errorf("a punch in 2063: %v", l)
	}
	really := time.Now().Add(-26 * time.Hour).Truncate(time.Second)
	l = d.one(punchCommand{Correct: wrong, At: really}, 0)
	if l["state"] != "waiting" || l["corrects"] != wrong || in(l, "punch", "id") == wrong {
		t.Errorf("corrected: %v", l)
	}
	if l = d.one(punchCommand{Quarantine: true}, 0); in(l, "correction", "id") == nil {
		t.Errorf("the evidence: %v", l)
	}
	r := d.one(punchCommand{Flush: true, Endpoint: d.up, Wait: time.Minute}, 0)
	if at, err := time.Parse(time.RFC3339Nano, r["punched_at"].(string)); err != nil || !at.Equal(really) {
		t.Errorf("the receipt: %v, want the time %s", r, really)
	}
	d.run(punchCommand{Correct: wrong, At: really.Add(time.Hour)}, exitFailed)
	d.run(punchCommand{Discard: wrong}, 0)

	// Without a second node the punches wait. A full outbox refuses the next one and does not drop any.
	for range 3 {
		id := punch.IDAt(time.Now().AddDate(37, 0, 0)).String()
		d.run(punchCommand{Endpoint: d.down, Employee: "anna", Kind: "in", ID: id, OutboxMaxItems: 3}, exitWaiting)
	}
	if l := d.one(punchCommand{Endpoint: d.down, Employee: "anna", Kind: "in", OutboxMaxItems: 3}, exitFailed); l["state"] != "lost" {
		t.Errorf("a fourth punch in an outbox of three: %v", l)
	}
	lines := d.run(punchCommand{List: true}, 0)
	if len(lines) != 3 || lines[0]["ahead"] == nil {
		t.Fatalf("the list is %v, want three punches that are ahead", lines)
	}
	d.run(punchCommand{Discard: in(lines[0], "punch", "id").(string)}, 0)
}

// TestPunchWithoutAnOutbox has a disk that fails. It must not refuse a punch that the service records.
func TestPunchWithoutAnOutbox(t *testing.T) {
	d := mustTerminal(t)
	d.outbox = filepath.Join(d.token, "not-a-folder")
	anna := punchCommand{Endpoint: d.up, Wait: time.Minute, Employee: "anna", Kind: "in"}
	d.run(anna, 0)
	anna.Endpoint, anna.Wait = d.down, 0
	if l := d.one(anna, exitFailed); l["state"] != "lost" {
		t.Errorf("neither sent nor kept: %v", l)
	}
	d.run(punchCommand{List: true}, exitFailed)
}

func TestPunchPrefersARegion(t *testing.T) {
	d := mustTerminal(t)
	punches := new(atomic.Int32)
	api := d.service.MustHandler(t, "eu-west-n1", time.Now)
	preferred := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		punches.Add(1)
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(preferred.Close)
	named := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/regions" {
			t.Errorf("%s came to the endpoint of the command line", r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.MarshalWrite(w, map[string]any{"regions": []any{
			map[string]any{"name": "eu-west", "state": "ready", "endpoints": []string{preferred.URL}},
		}})
	}))
	t.Cleanup(named.Close)
	d.run(punchCommand{Endpoint: []string{named.URL}, Prefer: []string{"eu-west"}, Wait: time.Minute, Employee: "anna", Kind: "in"}, 0)
	if punches.Load() != 1 {
		t.Errorf("%d requests came to the preferred region, want 1", punches.Load())
	}
}

func TestInvalidCommandLines(t *testing.T) {
	good := punchCommand{Endpoint: []string{"http://a"}, TokenFile: "t", Wait: 1, Employee: "anna", Kind: "in"}
	for field, change := range map[string]func(*punchCommand){
		"--wait":       func(c *punchCommand) { c.Wait = 0 },
		"--outbox-max": func(c *punchCommand) { c.OutboxMaxItems = -1 },
		"--employee":   func(c *punchCommand) { c.Employee = "" },
		"--endpoint":   func(c *punchCommand) { c.Endpoint = nil },
		"--token-file": func(c *punchCommand) { c.TokenFile = "" },
		"employee":     func(c *punchCommand) { c.Employee = "a b" },
		"kind":         func(c *punchCommand) { c.Kind = "lunch" },
		"note":         func(c *punchCommand) { c.Note = "\xff" },
		"source":       func(c *punchCommand) { c.Source = "/" },
		"--id":         func(c *punchCommand) { c.ID = "1" },
		"at":           func(c *punchCommand) { c.ID, c.At = punch.NewID().String(), time.Now().Add(-100*time.Hour) },
		"--list":       func(c *punchCommand) { c.List = true },
		"--correct":    func(c *punchCommand) { c.Employee, c.Correct = "", punch.NewID().String() },
	} {
		c := good
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		if change(&c); c.Validate() == nil || !strings.Contains(c.Validate().Error(), field) {
			t.Errorf("%s: %v", field, c.Validate())
		}
	}
	old := good
	old.At = time.Now().Add(-100 * time.Hour)
	if r, err := old.request(); err != nil || old.Validate() != nil || r.ID.Time().Sub(old.At).Abs() > time.Millisecond {
		t.Errorf("a punch of 100 hours ago: %+v, %v, %v", r, err, old.Validate())
	}
}

func TestCompanyOfAToken(t *testing.T) {
	encode := base64.RawURLEncoding.EncodeToString
	token := func(payload string) string { return "h." + encode([]byte(payload)) + ".s" }
	for text, want := range map[string]string{
		token(`{"company":"acme","sub":"gate"}`): "acme",
		token(`{"company":7}`):                   "",
		token(`{"company":"a/b"}`):               "",
		token(`{}`):                              "",
		"h.%.s":                                  "",
		"secret":                                 "",
		"":                                       "",
	} {
		if got := companyOf(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
