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

// The tests share one cluster per engine. They repair what they break, and they do not run in parallel.
var shared struct {
	mu      sync.Mutex
	dir     string // of the binaries
	binary  string
	lab     string
	targets map[string]*target // by engine

	broken       sync.Once
	brokenBinary string // see mustBrokenBinary
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(mainFunc(func() int { return testMain(m) })) }

// mainFunc lets goleak look after the clusters have stopped.
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
		if code != 0 && s.environment != nil {
			s.environment.Keep()
			fmt.Fprintln(os.Stderr, "data and logs are kept in", s.environment.Dir())
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
		if shared.binary, err = cluster.Build(testContext(t), shared.dir, "-tags=lab_clock"); err != nil {
			t.Fatal(err)
		}
		if shared.lab, err = cluster.BuildLab(testContext(t), shared.dir); err != nil {
			t.Fatal(err)
		}
	}
	return shared.binary
}

// mustTarget returns the shared cluster of an engine. Every node counts every node as ready.
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
		if err := s.start(testContext(t), setup, needs{proxies: true, collector: true, clock: true}); err != nil {
			t.Fatal(err)
		}
		s.victim = s.state.Regions[0]
		warm(t, s)
	}
	if err := s.whole(testContext(t)); err != nil {
		t.Fatal(err)
	}
	return s
}

// warm punches once through each node for each company. On a busy machine the first punches of a cluster take seconds.
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

// testEngines looks once. Each look runs the engines to learn their versions.
var testEngines = sync.OnceValue(cluster.TestEngines)

func mustEngines(t *testing.T) (names []string) {
	t.Helper()
	for _, e := range testEngines() {
		names = append(names, e.Name)
	}
	if len(names) == 0 {
		t.Fatal("no database engine was found: run scripts/setup")
	}
	return names
}

// mustEngine returns the engine of the shared cluster: CockroachDB if it is on this machine.
func mustEngine(t *testing.T) string {
	t.Helper()
	return mustEngines(t)[0]
}

// mustStateFile writes the state of a running cluster.
func mustStateFile(t *testing.T, s *target) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cluster.json")
	state := s.environment.State()
	if err := state.Write(file); err != nil {
		t.Fatal(err)
	}
	return file
}

// testContext ends long after any step should have ended.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), 6*time.Minute, errors.New("the test takes too long"))
	t.Cleanup(cancel)
	return ctx
}

func newLedgerPath(t *testing.T) string { return filepath.Join(t.TempDir(), "ledger.jsonl") }
