package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/lab/drill/audit"
	"github.com/punchclock/punchclock/node/punch"
)

// edit replaces a text that stands exactly once in a file of the module.
type edit struct{ file, old, new string }

// mustSabotage builds a command with edits that break it. The compiler's overlay applies them: no file changes, the
// product has no switch for them, and no other build can contain them. An edit whose text is gone fails the test, and
// must then follow the product's change.
func mustSabotage(t *testing.T, build func(ctx context.Context, dir string, flags ...string) (string, error), edits ...edit) string {
	t.Helper()
	dir, err := os.MkdirTemp(shared.dir, "sabotage-")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for _, e := range edits {
		path := filepath.Join(root, e.file)
		if _, edited := texts[path]; !edited {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(text)
		}
		if n := strings.Count(texts[path], e.old); n != 1 {
			t.Fatalf("%s has this %d times, want it once:\n%s", e.file, n, e.old)
		}
		texts[path] = strings.Replace(texts[path], e.old, e.new, 1)
	}
	replaced := make(map[string]string)
	for path, text := range texts {
		broken := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(broken, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replaced[path] = broken
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := build(testContext(t), dir, "-overlay="+file)
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// brokenVariable chooses the fault of the node that mustBrokenNode builds.
const brokenVariable = "LAB_BROKEN"

// The faults of a broken node.
const (
	sound     = "" // none
	early     = "early"
	unchecked = "unchecked"
)

// mustBrokenBinary returns a node with two faults, of which an environment variable chooses one. Two builds would take
// twice as long.
func mustBrokenBinary(t *testing.T) string {
	t.Helper()
	shared.broken.Do(func() {
		shared.brokenBinary = mustSabotage(t, cluster.Build,
			edit{"node/crdb/writer.go", `	"errors"`, `	"errors"
	"os"`},
			edit{"node/crdb/writer.go", `	w.resolve(ctx, rows, &refusals)
	outcomes := outcomesOf(items, rows)`, `	if os.Getenv("LAB_BROKEN") == "early" { // acknowledges before it commits
		later := groupRows(items)
		time.AfterFunc(300*time.Millisecond, func() { w.resolve(context.WithoutCancel(ctx), later, &refusals) })
		for _, r := range rows {
			r.stored = &punch.Stored{Receipt: r.punch.Receipt(time.Now().UTC().Truncate(time.Microsecond))}
		}
	} else {
		w.resolve(ctx, rows, &refusals)
	}
	outcomes := outcomesOf(items, rows)`},
			edit{"node/crdb/rows.go", `	"bytes"`, `	"bytes"
	"os"`},
			edit{"node/crdb/rows.go", `			receipt, err := r.stored.Resolve(&items[i].Punch)`, `			claim := items[i].Punch
			if os.Getenv("LAB_BROKEN") == "unchecked" { // takes another punch of the same id for the stored punch
				claim.Kind = r.stored.Kind
			}
			receipt, err := r.stored.Resolve(&claim)`})
	})
	if shared.brokenBinary == "" {
		t.Fatal("the broken node was not built for an earlier test")
	}
	return shared.brokenBinary
}

// mustNode starts one node with a fault on the shared database, for the companies there.
func mustNode(t *testing.T, s *target, fault string) (*cluster.Cluster, *cluster.State) {
	t.Helper()
	region := s.state.Regions[0]
	c, err := cluster.Start(testContext(t), cluster.Config{
		Binary: mustBrokenBinary(t), Regions: []string{region}, NodesPerRegion: 1,
		DatabaseURL: s.state.Database.URL, JWKS: s.environment.Path("jwks.json"),
		ExtraEnv: func(*cluster.Node) []string { return []string{brokenVariable + "=" + fault} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	state := c.State()
	state.Companies = s.state.Companies
	return c, &state
}

// mustAudit closes a ledger and audits it.
func mustAudit(t *testing.T, s *target, ledger *Ledger, path string) audit.Report {
	t.Helper()
	if ledger != nil {
		if err := ledger.Close(); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read
	report, err := audit.Run(testContext(t), file, s.state.Database.URL)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// send records a punch through a node, with the ledger's lines around it.
func send(ctx context.Context, t *testing.T, c *client.Client, ledger *Ledger, claim punch.Request) error {
	t.Helper()
	seq, err := ledger.Intend(time.Now(), "us-east", claim)
	if err != nil {
		t.Error(err)
		return err
	}
	receipt, failure := c.Punch(ctx, client.Request{ID: claim.ID, Employee: claim.Employee, Kind: claim.Kind, Note: claim.Note})
	if err := ledger.Settle(seq, receipt.Receipt, failure); err != nil {
		t.Error(err)
	}
	return failure
}

func mustLedger(t *testing.T) (*Ledger, string) {
	t.Helper()
	path := newLedgerPath(t)
	ledger, err := CreateLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	return ledger, path
}

func mustClient(t *testing.T, endpoint, token string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Endpoints: []string{endpoint}, Token: client.StaticToken(token), TotalTimeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestCatchesAcknowledgingBeforeCommit kills a node that gives receipts first and commits a little later, and a
// correct node.
func TestCatchesAcknowledgingBeforeCommit(t *testing.T) {
	s := mustTarget(t, mustEngine(t))
	for _, build := range []struct {
		name, fault string
		clean       bool
	}{{"broken", early, false}, {"sound", sound, true}} {
		t.Run(build.name, func(t *testing.T) {
			nodes, _ := mustNode(t, s, build.fault)
			node, company := nodes.Nodes()[0], s.state.Companies[0]
			c := mustClient(t, node.PublicURL, company.Token)
			ledger, path := mustLedger(t)
			var devices errgroup.Group
			for i := range 20 { // each its own employee: a node slows one down who punches so often
				devices.Go(func() error {
					request := punch.Request{Company: company.ID, Employee: fmt.Sprint("early-", i), ID: punch.NewID(), Kind: punch.In}
					return send(testContext(t), t, c, ledger, request)
				})
			}
			if err := devices.Wait(); err != nil {
				t.Fatal(err)
			}
			if err := node.Kill(); err != nil {
				t.Fatal(err)
			}
			report := mustAudit(t, s, ledger, path)
			if report.Acknowledged != 20 || report.Clean() != build.clean || (report.Lost > 0) == build.clean {
				t.Fatalf("20 receipts were given and the node was killed; clean: %t, want %t:\n%s", report.Clean(), build.clean, &report)
			}
		})
	}
}

// TestCatchesAMissingConflictCheck uses an id again for another punch, with a node that does not check for conflicts
// and with a correct node.
func TestCatchesAMissingConflictCheck(t *testing.T) {
	s := mustTarget(t, mustEngine(t))
	_, state := mustNode(t, s, unchecked)
	for _, build := range []struct {
		name, endpoint string
		clean          bool
	}{{"broken", state.Nodes[0].PublicURL, false}, {"sound", s.state.Nodes[0].PublicURL, true}} {
		t.Run(build.name, func(t *testing.T) {
			company := s.state.Companies[0]
			c := mustClient(t, build.endpoint, company.Token)
			ledger, path := mustLedger(t)
			claim := punch.Request{Company: company.ID, Employee: "twice", ID: punch.NewID(), Kind: punch.In}
			if err := send(testContext(t), t, c, ledger, claim); err != nil {
				t.Fatal(err)
			}
			claim.Kind = punch.Out
			if err := send(testContext(t), t, c, ledger, claim); (err != nil) != build.clean {
				t.Fatalf("another punch under a used id: %v", err)
			}
			if report := mustAudit(t, s, ledger, path); report.Clean() != build.clean || (report.Altered > 0) == build.clean {
				t.Fatalf("clean: %t, want %t:\n%s", report.Clean(), build.clean, &report)
			}
		})
	}
}

// TestCatchesAFreshIDPerRetry delays answers until devices retry, with devices that make a new id for each retry and
// with correct devices.
func TestCatchesAFreshIDPerRetry(t *testing.T) {
	s := mustTarget(t, mustEngine(t))
	binary := mustSabotage(t, cluster.BuildLab, edit{"node/client/client.go", `			clock.hear(err, c.cfg.MaxClockAhead)
		}
		return err
	})
	if failure != nil {
		failure.ID`, `			clock.hear(err, c.cfg.MaxClockAhead)
			r.ID = punch.NewID()
			body, _ = r.JSON()
		}
		return err
	})
	if failure != nil {
		failure.ID`})
	state := mustStateFile(t, s)
	s.environment.Proxy(s.victim).Delay(250 * time.Millisecond) // a round trip takes longer than a device waits
	defer s.environment.Proxy(s.victim).Delay(0)
	for _, build := range []struct {
		name, binary string
		clean        bool
	}{{"broken", binary, false}, {"sound", s.lab, true}} {
		t.Run(build.name, func(t *testing.T) {
			path := newLedgerPath(t)
			devices := *s.environment // the same devices with another binary
			devices.Binary = build.binary
			if _, err := devices.Run(testContext(t), "load", "--client=reference", "--cluster="+state, "--ledger="+path, "--steady",
				"--rate=30", "--duration=3s", "--attempt-timeout=400ms", "--total-timeout=10s", "--repeats=0"); err != nil {
				t.Log(err) // some punches may be given up
			}
			report := mustAudit(t, s, nil, path)
			if report.Acknowledged == 0 || report.Clean() != build.clean || (report.Unknown > 0) == build.clean {
				t.Fatalf("answers came too late; clean: %t, want %t:\n%s", report.Clean(), build.clean, &report)
			}
		})
	}
}

// stampedeVariable makes TestCatchesANodeWithoutAdmission run. It takes four minutes and a machine without other work, so
// it is no part of `make test`.
const stampedeVariable = "PUNCHCLOCK_LAB_TEST_STAMPEDE"

// TestCatchesANodeWithoutAdmission plays the drill stampede with nodes that never see an overload.
func TestCatchesANodeWithoutAdmission(t *testing.T) {
	if os.Getenv(stampedeVariable) == "" {
		t.Skip("takes four minutes of an idle machine: set " + stampedeVariable)
	}
	mustBinary(t) // also builds the lab
	binary := mustSabotage(t, cluster.Build, edit{"node/node.go", "admission.Config{Target: cfg.Overload.Wait,", "admission.Config{Target: time.Hour,"})
	for _, engine := range mustEngines(t) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		out := t.TempDir()
		cmd := exec.CommandContext(ctx, shared.lab, "drill", "stampede", "--engine="+engine, "--binary="+binary, "--out="+out)
		// The lab refuses variables that it does not know.
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, stampedeVariable+"=") })
		text, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(text), "FAILS  goodput") {
			t.Errorf("%s: %v, and no bound on the goodput failed:\n%s", engine, err, text)
		}
		if !strings.Contains(string(text), "lost                 0") || strings.Contains(string(text), "UNFINISHED") {
			t.Errorf("%s: without admission the audit must still be clean:\n%s", engine, text)
		}
	}
}
