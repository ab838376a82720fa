package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The database engines that a cluster can run.
const (
	Cockroach = "cockroach" // one process per region
	Postgres  = "postgres"  // one process for all regions
)

// TestEngineVariable names the environment variable that chooses the engine of tests: a name, or "all".
const TestEngineVariable = "PUNCHCLOCK_LAB_TEST_ENGINE"

// oldestPostgres is the first major version that the schema is tested on.
const oldestPostgres = 15

// Engine is a database engine found on this machine.
type Engine struct {
	Name    string // Cockroach or Postgres
	Path    string // the cockroach executable, or the folder of PostgreSQL's executables
	Version string // in the engine's own form, such as v26.1.0 or 15.18
}

// Engines returns every engine found on this machine, the preferred one first.
func Engines() []Engine {
	var found []Engine
	for _, find := range []func() (Engine, error){findCockroach, findPostgres} {
		if e, err := find(); err == nil {
			found = append(found, e)
		}
	}
	return found
}

// TestEngines returns the engines for tests that start whole clusters: the preferred engine of this machine, or the
// choice of TestEngineVariable. Packages that test statements run on every engine instead. Whole clusters on two engines
// would double the time of the tests for parts that never see the database.
func TestEngines() []Engine {
	engines, want := Engines(), os.Getenv(TestEngineVariable)
	switch want {
	case "all":
		return engines
	case "":
		return engines[:min(1, len(engines))]
	default:
		return slices.DeleteFunc(engines, func(e Engine) bool { return e.Name != want })
	}
}

// FindEngine returns the engine of a name. Without a name it prefers CockroachDB to PostgreSQL. The error says what to
// install. An executable in COCKROACH_BINARY that does not run is an error, because the user asked for it.
func FindEngine(prefer string) (Engine, error) {
	switch prefer {
	case Cockroach:
		return findCockroach()
	case Postgres:
		return findPostgres()
	case "":
		e, errC := findCockroach()
		if errC == nil || os.Getenv("COCKROACH_BINARY") != "" {
			return e, errC
		}
		e, errP := findPostgres()
		if errP == nil {
			return e, nil
		}
		return Engine{}, errors.Join(errC, errP)
	default:
		return Engine{}, fmt.Errorf("cluster: no engine has the name %q; use %q or %q", prefer, Cockroach, Postgres)
	}
}

func findCockroach() (Engine, error) {
	path := os.Getenv("COCKROACH_BINARY")
	if path == "" {
		var err error
		if path, err = exec.LookPath("cockroach"); err != nil {
			return Engine{}, errors.New("no CockroachDB: put cockroach on the PATH or name it in COCKROACH_BINARY")
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return Engine{}, fmt.Errorf("COCKROACH_BINARY: %w", err)
	}
	version, err := cockroachVersion(path)
	if err != nil {
		return Engine{}, fmt.Errorf("CockroachDB at %s does not run: %w", path, err)
	}
	return Engine{Name: Cockroach, Path: path, Version: version}, nil
}

// cockroachVersions holds the version that each executable has told, by its path, size and time of change.
var cockroachVersions sync.Map

// cockroachVersion asks an executable for its version once. The answer takes 0.2 s, and tests ask before each test.
func cockroachVersion(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	key := fmt.Sprint(path, " ", info.Size(), " ", info.ModTime().UnixNano())
	if version, ok := cockroachVersions.Load(key); ok {
		return version.(string), nil //nolint:forcetypeassert // only the line below stores
	}
	version, err := output(path, "version", "--build-tag")
	if err == nil {
		cockroachVersions.Store(key, version)
	}
	return version, err
}

// postgresFolders are the folders of PostgreSQL's servers that are not on the PATH: Debian, Red Hat, Homebrew.
var postgresFolders = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
}

func findPostgres() (Engine, error) {
	var folders []string
	if path, err := exec.LookPath("postgres"); err == nil {
		// The PATH may have a link to the server alone.
		if path, err = filepath.EvalSymlinks(path); err == nil {
			folders = append(folders, filepath.Dir(path))
		}
	}
	for _, pattern := range postgresFolders {
		matches, _ := filepath.Glob(pattern) // fails on a bad pattern only
		folders = append(folders, matches...)
	}
	var found []Engine
	for _, dir := range folders {
		if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
			continue // a package of the client alone
		}
		said, err := output(filepath.Join(dir, "postgres"), "--version")
		if version := postgresVersion.FindString(said); err == nil && major(version) >= oldestPostgres {
			found = append(found, Engine{Name: Postgres, Path: dir, Version: version})
		}
	}
	if len(found) == 0 {
		return Engine{}, fmt.Errorf("no PostgreSQL %d or newer: install it (Debian and Ubuntu: apt-get install postgresql)", oldestPostgres)
	}
	return slices.MaxFunc(found, func(a, b Engine) int { return cmp.Compare(major(a.Version), major(b.Version)) }), nil
}

var postgresVersion = regexp.MustCompile(`[0-9]+(\.[0-9]+)?`)

// major returns the number before the first dot, or 0.
func major(version string) int {
	digits, _, _ := strings.Cut(version, ".")
	n, _ := strconv.Atoi(digits) // 0 is older than every accepted version
	return n
}

// output runs a program and returns what it prints.
func output(path string, args ...string) (string, error) {
	// A cold disk takes seconds to read a binary of 200 MB.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	b, err := exec.CommandContext(ctx, path, args...).Output()
	return strings.TrimSpace(string(b)), err
}
