package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/punchclock/punchclock/node/client"
	"github.com/punchclock/punchclock/node/lab/cluster"
	"github.com/punchclock/punchclock/node/punch"
)

// The tests share one cluster per engine. What they break they bring back, and
// they do not run in parallel.
var shared struct {
	mu      sync.Mutex
	dir     string // with the binaries
	binary  string
	lab     string
	targets map[string]*target // by engine
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(mainFunc(func() int { return testMain(m) })) }

// mainFunc lets goleak look once the clusters are stopped.
type mainFunc func() int

func (f mainFunc) Run() int { return f() }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "punchclock-drill-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // the system cleans what is left
	shared.dir, shared.targets = dir, make(map[string]*target)
	code := m.Run()
	for _, s := range shared.targets {
		if code != 0 && s.stage != nil {
			s.stage.Keep()
			fmt.Fprintln(os.Stderr, "data and logs are kept in", s.stage.Dir())
		}
		if err := s.close(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

func mustBinary(t *testing.T) string {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.binary == "" {
		var err error
		if shared.binary, err = cluster.Build(testContext(t), shared.dir); err != nil {
			t.Fatal(err)
		}
		if shared.lab, err = cluster.BuildLab(testContext(t), shared.dir); err != nil {
			t.Fatal(err)
		}
	}
	return shared.binary
}

// mustTarget returns the shared cluster of an engine, whole.
func mustTarget(t *testing.T, engine string) *target {
	t.Helper()
	binary := mustBinary(t)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	s := shared.targets[engine]
	if s == nil {
		s = &target{progress: io.Discard, lab: shared.lab}
		shared.targets[engine] = s
		setup := cluster.Setup{Engine: engine, NodesPerRegion: 2, CompaniesPerRegion: 2, Binary: binary}
		if err := s.start(testContext(t), &setup, needs{proxies: true, collector: true}); err != nil {
			t.Fatal(err)
		}
		s.victim = s.state.Regions[0]
		warm(t, s)
	}
	if err := s.rest(testContext(t)); err != nil {
		t.Fatal(err)
	}
	return s
}

// warm punches once through each node for each company: the first punches of a
// cluster take seconds on a busy machine, and a short drill lasts few.
func warm(t *testing.T, s *target) {
	t.Helper()
	var devices errgroup.Group
	for _, node := range s.state.Nodes {
		for _, company := range s.state.Companies {
			c := mustClient(t, node.PublicURL, company.Token)
			devices.Go(func() error {
				_, err := c.Punch(testContext(t), client.Request{Employee: "warm-" + node.Name, Kind: punch.In})
				return err
			})
		}
	}
	if err := devices.Wait(); err != nil {
		t.Fatal(err)
	}
}

// engines are those on this machine, or the one that is asked for.
func mustEngines(t *testing.T) (names []string) {
	t.Helper()
	for _, e := range cluster.Engines() {
		if want := os.Getenv(cluster.TestEngineVariable); want == "" || want == e.Name {
			names = append(names, e.Name)
		}
	}
	if len(names) == 0 {
		t.Fatal("no database engine was found: run scripts/setup")
	}
	return names
}

// mustEngine is the engine that the shared cluster runs on: CockroachDB where it
// is at hand, with three regions.
func mustEngine(t *testing.T) string {
	t.Helper()
	return mustEngines(t)[0]
}

// mustStateFile tells of a cluster that runs.
func mustStateFile(t *testing.T, s *target) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cluster.json")
	state := s.stage.State()
	if err := state.Write(file); err != nil {
		t.Fatal(err)
	}
	return file
}

// testContext ends after a time that is far more than a step takes.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), 3*time.Minute, errors.New("the test takes too long"))
	t.Cleanup(cancel)
	return ctx
}

func newLedgerPath(t *testing.T) string { return filepath.Join(t.TempDir(), "ledger.jsonl") }
