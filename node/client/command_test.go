package client

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/punchclock/punchclock/node/punch"
)

// counter is a place with an outbox, a token and the command.
type counter struct {
	t           *testing.T
	outbox      string
	token       string
	up, nowhere string // endpoints
}

func mustCounter(t *testing.T) *counter {
	t.Helper()
	dir := t.TempDir()
	c := &counter{t: t, outbox: filepath.Join(dir, "outbox"), token: filepath.Join(dir, "token"), up: mustAPI(t), nowhere: "http://127.0.0.1:1"}
	c.setToken("secret\n")
	return c
}

func (c *counter) setToken(token string) {
	if err := os.WriteFile(c.token, []byte(token), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// run returns the lines that a command prints, after checking its exit status.
func (c *counter) run(cmd Command, status int) (lines []map[string]any) {
	c.t.Helper()
	cmd.TokenFile = c.token
	if cmd.Outbox == "" {
		cmd.Outbox = c.outbox
	}
	if cmd.Wait == 0 {
		cmd.Wait = 200 * time.Millisecond // for endpoints that are not there
	}
	if err := cmd.Validate(); err != nil {
		c.t.Fatalf("%+v: %v", cmd, err)
	}
	var out bytes.Buffer
	err := cmd.Run(background(c.t), &out)
	got := 0
	if exit, ok := errors.AsType[*ExitError](err); ok {
		got = exit.Status
	}
	if got != status || (err == nil) != (status == 0) {
		c.t.Errorf("%+v: exit status %d, want %d: %v\n%s", cmd, got, status, err, &out)
	}
	for text := range strings.Lines(out.String()) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			c.t.Fatalf("%q: %v", text, err)
		}
		lines = append(lines, line)
	}
	return lines
}

// one is run for a command that prints one line.
func (c *counter) one(cmd Command, status int) map[string]any {
	c.t.Helper()
	lines := c.run(cmd, status)
	if len(lines) != 1 {
		c.t.Fatalf("%+v prints %v, want one line", cmd, lines)
	}
	return lines[0]
}

func TestCommandSendsOrKeeps(t *testing.T) {
	c := mustCounter(t)
	anna := Command{Endpoint: []string{c.up}, Wait: time.Minute, Employee: "anna", Kind: "in", Source: "gate-3"}
	if r := c.one(anna, 0); r["employee"] != "anna" || r["recorded_at"] == nil || r["utc_offset"] != "+05:30" || r["company"] != "acme" {
		t.Errorf("the receipt is %v", r)
	}
	// Nobody answers: kept, and sent later.
	anna.Endpoint, anna.Wait = []string{c.nowhere}, 0
	kept := c.one(anna, ExitKept)
	if kept["state"] != "waiting" || kept["problem"] != "unavailable" {
		t.Errorf("kept: %v", kept)
	}
	id := kept["punch"].(map[string]any)["id"]
	if l := c.one(Command{List: true}, 0); l["state"] != "waiting" || l["punch"].(map[string]any)["id"] != id || l["kept_at"] == nil {
		t.Errorf("the list is %v, want %v", l, id)
	}
	c.run(Command{Flush: true, Endpoint: anna.Endpoint}, ExitKept)
	if r := c.one(Command{Flush: true, Endpoint: []string{c.up}, Receipts: true}, 0); r["id"] != id {
		t.Errorf("the flush prints %v, want the receipt of %v", r, id)
	}
	c.run(Command{List: true}, 0)
	if text, err := os.ReadFile(filepath.Join(c.outbox, receiptsFile)); err != nil || !strings.Contains(string(text), id.(string)) {
		t.Errorf("the receipts are %q, %v", text, err)
	}
	// The token does not hold: kept until it does.
	c.setToken("wrong")
	anna.Endpoint = []string{c.up}
	if l := c.one(anna, ExitKept); l["problem"] != "unauthenticated" {
		t.Errorf("a wrong token: %v", l)
	}
	c.setToken("")
	if l := c.one(anna, ExitKept); l["problem"] != "unauthenticated" {
		t.Errorf("no token: %v", l)
	}
	c.setToken("secret")
	// A new punch and the old ones in one go.
	anna.Flush, anna.Wait = true, time.Minute
	if lines := c.run(anna, 0); len(lines) != 3 {
		t.Errorf("three receipts are due, not %v", lines)
	}
}

func TestCommandSetsAsideWhatIsRefused(t *testing.T) {
	c := mustCounter(t)
	id := punch.NewID().String()
	anna := Command{Endpoint: []string{c.up}, Wait: time.Minute, Employee: "anna", Kind: "in", ID: id}
	c.run(anna, 0)
	if r := c.one(anna, 0); r["replayed"] != true {
		t.Errorf("the same again: %v", r)
	}
	anna.Kind = "out"
	l := c.one(anna, ExitRefused)
	if refusal, _ := l["refusal"].(map[string]any); l["state"] != "quarantined" || refusal["code"] != "conflict" {
		t.Errorf("another punch under the id: %v", l)
	}
	c.run(anna, ExitRefused)
	anna.Kind = "auto" // and the outbox holds another one under it
	c.run(anna, ExitFailed)
	l = c.one(Command{Quarantine: true}, 0)
	if refusal, _ := l["refusal"].(map[string]any); l["state"] != "quarantined" || refusal["code"] != "conflict" || l["punch"].(map[string]any)["id"] != id {
		t.Errorf("the quarantine: %v", l)
	}
	c.run(Command{Release: id}, 0)
	if lines := c.run(Command{Quarantine: true}, 0); len(lines) != 0 {
		t.Errorf("what was released is still in quarantine: %v", lines)
	}
	c.run(Command{Flush: true, Endpoint: []string{c.up}, Wait: time.Minute}, ExitRefused)
	if l := c.one(Command{Discard: id}, 0); l["state"] != "discarded" {
		t.Errorf("discarded: %v", l)
	}
	c.run(Command{Discard: id}, ExitFailed)
	c.run(Command{Release: "x"}, ExitFailed)
}

// TestCommandWithoutAnOutbox: a disk that fails must not refuse a punch that
// the service takes.
func TestCommandWithoutAnOutbox(t *testing.T) {
	c := mustCounter(t)
	c.outbox = filepath.Join(c.token, "not-a-folder")
	anna := Command{Endpoint: []string{c.up}, Wait: time.Minute, Employee: "anna", Kind: "in"}
	c.run(anna, 0)
	anna.Endpoint, anna.Wait = []string{c.nowhere}, 0
	if l := c.one(anna, ExitFailed); l["state"] != "lost" {
		t.Errorf("neither sent nor kept: %v", l)
	}
	c.run(Command{List: true}, ExitFailed)
}

func TestCommandPrefersARegion(t *testing.T) {
	var regional string
	urls, arrived := servers(t, func(w http.ResponseWriter, r *http.Request, _ []byte, _ int) {
		writeJSON(w, "application/json", 200, map[string]any{"regions": []any{map[string]any{"name": "eu-west", "state": "ready", "endpoints": []string{regional}}}})
	}, recorded)
	regional = urls[1]
	c := mustCounter(t)
	c.run(Command{Endpoint: urls[:1], Prefer: []string{"eu-west"}, Wait: time.Minute, Employee: "anna", Kind: "in"}, 0)
	if p := path(arrived()); p != "ab" {
		t.Errorf("the requests went to %q, want a for the regions and b for the punch", p)
	}
}

func TestCommandLinesThatAreWrong(t *testing.T) {
	good := Command{Endpoint: []string{"http://a"}, TokenFile: "t", Wait: 1, Employee: "anna", Kind: "in"}
	for field, change := range map[string]func(*Command){
		"--wait":       func(c *Command) { c.Wait = 0 },
		"--employee":   func(c *Command) { c.Employee = "" },
		"--endpoint":   func(c *Command) { c.Endpoint = nil },
		"--token-file": func(c *Command) { c.TokenFile = "" },
		"employee":     func(c *Command) { c.Employee = "a b" },
		"kind":         func(c *Command) { c.Kind = "lunch" },
		"note":         func(c *Command) { c.Note = "\xff" },
		"source":       func(c *Command) { c.Source = "/" },
		"--id":         func(c *Command) { c.ID = "1" },
		"at":           func(c *Command) { c.ID, c.At = punch.NewID().String(), time.Now().Add(-100*time.Hour) },
		"--list":       func(c *Command) { c.List = true },
	} {
		c := good
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		if change(&c); c.Validate() == nil || !strings.Contains(c.Validate().Error(), field) {
			t.Errorf("%s: %v", field, c.Validate())
		}
	}
	days := good
	days.At = time.Now().Add(-100 * time.Hour)
	if r, err := days.request(); err != nil || days.Validate() != nil || r.ID.Time().Sub(days.At).Abs() > time.Millisecond {
		t.Errorf("a punch of days ago: %+v, %v, %v", r, err, days.Validate())
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
