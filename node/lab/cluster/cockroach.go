package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// InitSQLVariable names the environment variable with SQL statements that are
// run once on a new CockroachDB cluster, after its init and before the database
// is made: for binaries that need cluster settings of their own. It is for this
// local cluster only; no deployment reads it.
const InitSQLVariable = "PUNCHCLOCK_LAB_COCKROACH_INIT_SQL"

// cockroachMemory is given to each of cache and SQL, per process: the default,
// a quarter of the machine's memory each, times three is more than there is.
const cockroachMemory = "128MiB"

// cockroachHosts says how to run one process per region.
func (d *Database) cockroachHosts() ([]*host, error) {
	var hosts []*host
	var join []string
	for i, region := range d.cfg.Regions {
		addrs, err := d.ws.pick(d.ws.host(i+1), 1)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, &host{region: region, addr: addrs[0]})
		join = append(join, addrs[0])
	}
	for i, h := range hosts {
		var err error
		if h.command, err = d.cockroachCommand(h, d.ws.certs.Database(), join); err != nil {
			return nil, err
		}
		h.command.region = i + 1
	}
	return hosts, nil
}

// cockroachCommand starts the process of a region on an empty store.
func (d *Database) cockroachCommand(h *host, certificates string, join []string) (command, error) {
	store := d.ws.cockroachStore(h.region)
	// An attempt whose port was taken leaves a store behind.
	if err := errors.Join(os.RemoveAll(store), os.Mkdir(store, 0o755)); err != nil {
		return command{}, fmt.Errorf("cockroach: %w", err)
	}
	return command{
		name:       "cockroach " + h.region,
		path:       d.engine.Path,
		args:       d.ws.cockroachArgs(certificates, store, h, join),
		env:        cockroachEnvironment(),
		dir:        store, // where a crash leaves its core
		log:        d.ws.logFile(serverName(h.region)),
		lastSignal: syscall.SIGKILL,
	}, nil
}

// cockroachArgs start the process of a region.
func (w *workspace) cockroachArgs(certificates, store string, h *host, join []string) []string {
	addr, _, _ := strings.Cut(h.addr, ":") // we made it
	return []string{
		"start", "--certs-dir=" + certificates, "--listen-addr=" + h.addr,
		"--http-addr=" + addr + ":0",                              // told to nobody, so any will do
		"--join=" + strings.Join(join, ","), w.cockroachCluster(), // so that it takes in no stranger
		"--locality=region=" + h.region + ",zone=a",
		"--store=path=" + store + ",ballast-size=0", // else each sets a GiB aside for the day the disk is full
		"--cache=" + cockroachMemory, "--max-sql-memory=" + cockroachMemory,
		"--log={file-defaults: {dir: " + filepath.Join(w.dir, "logs", "cockroach-"+h.region) + "}, sinks: {stderr: {filter: ERROR}}}",
	}
}

func (w *workspace) cockroachCluster() string { return "--cluster-name=" + w.deployment() }

func (w *workspace) cockroachStore(region string) string {
	return filepath.Join(w.dir, "data", "cockroach-"+region)
}

// cockroachEnvironment is the environment of this process, without the address of another cluster. It comes after the
// defaults of the lab, which it may override.
func cockroachEnvironment() []string {
	return append([]string{
		"COCKROACH_SKIP_ENABLING_DIAGNOSTIC_REPORTING=true", // the lab reports nothing to the vendor
		// On a busy machine a replica may fail to be made. CockroachDB tries again after it has scanned all ranges,
		// with this pause between them. With the default of 1 s a start waits minutes for its last range. No failover
		// depends on it.
		"COCKROACH_SCAN_MAX_IDLE_TIME=50ms",
	}, inheritedEnv("COCKROACH_URL=", "COCKROACH_HOST=")...)
}

// initCockroach makes one cluster of processes that wait to be told.
func (d *Database) initCockroach(ctx context.Context) error {
	first := d.hosts[0]
	c := command{
		name:       "cockroach init",
		path:       d.engine.Path,
		args:       []string{"init", "--certs-dir=" + d.ws.certs.Database(), "--host=" + first.addr, d.ws.cockroachCluster()},
		env:        cockroachEnvironment(),
		log:        d.ws.logFile("cockroach-init"),
		lastSignal: syscall.SIGKILL,
	}
	return poll(ctx, d.processOf(first), func(ctx context.Context) error {
		err := d.ws.spawner.run(ctx, c)
		if err != nil && d.ping(ctx, first) == nil {
			return nil // an earlier try was understood although its answer was lost
		}
		return err
	})
}

// prepareCockroach waits until all regions are known, which is later than that
// their processes answer, and applies InitSQLVariable.
func (d *Database) prepareCockroach(ctx context.Context) error {
	conn, err := connect(ctx, d.AdminURL())
	if err != nil {
		return fmt.Errorf("cockroach: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is under way
	if statements := os.Getenv(InitSQLVariable); statements != "" {
		// SET CLUSTER SETTING refuses to share a transaction, which statements
		// that are sent together do by default.
		for _, sql := range []string{"SET enable_implicit_transaction_for_batch_statements = off", statements} {
			if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
				return fmt.Errorf("%s: %w", InitSQLVariable, err)
			}
		}
	}
	return until(ctx, conn, "SELECT count(*) = $1 FROM [SHOW REGIONS FROM CLUSTER]", len(d.cfg.Regions))
}

// WaitReplicated returns when every range has its replicas in as many regions
// as it should: from then on one region may be killed. A new cluster starts
// with all of them in one and takes some 5 s on two idle cores; call it after
// the tables are made. PostgreSQL has nothing to wait for.
func (d *Database) WaitReplicated(ctx context.Context) error {
	if d.Engine != Cockroach {
		return nil
	}
	conn, err := connect(ctx, d.AdminURL())
	if err != nil {
		return fmt.Errorf("cockroach: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is under way
	replicas := min(3, len(d.cfg.Regions)) // a majority of three outlives one
	return until(ctx, conn, "SELECT count(*) = 0 FROM [SHOW CLUSTER RANGES] WHERE COALESCE(array_length(voting_replicas, 1), 0) < $1", replicas)
}

// until asks a question with one boolean answer until it is true.
func until(ctx context.Context, conn *pgx.Conn, question string, args ...any) error {
	for {
		var yes bool
		if err := conn.QueryRow(ctx, question, args...).Scan(&yes); err != nil {
			return fmt.Errorf("cockroach: %s: %w", question, err)
		}
		if yes {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cockroach: not yet: %s: %w", question, ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

// cockroachRegions is the part of CREATE DATABASE that spreads it.
func cockroachRegions(regions []string) string {
	quote := func(name string) string { return pgx.Identifier{name}.Sanitize() }
	clause := " PRIMARY REGION " + quote(regions[0])
	if len(regions) > 1 {
		var others []string
		for _, r := range regions[1:] {
			others = append(others, quote(r))
		}
		clause += " REGIONS " + strings.Join(others, ", ")
	}
	if len(regions) >= 3 { // two cannot outlive the loss of one
		clause += " SURVIVE REGION FAILURE"
	}
	return clause
}
