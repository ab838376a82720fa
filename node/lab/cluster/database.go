package cluster

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// DatabaseName is the database that exists after the start.
const DatabaseName = "clock"

// AllRegions means every process of the database in Kill, Freeze, Thaw and Restart. PostgreSQL has one process for all
// regions and accepts nothing else.
const AllRegions = ""

const (
	// startDeadline bounds a start whose ctx has no deadline. CockroachDB takes 3 s on two idle cores, and many times as
	// long on a busy machine.
	startDeadline = 2 * time.Minute
	// startAttempts bounds the retries after another process took a port. One such collision is rare already.
	startAttempts = 3
	// pollEvery is short compared with a start of 0.2 s, and long compared with a refused connection of microseconds.
	pollEvery = 50 * time.Millisecond
	// pingTimeout ends a request to a process that accepts connections and does not answer yet.
	pingTimeout = 5 * time.Second
)

// Database is a database on this machine, run by this process. Its methods also make it fail. They may be called at the
// same time.
type Database struct {
	Engine  string // Cockroach or Postgres
	Version string

	engine Engine
	cfg    Config
	ws     *workspace
	owner  bool // the workspace is not a Cluster's

	mu    sync.Mutex // guards hosts and the process of each
	hosts []*host    // one per region in the order of cfg.Regions, or a single one
}

// host is one process of the database over its restarts.
type host struct {
	region  string // AllRegions for PostgreSQL
	addr    string
	added   bool // by AddServer
	command command
	process *process
	crashes atomic.Int64 // how often the process ended by itself
}

// StartDatabase runs a database without nodes. It uses Dir, Engine, Regions, KeepDir and Log of cfg. ctx bounds the start
// only: the database runs until Stop or until this process ends.
func StartDatabase(ctx context.Context, cfg Config) (*Database, error) {
	cfg, err := cfg.forDatabase()
	if err != nil {
		return nil, err
	}
	engine, err := FindEngine(cfg.Engine)
	if err != nil {
		return nil, err
	}
	ws, err := newWorkspace(cfg)
	if err != nil {
		return nil, err
	}
	d, err := startDatabase(ctx, cfg, engine, ws)
	if err != nil {
		return nil, ws.abandon(ctx, err)
	}
	d.owner = true
	return d, nil
}

func startDatabase(ctx context.Context, cfg Config, engine Engine, ws *workspace) (*Database, error) {
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	d := &Database{Engine: engine.Name, Version: engine.Version, engine: engine, cfg: cfg, ws: ws}
	began := time.Now()
	for attempt := 1; ; attempt++ {
		err := d.bringUp(ctx)
		if err == nil {
			break
		}
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
		_ = d.halt(stop) // err is the failure to report
		cancel()
		if ctx.Err() != nil || attempt == startAttempts || !ws.taken(d.addrs()...) {
			return nil, err
		}
		ws.log.Warn("another process has taken a port of the database; trying others", "attempt", attempt)
	}
	ws.log.Info("database answers", "engine", d.Engine, "version", d.Version, "url", d.URL(cfg.Regions[0]), "took", time.Since(began))
	return d, nil
}

// bringUp makes an empty database on new addresses.
func (d *Database) bringUp(ctx context.Context) (err error) {
	if d.Engine == Cockroach {
		d.hosts, err = d.cockroachHosts()
	} else {
		d.hosts, err = d.postgresHosts(ctx)
	}
	if err != nil {
		return err
	}
	if err := d.spawn(d.hosts); err != nil {
		return err
	}
	if d.Engine == Cockroach {
		if err := d.initCockroach(ctx); err != nil {
			return err
		}
	}
	if err := d.await(ctx, d.hosts); err != nil {
		return err
	}
	if d.Engine == Cockroach {
		if err := d.prepareCockroach(ctx); err != nil {
			return err
		}
	}
	return d.CreateDatabase(ctx, DatabaseName)
}

// URL returns the superuser's connection URL from a region. On CockroachDB the region's own process comes first.
func (d *Database) URL(region string) string { return d.URLOf(DatabaseName, region) }

// URLOf is URL for another database than DatabaseName.
func (d *Database) URLOf(database, region string) string {
	return d.url(d.superuser(), database, d.from(region))
}

// URLAs is URLOf for another user, such as a role of node/crdb.
func (d *Database) URLAs(user, database, region string) string {
	return d.url(user, database, d.from(region))
}

// from lists the addresses in the order in which a region tries them.
func (d *Database) from(region string) (addrs []string) {
	for _, h := range d.near(region) {
		addrs = append(addrs, h.addr)
	}
	return addrs
}

// near lists a region's own process before those of the other regions. A process that was added is listed for its own
// region alone: it may go again, and the other regions' URLs stay the same.
func (d *Database) near(region string) []*host {
	var own, others []*host
	for _, h := range d.all() {
		switch {
		case h.region == region:
			own = append(own, h)
		case !h.added:
			others = append(others, h)
		}
	}
	return append(own, others...)
}

// AdminURL returns a connection URL to the engine's own database, for statements about the whole server.
func (d *Database) AdminURL() string { return d.url(d.superuser(), d.maintenance(), d.addrs()) }

func (d *Database) url(user, database string, addrs []string) string {
	u := url.URL{Scheme: "postgres", Host: strings.Join(addrs, ","), Path: "/" + database}
	d.ws.certs.Secure(&u, user)
	return u.String()
}

func (d *Database) superuser() string {
	if d.Engine == Cockroach {
		return "root"
	}
	return "postgres"
}

// maintenance is the database that every server has from the beginning.
func (d *Database) maintenance() string {
	if d.Engine == Cockroach {
		return "defaultdb"
	}
	return "postgres"
}

// all returns the processes. The slice is never changed in place.
func (d *Database) all() []*host {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hosts
}

func (d *Database) addrs() []string {
	var addrs []string
	for _, h := range d.all() {
		addrs = append(addrs, h.addr)
	}
	return addrs
}

// CreateDatabase makes a further database like DatabaseName: on CockroachDB with all regions.
func (d *Database) CreateDatabase(ctx context.Context, name string) error {
	statement := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize()
	if d.Engine == Cockroach {
		statement += cockroachRegions(d.cfg.Regions)
	}
	if err := execute(ctx, d.AdminURL(), statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// Dir is the folder with data/ and logs/.
func (d *Database) Dir() string { return d.ws.dir }

// Keep lets Stop leave the folder behind, which a failed test needs as evidence.
func (d *Database) Keep() { d.ws.keep.Store(true) }

// await returns once each process answers SQL. Its error has the log of a process that ended.
func (d *Database) await(ctx context.Context, hosts []*host) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range hosts {
		g.Go(func() error {
			return poll(ctx, d.processOf(h), func(ctx context.Context) error { return d.ping(ctx, h) })
		})
	}
	return g.Wait()
}

// poll tries until a try succeeds, the process ends or ctx ends. The context of a try ends with the process.
func poll(ctx context.Context, p *process, try func(context.Context) error) error {
	trying, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.gone, cancel)()
	var reason error
	for {
		err := try(trying)
		if err == nil {
			return nil
		}
		if reason == nil || trying.Err() == nil { // otherwise it only says that its context has ended
			reason = err
		}
		select {
		case <-p.gone.Done():
			return p.failure(fmt.Errorf("ended before it was ready: %w", p.ending()))
		case <-ctx.Done():
			return p.failure(fmt.Errorf("not ready in time: %w: %w", ctx.Err(), reason))
		case <-time.After(pollEvery):
		}
	}
}

// Pause waits for a time and reports whether ctx is still valid.
func Pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// ping asks one process for an answer.
func (d *Database) ping(ctx context.Context, h *host) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	return execute(ctx, d.url(d.superuser(), d.maintenance(), []string{h.addr}), "SELECT 1")
}

// execute runs statements, separated by semicolons, on a connection of its own.
func execute(ctx context.Context, url, statements string) error {
	conn, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // the results are read
	_, err = conn.PgConn().Exec(ctx, statements).ReadAll()
	return err
}

// query asks a question with one answer, on a connection of its own.
func query(ctx context.Context, url, question string, answer any, args ...any) error {
	conn, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // the answer is read
	return conn.QueryRow(ctx, question, args...).Scan(answer)
}

func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.ConnectTimeout = pingTimeout // for each address
	return pgx.ConnectConfig(ctx, cfg)
}

// inheritedEnv is the environment of this process without the variables that begin with the prefixes.
func inheritedEnv(without ...string) []string {
	return slices.DeleteFunc(os.Environ(), func(setting string) bool {
		return slices.ContainsFunc(without, func(prefix string) bool { return strings.HasPrefix(setting, prefix) })
	})
}
